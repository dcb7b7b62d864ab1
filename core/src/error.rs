//! What can go wrong, by whose fault, and the words for it.
//!
//! Does not know: the rooms that make errors, sockets, or any host language.

use core::fmt;
use std::borrow::Cow;
use std::io;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $symbol:literal;)*) => {
        /// What went wrong. Every language has the same list, with the same numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorKind { $($(#[$doc])* $name = $code,)* }

        impl ErrorKind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name of this kind in the C header, such as `WSABI_E_CLOSED`.
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$name => $symbol,)* }
            }
        }
    };
}

error_kinds! {
    /// An argument is not allowed; the detail says which, what it was and what is expected.
    Invalid = -1, "WSABI_E_INVALID";
    /// The connection, server or loop is closed, or its number is stale.
    Closed = -2, "WSABI_E_CLOSED";
    /// Refused because a limit of queued bytes is reached; nothing was queued.
    Full = -3, "WSABI_E_FULL";
    /// The call belongs to the loop's thread and came from another.
    Thread = -4, "WSABI_E_THREAD";
    /// The loop was asked to dispatch inside one of its own callbacks.
    Reentrant = -5, "WSABI_E_REENTRANT";
    /// The right object at the wrong moment.
    State = -6, "WSABI_E_STATE";
    /// Not supported by this build or platform.
    Unsupported = -7, "WSABI_E_UNSUPPORTED";
    /// The process has forked; the loop belongs to the parent.
    Forked = -8, "WSABI_E_FORKED";
    /// A defect inside wsabi was caught.
    Panic = -9, "WSABI_E_PANIC";
    /// Memory could not be had.
    NoMemory = -10, "WSABI_E_NO_MEMORY";

    /// The operating system refused or failed.
    Io = -20, "WSABI_E_IO";
    /// A server could not listen; the detail names the address.
    Listen = -21, "WSABI_E_LISTEN";
    /// A host name could not be resolved.
    Resolve = -22, "WSABI_E_RESOLVE";
    /// No address of the host accepted a connection.
    Connect = -23, "WSABI_E_CONNECT";
    /// The transport ended without a Close frame.
    Lost = -24, "WSABI_E_LOST";

    /// The peer broke a rule of RFC 6455 (close code 1002).
    Protocol = -30, "WSABI_E_PROTOCOL";
    /// The peer sent text that is not UTF-8 (close code 1007).
    InvalidText = -31, "WSABI_E_INVALID_TEXT";
    /// The peer sent a message above the limit (close code 1009).
    MessageTooBig = -32, "WSABI_E_MESSAGE_TOO_BIG";
    /// The peer cut a message into too many fragments (close code 1008).
    TooManyFragments = -33, "WSABI_E_TOO_MANY_FRAGMENTS";
    /// The peer sent compressed data that is damaged (close code 1007).
    InvalidDeflate = -34, "WSABI_E_INVALID_DEFLATE";
    /// The server's connections hold more than its budget allows, and this one the most (close code
    /// 1013).
    OverBudget = -35, "WSABI_E_OVER_BUDGET";

    /// The opening handshake's request or response is not valid.
    Handshake = -40, "WSABI_E_HANDSHAKE";
    /// The opening handshake has too many bytes or headers.
    HandshakeTooLarge = -41, "WSABI_E_HANDSHAKE_TOO_LARGE";
    /// The request's Origin is not allowed by the server's policy.
    Origin = -42, "WSABI_E_ORIGIN";
    /// The server answered the opening handshake with another status than 101.
    Refused = -43, "WSABI_E_REFUSED";
    /// Too many opening handshakes were pending; the oldest was dropped.
    Overloaded = -44, "WSABI_E_OVERLOADED";

    /// The opening handshake took too long.
    HandshakeTimeout = -50, "WSABI_E_HANDSHAKE_TIMEOUT";
    /// The peer gave no sign of life after a ping (close code 1011).
    KeepaliveTimeout = -51, "WSABI_E_KEEPALIVE_TIMEOUT";
    /// Nothing was received for the idle timeout (close code 1011).
    IdleTimeout = -52, "WSABI_E_IDLE_TIMEOUT";
    /// The closing handshake took too long.
    CloseTimeout = -53, "WSABI_E_CLOSE_TIMEOUT";

    /// This side terminated the connection.
    Terminated = -60, "WSABI_E_TERMINATED";
    /// The server's stop deadline passed, or the loop was freed.
    Stopped = -61, "WSABI_E_STOPPED";
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid argument",
            Self::Closed => "closed",
            Self::Full => "full",
            Self::Thread => "wrong thread",
            Self::Reentrant => "dispatch inside a callback",
            Self::State => "not possible in this state",
            Self::Unsupported => "not supported",
            Self::Forked => "used after fork",
            Self::Panic => "internal defect",
            Self::NoMemory => "out of memory",
            Self::Io => "system error",
            Self::Listen => "cannot listen",
            Self::Resolve => "cannot resolve",
            Self::Connect => "cannot connect",
            Self::Lost => "connection lost",
            Self::Protocol => "protocol error",
            Self::InvalidText => "invalid text",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
            Self::InvalidDeflate => "invalid compressed data",
            Self::OverBudget => "over budget",
            Self::Handshake => "opening handshake failed",
            Self::HandshakeTooLarge => "opening handshake too large",
            Self::Origin => "origin refused",
            Self::Refused => "opening handshake refused",
            Self::Overloaded => "too many pending handshakes",
            Self::HandshakeTimeout => "opening handshake timeout",
            Self::KeepaliveTimeout => "keepalive ping timeout",
            Self::IdleTimeout => "idle timeout",
            Self::CloseTimeout => "closing handshake timeout",
            Self::Terminated => "terminated",
            Self::Stopped => "stopped",
        })
    }
}

/// An error with its kind and a sentence in English for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    os_error: i32,
    detail: Cow<'static, str>,
}

/// What wsabi's fallible functions return.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a sentence that says what was wrong, what was expected and where.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            os_error: 0,
            detail: detail.into(),
        }
    }

    /// An error of `kind` that the operating system caused; `what` says what was being done.
    pub fn from_io(kind: ErrorKind, what: impl fmt::Display, error: &io::Error) -> Self {
        Self {
            kind,
            os_error: error.raw_os_error().unwrap_or(0),
            detail: format!("{what}: {error}").into(),
        }
    }

    /// A refused argument.
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// A call on something that is closed.
    pub(crate) const fn closed() -> Self {
        Self {
            kind: ErrorKind::Closed,
            os_error: 0,
            detail: Cow::Borrowed("the connection is closed"),
        }
    }

    /// What went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The system's error number (`errno`), or 0.
    pub const fn os_error(&self) -> i32 {
        self.os_error
    }

    /// The sentence that explains this error.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for Error {}
