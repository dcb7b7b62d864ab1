//! Limits, times and policies with their defaults, for both roles.
//!
//! Does not know: what the values do; the rooms that obey them cite them by name.

use core::time::Duration;

use crate::error::{Error, Result};

/// Limits and times of one connection. Every limit is inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest message accepted, in bytes after assembling its fragments. Default 16 MiB.
    ///
    /// A message above it fails the connection with close code 1009 as soon as the frame header
    /// that exceeds it arrives.
    pub max_message_bytes: u64,
    /// Most fragments that may follow the first one of a message, empty ones included. Default
    /// 65,536.
    ///
    /// One more fails the connection with close code 1008.
    pub max_fragments: u32,
    /// Most bytes of the opening handshake's request or response head. Default 16 KiB.
    pub max_handshake_bytes: u32,
    /// Most header fields in the opening handshake. Default 100.
    pub max_handshake_headers: u32,
    /// Total time for the opening handshake, connecting included. Default 10 s.
    pub handshake_timeout: Duration,
    /// Additional time for a request that the application answers later. Default 10 s.
    pub hold_timeout: Duration,
    /// Time between keepalive pings; `None` sends none. Default 20 s.
    pub ping_interval: Option<Duration>,
    /// How long after a ping the peer may stay silent. Default 20 s.
    ///
    /// Silent means that no byte arrived and that none of our queued output was taken.
    pub ping_timeout: Duration,
    /// Longest time without a received byte; `None` is no limit. Default `None`.
    pub idle_timeout: Option<Duration>,
    /// Longest time for the closing handshake from when our Close is in the kernel's hands, and
    /// before that without write progress. Default 5 s.
    pub close_timeout: Duration,
    /// Most opening handshakes pending at one server; the oldest is dropped for a further one.
    /// Default 1,024.
    pub max_pending_handshakes: u32,
    /// Backlog of unsent bytes above which `send` reports backpressure. Default 1 MiB.
    pub high_water_bytes: u64,
    /// Backlog at or below which `drain` follows. Default 256 KiB.
    pub low_water_bytes: u64,
    /// Backlog that a send may not exceed once the backlog is at high water. Default 16 MiB.
    pub max_backlog_bytes: u64,
    /// Whether `TCP_NODELAY` is set. Default `true`.
    pub no_delay: bool,
    /// Whether messages are given out in chunks, as they come, instead of whole. Default `false`.
    ///
    /// [`max_message_bytes`](Self::max_message_bytes) still counts the whole message, of which no
    /// more than a chunk is held.
    pub stream_messages: bool,
    /// permessage-deflate (RFC 7692), if it is negotiated. Default `None`, no compression.
    pub deflate: Option<DeflateOptions>,
}

/// How messages are compressed, if both sides agree on permessage-deflate (RFC 7692).
///
/// A server takes a client's offer as far as these allow; a client offers these.
///
/// Without context takeover a loop has one compressor and one decompressor for all its connections.
/// With it, a connection keeps the window of the side it receives from (2 to the power of its
/// window bits, 4 KiB at 12), and, for the side it sends from, a compressor of its own: some 265 KiB
/// at 12 bits and memory level 8. That one is freed when nothing was compressed for 30 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateOptions {
    /// Window of what the server sends, as the logarithm of its size: 9 to 15. Default 12.
    pub server_max_window_bits: u8,
    /// Window of what the client sends: 9 to 15. Default 12.
    pub client_max_window_bits: u8,
    /// Whether the server's messages may refer back to earlier ones. Default `false`.
    pub server_context_takeover: bool,
    /// Whether the client's messages may refer back to earlier ones. Default `false`.
    pub client_context_takeover: bool,
    /// Compression level: 1, fast, to 9, small. Default 6.
    pub level: u8,
    /// Memory of a compressor: 1 to 9. Default 8.
    pub mem_level: u8,
    /// Messages shorter than this are sent as they are. Default 1,024 bytes.
    pub min_bytes: u64,
    /// How many times larger than what came a message may become; `None` is no limit besides
    /// [`max_message_bytes`](Config::max_message_bytes). Default `None`.
    ///
    /// A message above it fails the connection with close code 1009. Harmless text reaches ratios of
    /// 200 and more; this is for relays, which pay for messages that others compressed.
    pub max_ratio: Option<u32>,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self {
            server_max_window_bits: 12,
            client_max_window_bits: 12,
            server_context_takeover: false,
            client_context_takeover: false,
            level: 6,
            mem_level: 8,
            min_bytes: 1024,
            max_ratio: None,
        }
    }
}

impl DeflateOptions {
    fn validate(&self) -> Result<()> {
        let ranges = [
            ("server_max_window_bits", self.server_max_window_bits, 9, 15),
            ("client_max_window_bits", self.client_max_window_bits, 9, 15),
            ("level", self.level, 1, 9),
            ("mem_level", self.mem_level, 1, 9),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(Error::invalid(format!(
                    "deflate: {name} is {value}; expected {least} to {most}"
                )));
            }
        }
        if self.max_ratio == Some(0) {
            return Err(Error::invalid(
                "deflate: max_ratio is 0; expected at least 1",
            ));
        }
        Ok(())
    }
}

/// Whether a message is compressed, where permessage-deflate is agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compress {
    /// From [`min_bytes`](DeflateOptions::min_bytes) on; of a message that is sent in fragments the
    /// length is not known, and it is compressed.
    #[default]
    Auto,
    /// Whatever its length.
    Always,
    /// Not at all: it is compressed already, or mixes a secret with what a stranger has chosen.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            max_fragments: 65_536,
            max_handshake_bytes: 16 << 10,
            max_handshake_headers: 100,
            handshake_timeout: Duration::from_secs(10),
            hold_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Duration::from_secs(20),
            idle_timeout: None,
            close_timeout: Duration::from_secs(5),
            max_pending_handshakes: 1024,
            high_water_bytes: 1 << 20,
            low_water_bytes: 256 << 10,
            max_backlog_bytes: 16 << 20,
            no_delay: true,
            stream_messages: false,
            deflate: None,
        }
    }
}

impl Config {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid), naming the field, what it was and
    /// what is allowed.
    pub fn validate(&self) -> Result<()> {
        let waters = [
            (
                "low_water_bytes",
                self.low_water_bytes,
                "high_water_bytes",
                self.high_water_bytes,
            ),
            (
                "high_water_bytes",
                self.high_water_bytes,
                "max_backlog_bytes",
                self.max_backlog_bytes,
            ),
        ];
        for (low_name, low, high_name, high) in waters {
            if low > high {
                return Err(Error::invalid(format!(
                    "{low_name} is {low}, which is more than {high_name}, {high}; expected at most that"
                )));
            }
        }
        let at_least_one = [
            ("max_fragments", u64::from(self.max_fragments)),
            (
                "max_pending_handshakes",
                u64::from(self.max_pending_handshakes),
            ),
            (
                "max_handshake_headers",
                u64::from(self.max_handshake_headers),
            ),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(Error::invalid(format!("{name} is 0; expected at least 1")));
            }
        }
        if self.max_handshake_bytes < 256 {
            return Err(Error::invalid(format!(
                "max_handshake_bytes is {}; expected at least 256, the size of a small request",
                self.max_handshake_bytes
            )));
        }
        let durations = [
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("hold_timeout", Some(self.hold_timeout)),
            ("ping_interval", self.ping_interval),
            ("ping_timeout", Some(self.ping_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("close_timeout", Some(self.close_timeout)),
        ];
        for (name, value) in durations {
            if value.is_some_and(|time| time.is_zero()) {
                return Err(Error::invalid(format!(
                    "{name} is 0; expected more than no time"
                )));
            }
        }
        self.deflate
            .as_ref()
            .map_or(Ok(()), DeflateOptions::validate)
    }
}

/// Which values of a request's `Origin` header a server accepts.
///
/// A request without the header does not come from a browser and is always accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// The Origin's host and effective port must equal those of the Host header. The scheme is
    /// ignored, because TLS may end in front of the server. The default.
    #[default]
    SameHost,
    /// The Origin must be one of these, such as `https://example.com`.
    List(Vec<String>),
    /// Every Origin is accepted, `null` too.
    Any,
}
