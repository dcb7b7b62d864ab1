//! The poller of Linux: level-triggered epoll, with a timerfd and an eventfd in the set.
//!
//! The epoll descriptor is readable exactly when a wait would not block, so any host loop can watch it.
//!
//! Does not know: sockets, or what the timer and the wake-ups are for.

use super::readiness::{Interest, MAX_EVENTS, Ready, TIMER, WAKE, monotonic};
use crate::net::sys::{Call, call};
use crate::time::Time;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Watches descriptors that stay somebody else's.
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: File,
    /// What the timerfd is set to; `None` when it is disarmed or its firing has been consumed.
    deadline: Option<Time>,
    /// Whether the timerfd could not be set.
    unset: bool,
    wake: Arc<Wake>,
    events: Box<[libc::epoll_event]>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = call(Call::EpollCreate, || {
            // SAFETY: the call takes no pointers and gives a new descriptor or an error.
            unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
        })?;
        let timer = call(Call::TimerCreate, || {
            let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
            // SAFETY: as above.
            unsafe { owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags)) }
        })?;
        let wake = call(Call::EventCreate, || {
            // SAFETY: as above.
            unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }
        })?;
        let poller = Self {
            epoll,
            timer: File::from(timer),
            deadline: None,
            unset: false,
            wake: Arc::new(Wake {
                event: File::from(wake),
                pending: AtomicBool::new(false),
            }),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS].into_boxed_slice(),
        };
        poller.control(
            libc::EPOLL_CTL_ADD,
            poller.timer.as_raw_fd(),
            TIMER,
            Interest::READ,
        )?;
        poller.control(
            libc::EPOLL_CTL_ADD,
            poller.wake.event.as_raw_fd(),
            WAKE,
            Interest::READ,
        )?;
        Ok(poller)
    }

    /// The monotonic clock of all deadlines.
    pub(crate) fn now() -> Time {
        monotonic()
    }

    /// Readable exactly when [`Poller::wait`] has something to report or to consume.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        Some(self.epoll.as_raw_fd())
    }

    /// Watches `fd`, which is not watched yet, until it is removed; to be done before it is closed.
    pub(crate) fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        if token >= TIMER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a token of the poller's own",
            ));
        }
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes the interest in a watched `fd`.
    pub(crate) fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Stops watching `fd`; fine if it is not watched.
    pub(crate) fn remove(&mut self, fd: RawFd) {
        // Fails only if the descriptor is not in the set, which is what is wanted.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::NONE);
    }

    /// Waits until something is ready, the timer fires, a [`Waker`] wakes it, or `timeout` has passed,
    /// and replaces the content of `ready`.
    ///
    /// Zero does not block, `None` sets no limit.
    /// A timer that fired and a wake-up are consumed and have no entry.
    /// It may return early with nothing ready, as after a signal. Tells whether anything of these
    /// happened.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<bool> {
        ready.clear();
        let (events, timeout) = (self.events.as_mut_ptr(), milliseconds(timeout));
        let waited = call(Call::EpollWait, || {
            let (epoll, room) = (self.epoll.as_raw_fd(), MAX_EVENTS as libc::c_int);
            // SAFETY: `events` has room for MAX_EVENTS entries, and nothing else uses it meanwhile.
            let count = unsafe { libc::epoll_wait(epoll, events, room, timeout) };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        });
        let count = match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            waited => waited?,
        };
        for &event in &self.events[..count] {
            match event.u64 {
                WAKE => self.wake.consume(),
                TIMER => {
                    if take_count(Call::TimerRead, &self.timer) {
                        self.deadline = None;
                    }
                }
                token => ready.push(readiness(token, event.events)),
            }
        }
        Ok(count > 0)
    }

    /// Hears that reading or writing met `EAGAIN`: nothing to do, the kernel knows.
    pub(crate) fn blocked(&mut self, _token: u64, _interest: Interest) {}

    /// Ends a wait at the time `at`, once; `None` takes that back.
    ///
    /// # Errors
    /// The system's. The first of several in a row ends the next wait, so that it can be tried again.
    pub(crate) fn set_timer(&mut self, at: Option<Time>) -> io::Result<()> {
        if self.deadline == at {
            return Ok(());
        }
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let setting = libc::itimerspec {
            it_interval: never,
            it_value: at.map_or(never, absolute),
        };
        let set = call(Call::TimerSet, || {
            let (timer, flags) = (self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME);
            // SAFETY: `setting` is valid for reads during the call; the null pointer asks for no old
            // value.
            match unsafe { libc::timerfd_settime(timer, flags, &setting, std::ptr::null_mut()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
        let again = std::mem::replace(&mut self.unset, set.is_err());
        if set.is_err() && !again {
            self.wake.raise();
        }
        set?;
        self.deadline = at;
        Ok(())
    }

    /// What other threads end a wait with.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut events = 0;
        if interest.readable {
            events |= libc::EPOLLIN as u32;
        }
        if interest.writable {
            events |= libc::EPOLLOUT as u32;
        }
        let mut event = libc::epoll_event { events, u64: token };
        let mut control = || {
            // SAFETY: `event` is valid for the length of the call; the kernel checks both descriptors.
            match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        match operation {
            libc::EPOLL_CTL_ADD => call(Call::EpollAdd, control),
            libc::EPOLL_CTL_MOD => call(Call::EpollModify, control),
            _ => control(),
        }
    }
}

/// Ends a wait of the poller it comes from, from any thread; harmless when that is gone.
#[derive(Clone)]
pub(crate) struct Waker(Arc<Wake>);

impl Waker {
    /// Makes the poller's descriptor readable until a wait that began or ended later has consumed it.
    ///
    /// What the caller wrote before is seen by the poller's thread after that wait.
    pub(crate) fn wake(&self) {
        self.0.raise();
    }
}

/// The eventfd, and whether it has been raised since it was last consumed: only the first of many
/// wake-ups costs a system call.
struct Wake {
    event: File,
    pending: AtomicBool,
}

impl Wake {
    fn raise(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // The counter holds 1 at most, so there is room, and only a signal can be in the way.
            let write = || (&self.event).write(&1u64.to_ne_bytes());
            while call(Call::EventWrite, write)
                .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
            {}
        }
    }

    /// First the counter, then the flag: a wake-up between the two finds the flag up and needs no more,
    /// because the wait that consumes it has not returned yet.
    fn consume(&self) {
        take_count(Call::EventRead, &self.event);
        self.pending.swap(false, Ordering::AcqRel);
    }
}

/// Takes the counter of an eventfd or timerfd back to zero; false if it was.
fn take_count(which: Call, mut counter: &File) -> bool {
    call(which, || counter.read(&mut [0; size_of::<u64>()])).is_ok()
}

/// # Safety
/// A non-negative `fd` is an open descriptor that nobody else owns.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: upheld by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel answers a stream socket that has hung up with both directions, as far as they are of
/// interest, so nothing needs to be added here.
fn readiness(token: u64, events: u32) -> Ready {
    let any = |flags: libc::c_int| events & flags as u32 != 0;
    Ready {
        token,
        readable: any(libc::EPOLLIN),
        writable: any(libc::EPOLLOUT),
        hangup: any(libc::EPOLLHUP | libc::EPOLLERR),
    }
}

/// Rounded up, so that no wait ends just before what it waited for and spins.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| {
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
    })
}

fn absolute(at: Time) -> libc::timespec {
    let ms = at.as_millis();
    libc::timespec {
        tv_sec: libc::time_t::try_from(ms / 1000).unwrap_or(libc::time_t::MAX),
        // Zero as a whole would disarm the timer.
        tv_nsec: if ms == 0 {
            1
        } else {
            (ms % 1000 * 1_000_000) as libc::c_long
        },
    }
}
