//! Putting a message together from what has come of it, in one buffer that grows with what came
//! and not with what was promised, decompressing it on the way.
//!
//! Does not know: frame headers, masks' origin, or connections.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Chunk, Message, MessageType};
use crate::protocol::deflate::{INFLATER_BYTES, Inflater, Inflaters, Window};
use crate::protocol::utf8::{Utf8, already_checked};

/// Least capacity a buffer for an incomplete message asks for.
const FIRST_RESERVE: usize = 64 << 10;
/// Buffers above this are not kept.
const KEEP_EACH: usize = 4 << 20;
/// Most bytes kept for later messages.
const KEEP_TOTAL: usize = 8 << 20;

/// What the connections of a loop share for receiving: empty buffers of messages that were split,
/// kept for the next ones, and decompressors.
#[derive(Debug, Default)]
pub struct Buffers {
    free: Vec<Vec<u8>>,
    /// Sum of the capacities in `free`; `kept <= KEEP_TOTAL`.
    kept: usize,
    inflaters: Inflaters,
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
    /// What has come and was not given out in a chunk.
    data: Vec<u8>,
    /// How much was given out in chunks.
    given: u64,
    /// Frames that came after the first one.
    fragments: u32,
    /// Has seen all of `data` if the message is text.
    utf8: Utf8,
    /// Of a compressed message.
    inflater: Option<Inflater>,
    /// Length of the frames of a compressed message so far.
    compressed: u64,
    /// Whether a chunk was given out.
    begun: bool,
}

impl Assembly {
    /// `window` is what a compressed message may refer back to.
    pub(crate) fn new(
        message_type: MessageType,
        window: Option<&Window>,
        buffers: &mut Buffers,
    ) -> Result<Self> {
        let inflater = match window {
            Some(window) => Some(buffers.inflaters.take(window.data())?),
            None => None,
        };
        Ok(Self {
            message_type,
            data: buffers.take(),
            given: 0,
            fragments: 0,
            utf8: Utf8::default(),
            inflater,
            compressed: 0,
            begun: false,
        })
    }

    pub(crate) fn recycle(self, buffers: &mut Buffers) {
        buffers.put_back(self.data);
        if let Some(inflater) = self.inflater {
            buffers.inflaters.put_back(inflater);
        }
    }

    /// Admits a frame of `len` octets, before anything is reserved for it.
    pub(crate) fn admit(&mut self, len: u64, max_bytes: u64) -> Result<()> {
        if self.inflater.is_some() {
            self.compressed = self.compressed.saturating_add(len);
            // What no compressor adds to a message that it cannot make smaller.
            let most = max_bytes.saturating_add(max_bytes / 8 + (1 << 20));
            if self.compressed > most {
                return Err(too_big(self.compressed, max_bytes));
            }
            return Ok(());
        }
        let total = (self.given + self.data.len() as u64).saturating_add(len);
        if total > max_bytes {
            return Err(too_big(total, max_bytes));
        }
        Ok(())
    }

    /// The decompressor, of a compressed message.
    pub(crate) fn inflater(&mut self) -> Option<&mut Inflater> {
        self.inflater.as_mut()
    }

    /// Decompresses some of what has come; `window` is what was before the message, and what was
    /// given of it in chunks.
    ///
    /// However the input is cut, the first octet that breaks a rule or a limit decides.
    pub(crate) fn inflate(&mut self, window: &Window, config: &Config) -> Result<()> {
        let Some(inflater) = &mut self.inflater else {
            return Ok(());
        };
        let start = self.data.len();
        let made = inflater.step(window, &self.data)?;
        let max_ratio = config
            .deflate
            .as_ref()
            .and_then(|deflate| deflate.max_ratio);
        let by_ratio = max_ratio.map_or(u64::MAX, |ratio| {
            self.compressed.saturating_mul(u64::from(ratio))
        });
        let most = by_ratio.min(config.max_message_bytes);
        let left = most.saturating_sub(self.given + start as u64);
        let fits = made.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let exceeds = fits < made.len();
        self.data
            .try_reserve(fits)
            .map_err(|_| no_memory(start + fits))?;
        self.data.extend_from_slice(&made[..fits]);
        self.validate(start)?;
        match max_ratio {
            _ if !exceeds => Ok(()),
            Some(ratio) if by_ratio < config.max_message_bytes => Err(Error::new(
                ErrorKind::MessageTooBig,
                format!(
                    "the message becomes more than max_ratio, {ratio}, times as large as the {} bytes it came in",
                    self.compressed
                ),
            )),
            _ => Err(too_big(most + 1, config.max_message_bytes)),
        }
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
            self.data
                .try_reserve_exact(wanted)
                .map_err(|_| no_memory(len.saturating_add(left)))?;
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

    /// Memory that it takes.
    pub(crate) fn held(&self) -> usize {
        let inflater = if self.inflater.is_some() {
            INFLATER_BYTES
        } else {
            0
        };
        self.data.capacity() + inflater
    }

    /// Whether it takes more when `left` octets more come.
    pub(crate) fn grows_by(&self, left: u64) -> bool {
        self.inflater.is_some() || left > (self.data.capacity() - self.data.len()) as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Ends the message, all of which has come.
    pub(crate) fn end(&mut self) -> Result<()> {
        // A message of no octets at all is no deflate stream, but what is meant is clear.
        if let Some(inflater) = &mut self.inflater
            && self.compressed > 0
        {
            inflater.finish()?;
        }
        if self.message_type == MessageType::Text && !self.utf8.is_complete() {
            return Err(not_utf8());
        }
        Ok(())
    }

    /// What a next message may refer back to is this one, too, when it is given out.
    pub(crate) fn remember(&self, window: &mut Window) -> Result<()> {
        match &self.inflater {
            Some(_) => window.slide(&self.data[..self.chunk_len()]),
            None => Ok(()),
        }
    }

    /// The message, which has ended.
    pub(crate) fn message(&self) -> Message<'_> {
        let data = &self.data[..self.chunk_len()];
        match self.message_type {
            MessageType::Binary => Message::Binary(data),
            // SAFETY: `validate` was called with every range that was appended to `data`, in order,
            // and an error of it ends the connection before anything is delivered; the octets of an
            // unfinished character are at the end and left out, and so they were in the chunks
            // before.
            MessageType::Text => Message::Text(unsafe { already_checked(data) }),
        }
    }

    /// How much can be given out in a chunk: whole characters.
    pub(crate) fn chunk_len(&self) -> usize {
        self.data.len().saturating_sub(self.utf8.unfinished())
    }

    /// What has come since the last chunk.
    pub(crate) fn chunk(&self, last: bool) -> Chunk<'_> {
        Chunk {
            data: self.message(),
            first: !self.begun,
            last,
        }
    }

    /// Takes a kept buffer again, after that of a chunk was given back.
    pub(crate) fn take_buffer(&mut self, buffers: &mut Buffers) {
        if self.begun && self.data.capacity() == 0 {
            self.data = buffers.take();
        }
    }

    /// Forgets a chunk that was given out; more is to come.
    pub(crate) fn chunk_given(&mut self, buffers: &mut Buffers) {
        let len = self.chunk_len();
        self.given += len as u64;
        self.begun = true;
        self.data.drain(..len);
        if self.data.is_empty() {
            buffers.put_back(core::mem::take(&mut self.data));
        }
    }
}

/// The error of a message above the limit.
pub(crate) fn too_big(len: u64, max_bytes: u64) -> Error {
    Error::new(
        ErrorKind::MessageTooBig,
        format!("the message has at least {len} bytes, more than max_message_bytes, {max_bytes}"),
    )
}

#[cold]
fn no_memory(len: usize) -> Error {
    Error::new(
        ErrorKind::NoMemory,
        format!("no memory for a message of {len} bytes"),
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
        let mut assembly =
            Assembly::new(MessageType::Binary, None, &mut Buffers::default()).unwrap();
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
        assert_eq!(assembly.message().as_bytes().len(), declared);
    }

    #[test]
    fn the_chunks_of_a_message_need_one_buffer() {
        let mut buffers = Buffers::default();
        let mut assembly = Assembly::new(MessageType::Binary, None, &mut buffers).unwrap();
        for _ in 0..100 {
            assembly.take_buffer(&mut buffers);
            assembly.room(1 << 20).unwrap().push(7);
            assembly.chunk_given(&mut buffers);
        }
        assert_eq!((buffers.free.len(), buffers.kept), (1, FIRST_RESERVE));
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
