//! The numbers by which connections and servers are called.
//!
//! Does not know: the tables they are kept in.

use core::fmt;
use core::num::NonZeroU64;

/// The number of a connection, valid with the loop it belongs to.
///
/// It may be kept, copied and compared freely. Once the connection's `on_close` has returned the
/// number is stale: every call with it answers "closed", and no other connection ever gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(NonZeroU64);

impl ConnId {
    /// The number as an integer.
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// The connection with this number; it may be stale. `None` for 0, which no connection has.
    pub const fn from_u64(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    pub(crate) const fn new(index: u32, generation: u32) -> Option<Self> {
        Self::from_u64((generation as u64) << 32 | index as u64)
    }

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0.get() as u32
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The number of a server, valid with the loop it belongs to; stale after its `on_stopped`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(NonZeroU64);

impl ServerId {
    /// The number as an integer.
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// The server with this number; it may be stale. `None` for 0, which no server has.
    pub const fn from_u64(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}", self.0)
    }
}
