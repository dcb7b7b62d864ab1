//! What both builds of the poller speak of: interest, readiness, the clock.
//!
//! Does not know: how readiness is found out.

use crate::time::Time;

/// How many entries one wait delivers at most; more are left for the next.
pub(super) const MAX_EVENTS: usize = 1024;
/// The token of the poller's own wake-up.
pub(super) const WAKE: u64 = u64::MAX;
/// The token of the poller's own timer.
pub(super) const TIMER: u64 = u64::MAX - 1;

/// The directions in which a descriptor is watched.
///
/// A hang-up is reported whatever the interest, also for [`Interest::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Interest {
    pub(crate) const NONE: Self = Self {
        readable: false,
        writable: false,
    };
    pub(crate) const READ: Self = Self {
        readable: true,
        writable: false,
    };
    pub(crate) const WRITE: Self = Self {
        readable: false,
        writable: true,
    };
}

/// What a descriptor is ready for, among what is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Both directions have ended, or the socket has an error; directions of interest are then ready too.
    /// Reported again by every wait until the descriptor is removed.
    pub(crate) hangup: bool,
}

/// The system's monotonic clock, rounded down to a millisecond: no deadline looks reached before it is.
pub(super) fn monotonic() -> Time {
    let mut clock = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `clock` is valid for writes for the length of the call.
    // The call cannot fail: the clock exists on every system that has this function.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut clock) };
    Time::from_millis(clock.tv_sec as u64 * 1000 + clock.tv_nsec as u64 / 1_000_000)
}
