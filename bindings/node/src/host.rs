//! One environment's loop: how JavaScript's commands get at it, how its turns call JavaScript, and
//! how it ends with the environment.
//!
//! Everything is of one thread, the environment's, and nothing is of the process: a worker has a
//! host of its own.
//!
//! Does not know: what the commands do, or what the callbacks are about.

use core::cell::{Cell, RefCell, UnsafeCell};
use core::ffi::{CStr, c_void};
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use napi::sys::{self, Status, napi_env, napi_ref, napi_value};
use wsabi::{Bytes, ConnId, Context, Error, ErrorKind, Handler, Loop, Result};

use crate::batch::Batch;
use crate::driver::Driver;
use crate::js::{self, Scope};
use crate::lending::Loans;
use crate::uv::Watch;

/// The functions of JavaScript that a host calls.
#[derive(Clone, Copy)]
pub(crate) enum Callback {
    Allocate,
    Messages,
    Upgrade,
    Opened,
    Closing,
    Failed,
    Closed,
    Refused,
    Stopped,
    Written,
    Drain,
    Flushed,
}

const CALLBACKS: [&CStr; 12] = [
    c"allocate",
    c"messages",
    c"upgrade",
    c"opened",
    c"closing",
    c"failed",
    c"closed",
    c"refused",
    c"stopped",
    c"written",
    c"drain",
    c"flushed",
];

/// The loop of an environment.
pub(crate) struct Host {
    env: napi_env,
    /// What JavaScript gave: its functions, the array of records, and an array that has an object
    /// for each connection, at its index.
    callbacks: Vec<napi_ref>,
    records: napi_ref,
    connections: napi_ref,
    pub(crate) batch: RefCell<Batch>,
    pub(crate) text: RefCell<Vec<u8>>,
    loans: RefCell<Loans>,
    /// The context of the callback that is being made; null outside of callbacks.
    current: Cell<*mut Context>,
    /// Whether a dispatch is under way.
    busy: Cell<bool>,
    /// Whether a command is being carried out.
    commanding: Cell<bool>,
    /// Whether JavaScript cannot be called any more, or a defect was caught.
    ending: Cell<bool>,
    /// Whether JavaScript was told to flush.
    flush_wanted: Cell<bool>,
    /// Whether a send asked to be told when it is written.
    watching_writes: Cell<bool>,
    alive: Cell<bool>,
    watch: Cell<Option<Box<Watch>>>,
    event_loop: UnsafeCell<Option<Loop>>,
}

/// Hears nothing: what an environment that is gone does with the end of its connections.
struct Nobody;

impl Handler for Nobody {}

impl Host {
    /// Makes the loop of `env`, which calls the functions that the object `functions` has, with the
    /// records in the Uint32Array `records`, for what the array `connections` has.
    pub(crate) fn start(
        env: napi_env,
        functions: napi_value,
        records: napi_value,
        connections: napi_value,
    ) -> core::result::Result<Rc<Self>, String> {
        let mut event_loop = Loop::new().map_err(|error| error.to_string())?;
        event_loop
            .defer_writes(true)
            .map_err(|error| error.to_string())?;
        let fd = event_loop
            .fd()
            .ok_or("wsabi's loop has no descriptor on this platform")?;
        let (numbers, len) = js::numbers(env, records).ok_or("records is not a Uint32Array")?;
        let keep = |value| js::keep(env, value).ok_or("no memory for a reference");
        let mut callbacks = Vec::with_capacity(CALLBACKS.len());
        for name in CALLBACKS {
            callbacks.push(keep(js::property(env, functions, name))?);
        }
        let host = Rc::new(Self {
            env,
            callbacks,
            records: keep(records)?,
            connections: keep(connections)?,
            batch: RefCell::new(Batch::new(env, numbers, len)),
            text: RefCell::default(),
            loans: RefCell::default(),
            current: Cell::new(ptr::null_mut()),
            busy: Cell::new(false),
            commanding: Cell::new(false),
            ending: Cell::new(false),
            flush_wanted: Cell::new(false),
            watching_writes: Cell::new(false),
            alive: Cell::new(false),
            watch: Cell::new(None),
            event_loop: UnsafeCell::new(Some(event_loop)),
        });
        let data = Rc::into_raw(Rc::clone(&host)).cast_mut().cast();
        // SAFETY: the environment is the one that is calling; the reference counted above is taken
        // back by `on_cleanup`, which comes once.
        let status = unsafe {
            sys::napi_add_async_cleanup_hook(env, Some(on_cleanup), data, ptr::null_mut())
        };
        if status != Status::napi_ok {
            return Err("the environment takes no cleanup hook".to_owned());
        }
        let weak = Rc::downgrade(&host);
        let readable = Box::new(move |status| {
            if let Some(host) = weak.upgrade() {
                host.on_readable(status);
            }
        });
        host.watch.set(Some(Watch::start(env, fd, readable)?));
        Ok(host)
    }

    pub(crate) const fn env(&self) -> napi_env {
        self.env
    }

    /// Whether JavaScript cannot be called any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Carries out a command, from inside a callback or outside.
    #[inline]
    pub(crate) fn command<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        if self.commanding.replace(true) {
            return Err(Error::new(
                ErrorKind::Panic,
                "a defect was caught earlier; wsabi cannot be used further in this environment",
            ));
        }
        // Stays set if `act` panics.
        let result = self.command_unguarded(act);
        self.commanding.set(false);
        result
    }

    #[inline]
    fn command_unguarded<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        let current = self.current.get();
        if !current.is_null() {
            // SAFETY: `current` is not null only while a callback is being made. It comes from the
            // exclusive reference that the callback's maker holds and does not use meanwhile;
            // `commanding` sees to it that only one command uses it at a time.
            let context = unsafe { &mut *current };
            self.look_after_loans(context);
            return act(context);
        }
        if self.busy.get() || self.ending.get() {
            return Err(Error::new(ErrorKind::Closed, "the environment is ending"));
        }
        // SAFETY: no dispatch is under way, and `commanding` keeps other commands out, so nothing
        // else refers to the loop.
        match unsafe { &mut *self.event_loop.get() } {
            Some(event_loop) => {
                self.look_after_loans(event_loop);
                act(event_loop)
            }
            None => Err(Error::new(ErrorKind::Closed, "the environment is ending")),
        }
    }

    /// Calls JavaScript from inside a dispatch, about a connection or something else; `arguments`
    /// makes the arguments. Tells whether it answered `true`.
    pub(crate) fn tell<const N: usize>(
        &self,
        context: &mut Context,
        callback: Callback,
        about: Option<ConnId>,
        arguments: impl FnOnce(napi_env) -> [napi_value; N],
    ) -> bool {
        self.current.set(context);
        let answer = self.call(callback, about, arguments);
        self.current.set(ptr::null_mut());
        self.look_after_loans(context);
        if self.ending.get() {
            context.yield_dispatch();
        }
        answer
    }

    /// Lends the loop the memory of a view, if it can be.
    pub(crate) fn lend(&self, id: ConnId, view: napi_value) -> Option<Bytes> {
        self.loans.borrow_mut().lend(self.env, id, view)
    }

    /// JavaScript has run, and something may be written next: sees to it that what is lent is there.
    #[inline]
    fn look_after_loans(&self, context: &mut Context) {
        if !self.loans.borrow().is_empty() {
            let broken = self.loans.borrow_mut().look_after(self.env);
            for id in broken {
                // Fails only for a connection that has ended, whose output is gone.
                let _ = context.conn(id).terminate();
            }
        }
    }

    /// Whether a connection has ended because memory that it was lent was taken away.
    pub(crate) fn take_broken(&self, id: ConnId) -> bool {
        self.loans.borrow_mut().take_broken(id)
    }

    /// Calls JavaScript, which catches what its listeners throw, in a callback scope of its own:
    /// when this returns, ticks and microtasks have run. Tells whether it answered `true`.
    fn call<const N: usize>(
        &self,
        callback: Callback,
        about: Option<ConnId>,
        arguments: impl FnOnce(napi_env) -> [napi_value; N],
    ) -> bool {
        let env = self.env;
        let Some(_scope) = Scope::open(env).filter(|_| !self.ending.get()) else {
            self.ending.set(true);
            return false;
        };
        let values = arguments(env);
        // Of the connection's own, so that what a listener leaves in an AsyncLocalStorage stays
        // with that connection.
        let mut receiver = match about {
            Some(id) => js::element(env, js::value_of(env, self.connections), id.as_u64() as u32),
            None => ptr::null_mut(),
        };
        if !js::is_object(env, receiver) {
            receiver = js::object(env);
        }
        let function = js::value_of(env, self.callbacks[callback as usize]);
        let mut result = ptr::null_mut();
        // SAFETY: the values are of this scope; this is the environment's thread, outside of any
        // call of JavaScript.
        let status = unsafe {
            sys::napi_make_callback(
                env,
                ptr::null_mut(),
                receiver,
                function,
                N,
                values.as_ptr(),
                &raw mut result,
            )
        };
        if status != Status::napi_ok {
            self.on_thrown();
        }
        self.batch.borrow_mut().doubt();
        status == Status::napi_ok && js::is_true(env, result)
    }

    /// A tick or a microtask has thrown, or the environment is ending.
    #[cold]
    fn on_thrown(&self) {
        let mut exception = ptr::null_mut();
        // SAFETY: this is the environment's thread; null is a value that both calls refuse.
        let status = unsafe {
            match sys::napi_get_and_clear_last_exception(self.env, &raw mut exception) {
                Status::napi_ok => sys::napi_fatal_exception(self.env, exception),
                other => other,
            }
        };
        // An environment that is ending refuses to run JavaScript, that of the handlers too.
        if status != Status::napi_ok {
            self.ending.set(true);
        }
    }

    /// Has JavaScript allocate memory, in the scope that is open; `shared` is for several messages.
    pub(crate) fn allocate(&self, len: usize, shared: bool) -> Option<napi_value> {
        let env = self.env;
        let arguments = [js::double(env, len as f64), js::boolean(env, shared)];
        let receiver = js::null(env);
        let function = js::value_of(env, self.callbacks[Callback::Allocate as usize]);
        let mut result = ptr::null_mut();
        // SAFETY: as in `call`. The function is the package's own and calls nothing of the
        // application's.
        let status = unsafe {
            sys::napi_call_function(
                env,
                receiver,
                function,
                arguments.len(),
                arguments.as_ptr(),
                &raw mut result,
            )
        };
        if status != Status::napi_ok {
            self.on_thrown();
            return None;
        }
        Some(result)
    }

    /// The answer to a command: nothing, or 1 if JavaScript has to see to a flush, or the number of
    /// an error; of a full backlog, the text.
    #[inline]
    pub(crate) fn answer(&self, result: Result<()>) -> napi_value {
        match result {
            Ok(()) if self.current.get().is_null() && !self.flush_wanted.replace(true) => {
                js::int(self.env, 1)
            }
            Ok(()) => ptr::null_mut(),
            Err(error) if error.kind() == ErrorKind::Full => js::text(self.env, error.detail()),
            Err(error) => js::int(self.env, error.kind() as i32),
        }
    }

    /// Writes what was sent outside of a dispatch.
    pub(crate) fn flush(&self) {
        self.flush_wanted.set(false);
        self.batch.borrow().wait();
        // Fails only in the child of a fork and in an environment that is ending.
        let _ = self.command(|context| {
            let flushed = context.flush_all();
            self.look_after_loans(context);
            flushed
        });
    }

    /// Has JavaScript told when the dispatch that is under way has written.
    pub(crate) fn watch_writes(&self) {
        self.watching_writes.set(!self.current.get().is_null());
    }

    /// Sees to it that the process lives as long as there is something to wait for.
    pub(crate) fn update_alive(&self) {
        if self.busy.get() || self.ending.get() {
            return;
        }
        // SAFETY: no dispatch and no command is under way, so nothing else refers to the loop.
        let alive = unsafe { &*self.event_loop.get() }
            .as_ref()
            .is_some_and(|event_loop| !event_loop.is_done());
        if self.alive.replace(alive) != alive {
            self.with_watch(|watch| watch.keep_alive(alive));
        }
    }

    fn with_watch(&self, act: impl FnOnce(&Watch)) {
        let watch = self.watch.take();
        if let Some(watch) = &watch {
            act(watch);
        }
        self.watch.set(watch);
    }

    fn on_readable(&self, status: core::result::Result<(), String>) {
        if self.ending.get() || self.busy.get() {
            return;
        }
        let Some(_scope) = Scope::open(self.env) else {
            return self.ending.set(true);
        };
        match status {
            Ok(()) => self.dispatch(),
            Err(message) => self.give_up(&message),
        }
        if !self.ending.get() && self.watching_writes.take() {
            self.call(Callback::Flushed, None, |_| []);
        }
        self.update_alive();
    }

    fn dispatch(&self) {
        self.busy.set(true);
        self.batch.borrow_mut().doubt();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: `busy` was false and keeps others out until it is false again; callbacks
            // reach the loop through the context that they are given.
            match unsafe { &mut *self.event_loop.get() } {
                Some(event_loop) => {
                    self.look_after_loans(event_loop);
                    let done = event_loop.dispatch(&mut Driver::new(self)).map(drop);
                    // What was written is given back now: the next dispatch may be far.
                    self.look_after_loans(event_loop);
                    done
                }
                None => Ok(()),
            }
        }));
        self.current.set(ptr::null_mut());
        self.busy.set(false);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.give_up(&error.to_string()),
            Err(_) => self.give_up("a defect in wsabi was caught; it cannot go on"),
        }
    }

    /// The loop cannot go on: says so, and lets it be.
    #[cold]
    fn give_up(&self, message: &str) {
        self.ending.set(true);
        self.with_watch(|watch| watch.keep_alive(false));
        js::uncaught(self.env, &format!("wsabi: {message}"));
        if let Some(watch) = self.watch.take() {
            watch.close(Box::new(|| ()));
        }
    }

    /// Lets go of what was kept: an environment that ends does not free its references.
    fn forget_references(&self) {
        let own = [self.records, self.connections];
        for &reference in self.callbacks.iter().chain(&own) {
            js::forget(self.env, reference);
        }
        self.batch.borrow_mut().forget_slabs();
    }
}

/// The environment ends: everything that libuv knows of has to be gone before it does.
///
/// # Safety
/// `data` is what `start` has given, and this is called once.
unsafe extern "C" fn on_cleanup(hook: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: `start` counted this reference, and the hook comes once.
    let host = unsafe { Rc::from_raw(data.cast_const().cast::<Host>()) };
    host.ending.set(true);
    // SAFETY: no JavaScript runs any more, so no command and no dispatch does.
    if let Some(event_loop) = unsafe { &mut *host.event_loop.get() } {
        host.look_after_loans(event_loop);
    }
    // JavaScript is not called any more, and cannot call.
    host.forget_references();
    let watch = host.watch.take();
    let end = move || {
        // SAFETY: no JavaScript runs any more, so no command and no dispatch does.
        if let Some(mut event_loop) = unsafe { &mut *host.event_loop.get() }.take() {
            // A panic may not go on into libuv; the sockets are closed when the loop is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| event_loop.finish(&mut Nobody)));
        }
        // SAFETY: the hook was not removed before.
        unsafe { sys::napi_remove_async_cleanup_hook(hook) };
    };
    match watch {
        Some(watch) => watch.close(Box::new(end)),
        None => end(),
    }
}
