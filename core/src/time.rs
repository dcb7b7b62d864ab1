//! Points in time as plain numbers, so that the protocol can be run on any clock.
//!
//! Does not know: which clock the numbers come from.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

/// A point on a monotonic clock, in whole milliseconds since an origin the caller chooses.
///
/// The event loop uses the system's monotonic clock; a test or simulator may use any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(
    /// One more than the milliseconds, so that an absent time costs no space.
    NonZeroU64,
);

impl Time {
    /// The origin.
    pub const ORIGIN: Self = Self(NonZeroU64::MIN);

    /// The time `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(ms))
    }

    /// Milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// The time `wait` later, rounded up to a whole millisecond; it saturates instead of overflowing.
    pub fn after(self, wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// How long after `earlier` this is; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.as_millis().saturating_sub(earlier.as_millis()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.as_millis())
    }
}

/// The earlier of two deadlines, either of which may be absent.
pub(crate) fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
