//! Putting a message together from what has come of it, in one buffer that grows with what came
//! and not with what was promised.
//!
//! Does not know: frame headers, masks' origin, or connections.

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Message, MessageType};
use crate::protocol::utf8::{Utf8, already_checked};

/// Least capacity a buffer for an incomplete message asks for.
const FIRST_RESERVE: usize = 64 << 10;
/// Buffers above this are not kept.
const KEEP_EACH: usize = 4 << 20;
/// Most bytes kept for later messages.
const KEEP_TOTAL: usize = 8 << 20;

/// Empty buffers of messages that were split, kept for the next ones. One serves all connections
/// of a loop.
#[derive(Debug, Default)]
pub struct Buffers {
    free: Vec<Vec<u8>>,
    /// Sum of the capacities in `free`; `kept <= KEEP_TOTAL`.
    kept: usize,
}

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.kept -= buffer.capacity();
        buffer
    }

    fn put_back(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity != 0 && capacity <= KEEP_EACH && self.kept + capacity <= KEEP_TOTAL {
            buffer.clear();
            self.kept += capacity;
            self.free.push(buffer);
        }
    }
}

/// A message of which not all has come.
#[derive(Debug)]
pub(crate) struct Assembly {
    message_type: MessageType,
    data: Vec<u8>,
    /// Frames that came after the first one.
    fragments: u32,
    /// Has seen all of `data` if the message is text.
    utf8: Utf8,
}

impl Assembly {
    pub(crate) fn new(message_type: MessageType, buffers: &mut Buffers) -> Self {
        Self {
            message_type,
            data: buffers.take(),
            fragments: 0,
            utf8: Utf8::default(),
        }
    }

    pub(crate) fn recycle(self, buffers: &mut Buffers) {
        buffers.put_back(self.data);
    }

    /// Admits a frame of `len` octets, before anything is reserved for it.
    pub(crate) fn admit(&mut self, len: u64, max_bytes: u64) -> Result<()> {
        let total = (self.data.len() as u64).saturating_add(len);
        if total > max_bytes {
            return Err(too_big(total, max_bytes));
        }
        Ok(())
    }

    /// Counts a frame that continues the message.
    pub(crate) fn count_fragment(&mut self, max_fragments: u32) -> Result<()> {
        if self.fragments == max_fragments {
            return Err(Error::new(
                ErrorKind::TooManyFragments,
                format!(
                    "the message is continued by more fragments than max_fragments, {max_fragments}"
                ),
            ));
        }
        self.fragments += 1;
        Ok(())
    }

    /// The buffer with room for some of the next `left` octets.
    ///
    /// The capacity is at most what is needed, and at most the larger of [`FIRST_RESERVE`] and
    /// twice what has come.
    pub(crate) fn room(&mut self, left: usize) -> Result<&mut Vec<u8>> {
        let len = self.data.len();
        if self.data.capacity() == len {
            let wanted = left.min(FIRST_RESERVE.max(len * 2) - len);
            self.data.try_reserve_exact(wanted).map_err(|_| {
                Error::new(
                    ErrorKind::NoMemory,
                    format!("no memory for a message of {} bytes", len + left),
                )
            })?;
        }
        Ok(&mut self.data)
    }

    /// The octets from `start` on; a caller that wrote them unmasks them here.
    pub(crate) fn tail(&mut self, start: usize) -> &mut [u8] {
        &mut self.data[start..]
    }

    /// Validates what was appended from `start` on (RFC 6455 §8.1).
    pub(crate) fn validate(&mut self, start: usize) -> Result<()> {
        if self.message_type == MessageType::Text {
            self.utf8
                .feed(&self.data[start..])
                .map_err(|_| not_utf8())?;
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The message, of which everything has come.
    pub(crate) fn finish(&self) -> Result<Message<'_>> {
        if self.message_type == MessageType::Binary {
            return Ok(Message::Binary(&self.data));
        }
        if !self.utf8.is_complete() {
            return Err(not_utf8());
        }
        // SAFETY: `validate` was called with every range that was appended to `data`, in order,
        // and an error of it ends the connection before anything is delivered.
        Ok(Message::Text(unsafe { already_checked(&self.data) }))
    }
}

/// The error of a message above the limit.
pub(crate) fn too_big(len: u64, max_bytes: u64) -> Error {
    Error::new(
        ErrorKind::MessageTooBig,
        format!("the message has at least {len} bytes, more than max_message_bytes, {max_bytes}"),
    )
}

/// The error of text that is not UTF-8.
pub(crate) fn not_utf8() -> Error {
    Error::new(
        ErrorKind::InvalidText,
        "the text is not UTF-8 (RFC 6455 §8.1)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_what_has_come() {
        let mut assembly = Assembly::new(MessageType::Binary, &mut Buffers::default());
        let declared = 16usize << 20;
        while assembly.len() < declared {
            let left = declared - assembly.len();
            let room = assembly.room(left).unwrap();
            room.push(0);
            let (len, capacity) = (room.len(), room.capacity());
            assert!(
                capacity <= FIRST_RESERVE.max(2 * len),
                "{capacity} at {len}"
            );
            room.resize(capacity.min(declared), 0);
        }
        assert_eq!(assembly.finish().unwrap().as_bytes().len(), declared);
    }

    #[test]
    fn kept_buffers_are_bounded() {
        let mut buffers = Buffers::default();
        for _ in 0..100 {
            buffers.put_back(Vec::with_capacity(1 << 20));
        }
        buffers.put_back(Vec::with_capacity(KEEP_EACH + 1));
        assert!(buffers.kept <= KEEP_TOTAL);
        assert_eq!(
            buffers.free.iter().map(Vec::capacity).sum::<usize>(),
            buffers.kept
        );
        let count = buffers.free.len();
        for _ in 0..count + 1 {
            buffers.take();
        }
        assert_eq!(buffers.kept, 0);
    }
}
