//! The one way to the system: every call of the loop that can fail goes through [`call`].
//!
//! In a normal build that is nothing. With `--cfg wsabi_faults` a test plans which call fails, how
//! and from when on, for its own thread: see [`faults`].
//!
//! Does not know: what a call is for, or what becomes of a failure.

#![cfg_attr(
    not(wsabi_faults),
    allow(unreachable_pub, reason = "only tests with faults see this room")
)]

#[cfg(not(wsabi_faults))]
use std::io;
#[cfg(not(wsabi_faults))]
use std::net::SocketAddr;

/// The calls that a test can make fail.
#[cfg_attr(
    any(not(target_os = "linux"), wsabi_mio),
    allow(dead_code, reason = "the portable poller's calls are mio's own")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// socket(2).
    Socket,
    /// setsockopt(2).
    SetOption,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
    /// accept4(2).
    Accept,
    /// connect(2).
    Connect,
    /// getsockopt(2) for the outcome of a connect: the error that the socket has.
    Outcome,
    /// recv(2).
    Recv,
    /// send(2) and sendmsg(2).
    Send,
    /// shutdown(2).
    Shutdown,
    /// epoll_create1(2).
    EpollCreate,
    /// epoll_ctl(2), adding a descriptor.
    EpollAdd,
    /// epoll_ctl(2), changing the interest in a descriptor.
    EpollModify,
    /// epoll_wait(2).
    EpollWait,
    /// timerfd_create(2).
    TimerCreate,
    /// timerfd_settime(2).
    TimerSet,
    /// read(2) of the timerfd.
    TimerRead,
    /// eventfd(2).
    EventCreate,
    /// read(2) of the eventfd.
    EventRead,
    /// write(2) to the eventfd.
    EventWrite,
    /// getaddrinfo(3).
    Resolve,
    /// pthread_create(3), for a thread that resolves names.
    Thread,
    /// getrandom(2), when a loop is made.
    Random,
}

/// Makes a call to the system.
#[cfg(not(wsabi_faults))]
#[inline(always)]
pub(crate) fn call<T>(_which: Call, real: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    real()
}

/// How many of `len` bytes the call that is being made is to read or write.
#[cfg(not(wsabi_faults))]
#[inline(always)]
pub(crate) const fn at_most(_which: Call, len: usize) -> usize {
    len
}

/// What a name has been resolved to, on another thread.
#[cfg(not(wsabi_faults))]
#[inline(always)]
pub(crate) const fn resolved(found: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
    found
}

#[cfg(wsabi_faults)]
pub(crate) use faults::{at_most, call, resolved};

/// Failures on order, for the thread that orders them.
#[cfg(wsabi_faults)]
pub mod faults {
    use super::Call;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io;
    use std::net::SocketAddr;

    /// What happens to a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Fault {
        /// It fails with this error number.
        Errno(i32),
        /// It reads or writes this many bytes at most.
        Short(usize),
    }

    /// Which calls are to fail.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Plan {
        /// Calls of this kind.
        pub call: Call,
        /// The number of the first that fails, from 1.
        pub nth: u64,
        /// How many in a row fail.
        pub times: u64,
        /// How.
        pub fault: Fault,
    }

    #[derive(Default)]
    struct State {
        plan: Option<Plan>,
        addresses: Option<Vec<SocketAddr>>,
        made: BTreeMap<Call, u64>,
        struck: u64,
    }

    thread_local! {
        static STATE: RefCell<State> = RefCell::default();
    }

    /// Puts this plan, or none, into effect for the calling thread, and counts anew.
    pub fn plan(plan: Option<Plan>) {
        STATE.with_borrow_mut(|state| {
            *state = State {
                plan,
                ..State::default()
            }
        });
    }

    /// How many calls of a kind were made since [`plan`], those that failed included.
    pub fn made(call: Call) -> u64 {
        STATE.with_borrow(|state| state.made.get(&call).copied().unwrap_or(0))
    }

    /// How many faults were injected since [`plan`].
    pub fn struck() -> u64 {
        STATE.with_borrow(|state| state.struck)
    }

    /// Lets every name that a client of the calling thread's loop resolves have these addresses,
    /// until the next [`plan`].
    pub fn resolve_to(addresses: Vec<SocketAddr>) {
        STATE.with_borrow_mut(|state| state.addresses = Some(addresses));
    }

    pub(crate) fn resolved(found: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
        let planned = STATE.with_borrow(|state| state.addresses.clone());
        call(Call::Resolve, || planned.map_or(found, Ok))
    }

    /// The fault of the call of this kind with this number, if the plan has one.
    fn due(state: &State, call: Call, number: u64) -> Option<Fault> {
        let plan = state.plan?;
        let hit = plan.call == call && number >= plan.nth && number - plan.nth < plan.times;
        hit.then_some(plan.fault)
    }

    pub(crate) fn call<T>(which: Call, real: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let errno = STATE.with_borrow_mut(|state| {
            let made = state.made.entry(which).or_default();
            *made += 1;
            let number = *made;
            let Some(Fault::Errno(errno)) = due(state, which, number) else {
                return None;
            };
            state.struck += 1;
            Some(errno)
        });
        let Some(errno) = errno else {
            return real();
        };
        if which == Call::Connect && errno == libc::EINTR {
            // An interrupted connect goes on by itself.
            match real() {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                _ => {}
            }
        }
        Err(io::Error::from_raw_os_error(errno))
    }

    pub(crate) fn at_most(which: Call, len: usize) -> usize {
        STATE.with_borrow_mut(|state| {
            let number = state.made.get(&which).copied().unwrap_or(0);
            match due(state, which, number) {
                Some(Fault::Short(most)) if most < len => {
                    state.struck += 1;
                    most
                }
                _ => len,
            }
        })
    }
}
