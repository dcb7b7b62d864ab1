//! libuv's part: watching the loop's file descriptor from Node's own event loop.
//!
//! Node exports libuv's functions, but hosts that are not plain Node may lack some. They are looked
//! up at run time, so that the lack of one is an error with its name and not a failure to link.
//!
//! Does not know: what is done when the descriptor is readable.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute_copy;
use core::ptr::{self, NonNull};
use std::alloc::{Layout, alloc_zeroed, dealloc};

use napi::sys::{napi_env, napi_status};

/// libuv's `UV_POLL` of `uv_handle_type`; the numbers are part of libuv 1's ABI.
const UV_POLL: c_int = 8;
/// libuv's `UV_READABLE` of `uv_poll_event`.
const UV_READABLE: c_int = 1;
/// libuv aligns its handles like pointers; this is what malloc gives.
const ALIGNMENT: usize = 16;

/// A libuv handle: its data comes first, and only libuv knows what follows.
#[repr(C)]
pub(crate) struct Handle {
    data: *mut c_void,
}

type OnPoll = unsafe extern "C" fn(*mut Handle, c_int, c_int);
type OnClose = unsafe extern "C" fn(*mut Handle);

/// The functions of libuv in use.
struct Functions {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    poll_init: unsafe extern "C" fn(*mut c_void, *mut Handle, c_int) -> c_int,
    poll_start: unsafe extern "C" fn(*mut Handle, c_int, OnPoll) -> c_int,
    poll_stop: unsafe extern "C" fn(*mut Handle) -> c_int,
    close: unsafe extern "C" fn(*mut Handle, OnClose),
    keep_alive: unsafe extern "C" fn(*mut Handle),
    let_go: unsafe extern "C" fn(*mut Handle),
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
}

/// Looks a function up that the host program exports.
///
/// # Safety
/// `F` is the type of a pointer to the function of that name.
unsafe fn find<F: Copy>(name: &'static CStr) -> Result<F, String> {
    // SAFETY: the name ends with NUL, and the pseudo-handle is always valid.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if symbol.is_null() {
        return Err(format!(
            "wsabi needs the function {} of libuv and Node-API, which this runtime does not export; expected Node.js 20 or later",
            name.to_string_lossy()
        ));
    }
    // SAFETY: the symbol is not null, and the caller promises that it is what `F` points at.
    Ok(unsafe { transmute_copy::<*mut c_void, F>(&symbol) })
}

impl Functions {
    fn find() -> Result<Self, String> {
        // SAFETY: the types are those of libuv 1's header.
        unsafe {
            Ok(Self {
                handle_size: find(c"uv_handle_size")?,
                poll_init: find(c"uv_poll_init")?,
                poll_start: find(c"uv_poll_start")?,
                poll_stop: find(c"uv_poll_stop")?,
                close: find(c"uv_close")?,
                keep_alive: find(c"uv_ref")?,
                let_go: find(c"uv_unref")?,
                strerror: find(c"uv_strerror")?,
            })
        }
    }
}

/// Watches a file descriptor.
pub(crate) struct Watch {
    functions: Functions,
    handle: NonNull<Handle>,
    layout: Layout,
    /// Called once the handle is closed and freed.
    closed: Option<Box<dyn FnOnce()>>,
    readable: Box<dyn Fn(Result<(), String>)>,
}

/// Checks that everything is there which [`Watch::start`] needs.
pub(crate) fn check() -> Result<(), String> {
    Functions::find()?;
    uv_loop_finder().map(drop)
}

type FindLoop = unsafe extern "C" fn(napi_env, *mut *mut c_void) -> napi_status;

fn uv_loop_finder() -> Result<FindLoop, String> {
    // SAFETY: the type is that of Node-API's header.
    unsafe { find(c"napi_get_uv_event_loop") }
}

impl Watch {
    /// Calls `readable` whenever `fd` is, from the event loop of `env`, without keeping it alive.
    pub(crate) fn start(
        env: napi_env,
        fd: c_int,
        readable: Box<dyn Fn(Result<(), String>)>,
    ) -> Result<Box<Self>, String> {
        let functions = Functions::find()?;
        let mut uv_loop = ptr::null_mut();
        // SAFETY: the environment is the one that is calling.
        if unsafe { uv_loop_finder()?(env, &raw mut uv_loop) } != 0 {
            return Err("this environment has no libuv loop".to_owned());
        }
        // SAFETY: no preconditions.
        let size = unsafe { (functions.handle_size)(UV_POLL) };
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT)
            .map_err(|_| format!("libuv says that a handle has {size} bytes"))?;
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let handle = NonNull::new(memory.cast()).ok_or("no memory for a libuv handle")?;
        // SAFETY: the handle has room for a `uv_poll_t`, and the loop is the environment's.
        let status = unsafe { (functions.poll_init)(uv_loop, handle.as_ptr(), fd) };
        if status != 0 {
            // SAFETY: the memory came from `alloc_zeroed`; libuv does not know it when this fails.
            unsafe { dealloc(handle.as_ptr().cast(), layout) };
            return Err(describe(&functions, status));
        }
        let mut watch = Box::new(Self {
            functions,
            handle,
            layout,
            closed: None,
            readable,
        });
        let data: *mut Self = &raw mut *watch;
        // SAFETY: the handle is initialised, and `close` keeps `watch` until libuv has let go of it.
        let status = unsafe {
            (*handle.as_ptr()).data = data.cast();
            (watch.functions.let_go)(handle.as_ptr());
            (watch.functions.poll_start)(handle.as_ptr(), UV_READABLE, on_poll)
        };
        if status != 0 {
            let message = describe(&watch.functions, status);
            watch.close(Box::new(|| ()));
            return Err(message);
        }
        Ok(watch)
    }

    /// Whether the descriptor keeps Node's loop alive.
    pub(crate) fn keep_alive(&self, on: bool) {
        let functions = &self.functions;
        let set = if on {
            functions.keep_alive
        } else {
            functions.let_go
        };
        // SAFETY: the handle is initialised and not closed: `close` takes the watch.
        unsafe { set(self.handle.as_ptr()) }
    }

    /// Stops to watch, and calls `closed` when libuv has let go of the handle.
    pub(crate) fn close(mut self: Box<Self>, closed: Box<dyn FnOnce()>) {
        self.closed = Some(closed);
        let (stop, close, handle) = (
            self.functions.poll_stop,
            self.functions.close,
            self.handle.as_ptr(),
        );
        // The handle's data points at it; `on_closed` takes it back.
        let _ = Box::into_raw(self);
        // SAFETY: the handle is initialised and closed once, because this took the watch.
        unsafe {
            stop(handle);
            close(handle, on_closed);
        }
    }
}

fn describe(functions: &Functions, status: c_int) -> String {
    // SAFETY: libuv answers any number with a text that lives for ever or, for an unknown one,
    // with one that is leaked.
    let text = unsafe { CStr::from_ptr((functions.strerror)(status)) };
    format!(
        "libuv cannot watch the loop's descriptor: {}",
        text.to_string_lossy()
    )
}

/// # Safety
/// libuv calls it for a handle that `start` has made.
unsafe extern "C" fn on_poll(handle: *mut Handle, status: c_int, _: c_int) {
    // SAFETY: `start` set the data, and libuv does not call for a handle that is closing.
    let watch = unsafe { &*(*handle).data.cast::<Watch>() };
    (watch.readable)(if status == 0 {
        Ok(())
    } else {
        Err(describe(&watch.functions, status))
    });
}

/// # Safety
/// As [`on_poll`], once, when libuv has let go of the handle.
unsafe extern "C" fn on_closed(handle: *mut Handle) {
    // SAFETY: `close` gave the box up to this call, which comes once.
    let mut watch = unsafe { Box::from_raw((*handle).data.cast::<Watch>()) };
    // SAFETY: the memory came from `alloc_zeroed` with this layout, and libuv is done with it.
    unsafe { dealloc(handle.cast(), watch.layout) };
    if let Some(closed) = watch.closed.take() {
        closed();
    }
}
