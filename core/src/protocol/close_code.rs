//! Close codes: which exist and which may be on the wire (RFC 6455 §7.4).
//!
//! Does not know: frames, or who sends a code.

use core::fmt;

/// The status code of a Close frame (RFC 6455 §7.4), or one of the two that only report its
/// absence (1005, 1006).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: a server stops, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke a rule of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The endpoint cannot accept this type of data.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The Close frame had no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// No Close frame arrived. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// The data does not fit the message's type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A message breaks the endpoint's policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// The client misses an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// The endpoint met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The service is overloaded.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A gateway got an invalid response from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code with this number, if it may stand in a Close frame.
    ///
    /// RFC 6455 §7.4.2: 1000 to 2999 are defined by the protocol and its registry, 3000 to 4999
    /// belong to libraries and applications, and nothing else is used. §7.4.1 reserves 1004, and
    /// forbids 1005, 1006 and 1015 in a frame. 1012 to 1014 are in the IANA registry.
    pub const fn from_wire(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_codes_are_exactly_those_of_the_registry() {
        let allowed: Vec<u16> = (0..=u16::MAX)
            .filter(|&code| CloseCode::from_wire(code).is_some())
            .collect();
        let expected: Vec<u16> = (1000..=1003)
            .chain(1007..=1014)
            .chain(3000..=4999)
            .collect();
        assert_eq!(allowed, expected);
        let numbers: Vec<u16> = allowed
            .iter()
            .filter_map(|&code| CloseCode::from_wire(code).map(u16::from))
            .collect();
        assert_eq!(numbers, expected);
    }
}
