//! What an endpoint has written, read slowly: a head, then frames, by the letter of RFC 6455.
//!
//! Does not know: what it was to write.

use zlib_rs::{Inflate, InflateFlush};

/// Something an endpoint has written.
#[derive(Debug)]
pub(crate) enum Written<'a> {
    /// The status of a response, or 0 for a request.
    Head(u16),
    Message {
        is_text: bool,
        payload: &'a [u8],
        /// Frames after the first.
        continued: u32,
    },
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<u16>, &'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Frames,
    /// A response that opens nothing; the rest is its body.
    Body,
    /// A Close frame was written: nothing may follow.
    Closed,
}

/// A reader of one endpoint's output.
#[derive(Debug)]
pub(crate) struct Wire {
    is_client: bool,
    stage: Stage,
    bytes: Vec<u8>,
    /// Type, payload, frames after the first, and whether it is compressed.
    message: Option<(bool, Vec<u8>, u32, bool)>,
    unpacker: Option<Unpacker>,
}

/// What reads compressed messages (RFC 7692 §7.2.2).
struct Unpacker {
    stream: Inflate,
    takeover: bool,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpacker")
    }
}

impl Unpacker {
    fn unpack(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        if !self.takeover {
            self.stream.reset(false);
        }
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let (mut taken, mut all) = (0, Vec::new());
        let mut room = vec![0; 4096];
        loop {
            let before = (self.stream.total_in(), self.stream.total_out());
            let status =
                self.stream
                    .decompress(&input[taken..], &mut room, InflateFlush::SyncFlush);
            taken += (self.stream.total_in() - before.0) as usize;
            let made = (self.stream.total_out() - before.1) as usize;
            all.extend_from_slice(&room[..made]);
            if taken == input.len() && made < room.len() {
                return Ok(all);
            }
            if made == 0 {
                return Err(format!("a compressed message is damaged: {status:?}"));
            }
        }
    }
}

impl Wire {
    pub(crate) fn new(is_client: bool) -> Self {
        Self {
            is_client,
            stage: Stage::Head,
            bytes: Vec::new(),
            message: None,
            unpacker: None,
        }
    }

    /// Messages may be compressed from here on, with this window.
    pub(crate) fn expect_deflate(&mut self, window_bits: u8, takeover: bool) {
        self.unpacker = Some(Unpacker {
            stream: Inflate::new(false, window_bits),
            takeover,
        });
    }

    /// Whether everything so far is whole frames.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads on, and calls `visit` with each thing that is complete.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut visit: impl FnMut(Written<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while self.stage != Stage::Body && at < self.bytes.len() {
            let used = match self.stage {
                Stage::Head => self.head(&mut visit)?,
                Stage::Closed => return Err("something was written after a Close frame".to_owned()),
                Stage::Frames | Stage::Body => self.frame(at, &mut visit)?,
            };
            match used {
                Some(used) => at += used,
                None => break,
            }
        }
        if self.stage == Stage::Body {
            at = self.bytes.len();
        }
        self.bytes.drain(..at);
        Ok(())
    }

    fn head(
        &mut self,
        visit: &mut impl FnMut(Written<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let end = self
            .bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&self.bytes[..end]).map_err(|error| error.to_string())?;
        let status = if self.is_client {
            if !text.starts_with("GET /") {
                return Err(format!("a request begins with {text:?}"));
            }
            0
        } else {
            let status = text
                .strip_prefix("HTTP/1.1 ")
                .and_then(|rest| rest.get(..3));
            status
                .and_then(|status| status.parse().ok())
                .ok_or_else(|| format!("a response begins with {text:?}"))?
        };
        visit(Written::Head(status))?;
        self.stage = if matches!(status, 0 | 101) {
            Stage::Frames
        } else {
            Stage::Body
        };
        Ok(Some(end + 4))
    }

    fn frame(
        &mut self,
        at: usize,
        visit: &mut impl FnMut(Written<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let bytes = &self.bytes[at..];
        let [first, second, ..] = *bytes else {
            return Ok(None);
        };
        if (second & 0x80 != 0) != self.is_client {
            return Err("a frame is masked, or not, by the wrong role".to_owned());
        }
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key_at = 2 + extended;
        let start = key_at + if self.is_client { 4 } else { 0 };
        if bytes.len() < start {
            return Ok(None);
        }
        let len = match extended {
            0 => usize::from(second & 0x7f),
            _ => bytes[2..key_at]
                .iter()
                .fold(0, |len, &octet| len << 8 | usize::from(octet)),
        };
        if extended == 2 && len < 126 || extended == 8 && len < 0x1_0000 {
            return Err(format!("a length of {len} is written in {extended} octets"));
        }
        if bytes.len() < start + len {
            return Ok(None);
        }
        let mut payload = bytes[start..start + len].to_vec();
        if self.is_client {
            let key = &bytes[key_at..start];
            for (octet, key) in payload.iter_mut().zip(key.iter().cycle()) {
                *octet ^= key;
            }
        }
        self.judge(first, payload, visit)?;
        Ok(Some(start + len))
    }

    fn judge(
        &mut self,
        first: u8,
        payload: Vec<u8>,
        visit: &mut impl FnMut(Written<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let compressed = first & 0x40 != 0;
        let may_be = self.unpacker.is_some() && matches!(opcode, 1 | 2);
        if first & 0x30 != 0 || (compressed && !may_be) {
            return Err(format!("a frame begins with {first:#x}"));
        }
        if opcode >= 8 && (!fin || payload.len() > 125) {
            return Err("a control frame is fragmented or too long".to_owned());
        }
        match opcode {
            0..=2 => {
                let (is_text, mut all, continued, compressed) = match (opcode, self.message.take())
                {
                    (0, Some((is_text, mut all, continued, compressed))) => {
                        all.extend_from_slice(&payload);
                        (is_text, all, continued + 1, compressed)
                    }
                    (1 | 2, None) => (opcode == 1, payload, 0, compressed),
                    _ => return Err("a message is interleaved with another".to_owned()),
                };
                if !fin {
                    self.message = Some((is_text, all, continued, compressed));
                    return Ok(());
                }
                if let Some(unpacker) = self.unpacker.as_mut().filter(|_| compressed) {
                    all = unpacker.unpack(&all)?;
                }
                visit(Written::Message {
                    is_text,
                    payload: &all,
                    continued,
                })
            }
            8 => {
                self.stage = Stage::Closed;
                match payload[..] {
                    [] => visit(Written::Close(None, b"")),
                    [high, low, ref reason @ ..] => visit(Written::Close(
                        Some(u16::from_be_bytes([high, low])),
                        reason,
                    )),
                    [_] => Err("a Close frame has half a code".to_owned()),
                }
            }
            9 => visit(Written::Ping(&payload)),
            10 => visit(Written::Pong(&payload)),
            _ => Err(format!("a frame begins with {first:#x}")),
        }
    }
}
