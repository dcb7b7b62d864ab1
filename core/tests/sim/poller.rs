//! The loop's poller, on the simulated kernel: the same functions as in `core/src/net/poller`.
//!
//! Does not know: what a token stands for, or when a loop is given its turn.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::kernel;
use crate::time::Time;

#[path = "../../src/net/poller/readiness.rs"]
mod readiness;
pub(crate) use readiness::{Interest, Ready};

pub(crate) struct Poller(usize);

#[derive(Clone)]
pub(crate) struct Waker(usize);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(kernel::with(|kernel| kernel.add_watcher())))
    }

    pub(crate) fn now() -> Time {
        Time::from_millis(kernel::with(|kernel| kernel.now))
    }

    /// The watcher's number, in the place of a descriptor.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        Some(self.0 as RawFd)
    }

    pub(crate) fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        kernel::with(|kernel| kernel.watch(self.0, fd, token, interest))
    }

    pub(crate) fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        kernel::with(|kernel| kernel.change(self.0, fd, token, interest))
    }

    pub(crate) fn remove(&mut self, fd: RawFd) {
        kernel::with(|kernel| kernel.unwatch(self.0, fd));
    }

    pub(crate) fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        ready.clear();
        Ok(kernel::with(|kernel| kernel.wait(self.0, ready)))
    }

    pub(crate) fn blocked(&mut self, _: u64, _: Interest) {}

    pub(crate) fn set_timer(&mut self, at: Option<Time>) -> io::Result<()> {
        kernel::with(|kernel| kernel.set_timer(self.0, at.map(Time::as_millis)));
        Ok(())
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.0)
    }
}

impl Waker {
    pub(crate) fn wake(&self) {
        kernel::with(|kernel| kernel.wake(self.0));
    }
}
