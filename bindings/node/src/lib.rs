//! The native half of wsabi for Node.js: one loop for each environment, driven by libuv.
//!
//! JavaScript's half, in `lib`, has the classes; this one has functions and numbers.
//!
//! Does not know: the surface of `ws`.

mod batch;
mod commands;
mod driver;
mod host;
mod js;
mod lending;
#[allow(unreachable_pub, reason = "napi's macros make public items of structs")]
mod options;
mod prepared;
mod uv;

use core::ffi::c_void;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use napi::bindgen_prelude::{Env, JsValue as _, Object};
use napi::sys::{self, Status, napi_callback_info, napi_env, napi_value};
use napi_derive::napi;

use crate::host::Host;

/// Checks that this runtime has what the addon needs, and gives the functions that need a host
/// nobody yet: `start` makes it.
#[napi(module_exports)]
pub fn init(exports: Object<'_>, env: Env) -> napi::Result<()> {
    uv::check().map_err(napi::Error::from_reason)?;
    let function = js::function(env.raw(), c"start", start, ptr::null_mut());
    // SAFETY: the values are of the call that loads this addon.
    let status = unsafe {
        sys::napi_set_named_property(env.raw(), exports.raw(), c"start".as_ptr(), function)
    };
    napi::check_status!(status, "cannot export start")
}

/// `start(callbacks, records, connections)`: makes the host of this environment, and gives the commands.
extern "C" fn start(env: napi_env, info: napi_callback_info) -> napi_value {
    let ([callbacks, records, connections], _) = js::arguments(env, info);
    let start = || start_host(env, callbacks, records, connections);
    match catch_unwind(AssertUnwindSafe(start)) {
        Ok(Ok(commands)) => commands,
        Ok(Err(message)) => js::throw(env, &format!("wsabi cannot start: {message}")),
        Err(_) => js::throw(env, "a defect in wsabi was caught"),
    }
}

fn start_host(
    env: napi_env,
    callbacks: napi_value,
    records: napi_value,
    connections: napi_value,
) -> Result<napi_value, String> {
    if host_of(env).is_some() {
        return Err("it has started already".to_owned());
    }
    let host = Host::start(env, callbacks, records, connections)?;
    let data: *mut c_void = Rc::into_raw(host).cast_mut().cast();
    // SAFETY: the reference is given up to the environment, which ends with `drop_host`.
    let status =
        unsafe { sys::napi_set_instance_data(env, data, Some(drop_host), ptr::null_mut()) };
    if status != Status::napi_ok {
        return Err("the environment keeps no data".to_owned());
    }
    let mut commands = ptr::null_mut();
    // SAFETY: the values are of the call of `start`.
    unsafe {
        sys::napi_create_object(env, &raw mut commands);
        for (name, callback) in commands::ALL {
            let function = js::function(env, name, callback, data);
            sys::napi_set_named_property(env, commands, name.as_ptr(), function);
        }
        let report = js::function(env, c"report", commands::report, ptr::null_mut());
        sys::napi_set_named_property(env, commands, c"report".as_ptr(), report);
    }
    Ok(commands)
}

/// The environment ends.
///
/// # Safety
/// `data` is what `start_host` has set, and this is called once.
unsafe extern "C" fn drop_host(_: napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: `start_host` gave this reference up; the environment calls this once.
    drop(unsafe { Rc::from_raw(data.cast_const().cast::<Host>()) });
}

/// The host of an environment, if it has started.
fn host_of<'a>(env: napi_env) -> Option<&'a Host> {
    let mut data = ptr::null_mut();
    // SAFETY: the environment is the one that is calling.
    let status = unsafe { sys::napi_get_instance_data(env, &raw mut data) };
    if status != Status::napi_ok {
        return None;
    }
    // SAFETY: the data is null or what `start_host` has set, which lives until `drop_host`, after
    // which no JavaScript calls.
    unsafe { data.cast_const().cast::<Host>().as_ref() }
}
