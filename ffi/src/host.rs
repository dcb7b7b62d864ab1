//! The loop as C holds it: which thread it belongs to, whether it is busy, and how a call gets at
//! it, from a callback or from outside.
//!
//! Does not know: what the calls do.

use core::cell::{Cell, RefCell, UnsafeCell};
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use wsabi::{Context, Error, ErrorKind, Handle, Loop, Result};

use crate::driver::{Driver, Table};

pub(crate) const IDLE: u8 = 0;
pub(crate) const BUSY: u8 = 1;
/// Busy, and to be freed when that ends.
pub(crate) const DOOMED: u8 = 2;
/// A defect was caught while something was going on: nothing is done with the loop any more.
pub(crate) const BROKEN: u8 = 3;

/// A loop for any number of servers and clients, with one file descriptor. Freed by wsabi_loop_free.
///
/// It belongs to the thread that made it until its first dispatch, and from then on to the thread
/// of that dispatch.
pub struct wsabi_loop {
    /// Dispatching, or not.
    state: AtomicU8,
    thread: AtomicUsize,
    /// Whether the thread is final.
    bound: AtomicBool,
    handle: Handle,
    /// Kept apart, because any thread may ask for it.
    fd: i32,
    /// The context of the callback that is being made; null outside of callbacks.
    current: Cell<*mut Context>,
    /// Whether a command is being carried out, in which a log callback could call again.
    commanding: Cell<bool>,
    pub(crate) table: RefCell<Table>,
    /// Dropped before everything else of this, which free hooks still find.
    event_loop: UnsafeCell<ManuallyDrop<Loop>>,
}

/// Makes `current` the context of a callback, for as long as it is made.
pub(crate) struct Callback<'a>(&'a wsabi_loop);

impl<'a> Callback<'a> {
    pub(crate) fn enter(host: &'a wsabi_loop, context: &mut Context) -> Self {
        host.current.set(context);
        Self(host)
    }
}

impl Drop for Callback<'_> {
    fn drop(&mut self) {
        self.0.current.set(core::ptr::null_mut());
    }
}

fn this_thread() -> usize {
    // SAFETY: the function has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

impl wsabi_loop {
    pub(crate) fn new(event_loop: Loop) -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            thread: AtomicUsize::new(this_thread()),
            bound: AtomicBool::new(false),
            handle: event_loop.handle(),
            fd: event_loop.fd().unwrap_or(-1),
            current: Cell::new(core::ptr::null_mut()),
            commanding: Cell::new(false),
            table: RefCell::default(),
            event_loop: UnsafeCell::new(ManuallyDrop::new(event_loop)),
        }
    }

    /// The loop behind a pointer that C gave.
    ///
    /// # Safety
    /// The pointer is null, or came from `wsabi_loop_new` and was not freed.
    #[inline]
    pub(crate) unsafe fn get<'a>(pointer: *const Self) -> Result<&'a Self> {
        // SAFETY: the caller's promise.
        unsafe { pointer.as_ref() }.ok_or_else(|| Error::new(ErrorKind::Invalid, "loop is NULL"))
    }

    /// Whether the calling thread is the loop's.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == this_thread()
    }

    /// The file descriptor, or -1.
    pub(crate) const fn fd(&self) -> i32 {
        self.fd
    }

    /// The state: idle, busy or doomed.
    pub(crate) const fn state(&self) -> &AtomicU8 {
        &self.state
    }

    /// Whether a command is being carried out.
    pub(crate) fn is_commanding(&self) -> bool {
        self.commanding.get()
    }

    /// Where the loop is.
    pub(crate) const fn event_loop(&self) -> *mut Loop {
        self.event_loop.get().cast()
    }

    /// The handle for calls from other threads.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Carries out a command on the loop's thread.
    #[inline]
    pub(crate) fn command<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        if !self.is_home() {
            return Err(wrong_thread());
        }
        if self.commanding.replace(true) {
            return Err(self.busy());
        }
        let unwound = Unwound(self);
        let result = self.command_unguarded(act);
        core::mem::forget(unwound);
        self.commanding.set(false);
        result
    }

    /// Why the loop cannot be had just now.
    #[cold]
    fn busy(&self) -> Error {
        if self.state.load(Ordering::Relaxed) == BROKEN {
            return Error::new(
                ErrorKind::Panic,
                "a defect was caught earlier; the loop cannot be used further",
            );
        }
        Error::new(
            ErrorKind::Reentrant,
            "the loop is dispatching already: a callback cannot dispatch, and a log callback cannot call",
        )
    }

    #[inline]
    fn command_unguarded<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        let current = self.current.get();
        if !current.is_null() {
            // SAFETY: `current` is not null only while a callback is being made on this thread. It
            // comes from the exclusive reference that the callback's maker holds and does not use
            // meanwhile; `commanding` sees to it that only one command uses it at a time.
            return act(unsafe { &mut *current });
        }
        if self.state.load(Ordering::Relaxed) != IDLE {
            return Err(self.busy());
        }
        // SAFETY: no dispatch is under way and this is the loop's thread, so nothing else refers
        // to the loop; `commanding` keeps it so until the command is done.
        act(unsafe { &mut *self.event_loop.get() })
    }

    /// Runs a dispatch, and frees the loop afterwards if that was asked for meanwhile.
    ///
    /// # Safety
    /// `pointer` came from `wsabi_loop_new` and was not freed.
    pub(crate) unsafe fn drive<T>(
        pointer: *mut Self,
        act: impl FnOnce(&mut Loop, &mut Driver<'_>) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: the caller's promise.
        let host = unsafe { &*pointer };
        if !host.bound.swap(true, Ordering::Relaxed) {
            host.thread.store(this_thread(), Ordering::Relaxed);
        }
        if !host.is_home() {
            return Err(wrong_thread());
        }
        if host.commanding.get()
            || host
                .state
                .compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return Err(host.busy());
        }
        let finish = Finish(pointer);
        // SAFETY: the state went from idle to busy on the loop's thread, so nothing else refers to
        // the loop; callbacks reach it through the context they are given.
        let event_loop = unsafe { &mut *host.event_loop.get() };
        let result = act(event_loop, &mut Driver::new(host));
        let freed = finish.done();
        if freed {
            Err(Error::new(
                ErrorKind::Closed,
                "the loop was freed in a callback",
            ))
        } else {
            result
        }
    }
}

/// Breaks the loop if a command panics.
struct Unwound<'a>(&'a wsabi_loop);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        self.0.state.store(BROKEN, Ordering::Relaxed);
    }
}

/// The end of a dispatch, also of one that panics.
struct Finish(*mut wsabi_loop);

impl Finish {
    /// Ends the dispatch; tells whether the loop was freed.
    fn done(self) -> bool {
        // SAFETY: `drive` was given a loop that was not freed, and frees are put off till here.
        let host = unsafe { &*self.0 };
        let doomed = host
            .state
            .compare_exchange(BUSY, IDLE, Ordering::Release, Ordering::Relaxed)
            .is_err();
        if doomed {
            // SAFETY: whoever asked to free it gave up the pointer, and the dispatch is over.
            unsafe { free_now(self.0) };
        }
        core::mem::forget(self);
        doomed
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        // SAFETY: as in `done`. If it was to be freed it is leaked: its state cannot be trusted.
        let host = unsafe { &*self.0 };
        host.state.store(BROKEN, Ordering::Relaxed);
    }
}

/// Ends all connections with their last callbacks, and frees the loop.
///
/// # Safety
/// `pointer` came from `wsabi_loop_new`, was not freed, and no dispatch is under way.
pub(crate) unsafe fn free_now(pointer: *mut wsabi_loop) {
    // SAFETY: the caller's promise.
    let host = unsafe { &*pointer };
    host.thread.store(this_thread(), Ordering::Relaxed);
    host.state.store(DOOMED, Ordering::Relaxed);
    // SAFETY: no dispatch is under way, and the state keeps others out.
    let event_loop = unsafe { &mut *host.event_loop.get() };
    event_loop.finish(&mut Driver::new(host));
    // SAFETY: nothing refers to the loop any more, and this is the one place that drops it. What it
    // drops may call free hooks; calls from those are refused without looking at it.
    unsafe { ManuallyDrop::drop(&mut *host.event_loop.get()) };
    // SAFETY: the pointer came from `Box::into_raw`, and its owner has given it up.
    drop(unsafe { Box::from_raw(pointer) });
}

#[cold]
pub(crate) fn wrong_thread() -> Error {
    Error::new(
        ErrorKind::Thread,
        "this function belongs to the loop's thread; it was called from another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{WSABI_E_PANIC, boundary, status};

    fn make() -> *mut wsabi_loop {
        Box::into_raw(Box::new(wsabi_loop::new(Loop::new().unwrap())))
    }

    fn dispatch(pointer: *mut wsabi_loop) -> i32 {
        // SAFETY: the tests give loops that were not freed.
        status(
            unsafe { wsabi_loop::drive(pointer, |event_loop, driver| event_loop.dispatch(driver)) }
                .map(drop),
        )
    }

    #[test]
    fn a_panic_in_a_dispatch_or_a_command_breaks_the_loop_and_nothing_else() {
        let dispatched = make();
        let panicking = boundary(WSABI_E_PANIC, || {
            // SAFETY: the loop was not freed.
            status(unsafe {
                wsabi_loop::drive(dispatched, |_, _| -> Result<()> { panic!("on purpose") })
            })
        });
        assert_eq!(panicking, WSABI_E_PANIC);
        let commanded = make();
        // SAFETY: as above.
        let host = unsafe { &*commanded };
        let panicking = boundary(WSABI_E_PANIC, || {
            status(host.command(|_| -> Result<()> { panic!("on purpose") }))
        });
        assert_eq!(panicking, WSABI_E_PANIC);
        for pointer in [dispatched, commanded] {
            // SAFETY: as above.
            let host = unsafe { &*pointer };
            assert_eq!(dispatch(pointer), WSABI_E_PANIC);
            assert_eq!(status(host.command(|_| Ok(()))), WSABI_E_PANIC);
        }
        let fresh = make();
        assert_eq!(dispatch(fresh), 0);
        // SAFETY: it came from `Box::into_raw`, and no dispatch is under way.
        unsafe { free_now(fresh) };
    }
}
