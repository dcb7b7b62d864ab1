//! Bytes that wait to be written: one buffer for each connection that has any, from one pool.
//!
//! A connection that has written everything owns no buffer.
//!
//! Does not know: sockets, or whose bytes they are.

use core::num::NonZeroU32;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::error::{Error, ErrorKind, Result};
use crate::event::Role;
use crate::protocol::frame::Header;

/// Buffers above this capacity are not kept for later.
const KEEP_EACH: usize = 256 << 10;
/// Most capacity kept for later.
const KEEP_TOTAL: usize = 4 << 20;
/// What was written is moved out of the way only when it is this much.
const COMPACT: usize = 64 << 10;

/// Bytes of one connection that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// How much of `bytes` was written; `written <= bytes.len()`.
    written: usize,
    /// How much of the beginning of `bytes` is not whole frames: a head, or the rest of a frame.
    lead: usize,
    /// Whether the lead is the rest of a message.
    lead_is_message: bool,
    /// Payloads that are written from where they are, in order.
    shared: VecDeque<Shared>,
    /// How much of them is not written.
    shared_len: usize,
    /// Messages that were in here and will not be written.
    discarded: u64,
}

/// The payload of a whole message, which is not copied.
#[derive(Debug)]
struct Shared {
    /// Where in `bytes` its place is: behind its header.
    at: usize,
    /// What of it is not written.
    data: Bytes,
}

/// Most slices that one write is given.
const MAX_SLICES: usize = 64;

/// What is to be written first.
pub(crate) struct Slices<'a> {
    all: [IoSlice<'a>; MAX_SLICES],
    count: usize,
}

impl<'a> Slices<'a> {
    pub(crate) fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.all[..self.count]
    }

    fn push(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() && self.count < MAX_SLICES {
            self.all[self.count] = IoSlice::new(bytes);
            self.count += 1;
        }
    }
}

impl Output {
    /// Where to append.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What is to be written, if it is in one piece.
    #[inline]
    pub(crate) fn unsent(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.bytes[self.written..])
    }

    /// What is to be written, or as much as one write is given.
    pub(crate) fn slices(&self) -> Slices<'_> {
        let mut slices = Slices {
            all: [IoSlice::new(&[]); MAX_SLICES],
            count: 0,
        };
        let mut at = self.written;
        for shared in &self.shared {
            slices.push(&self.bytes[at..shared.at]);
            slices.push(&shared.data);
            at = shared.at;
        }
        slices.push(&self.bytes[at..]);
        slices
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written + self.shared_len
    }

    /// Appends a payload that is not copied, behind its header.
    pub(crate) fn append_shared(&mut self, data: Bytes) {
        self.shared_len += data.len();
        let at = self.bytes.len();
        self.shared.push_back(Shared { at, data });
    }

    /// Takes note that `count` bytes were written.
    #[inline]
    pub(crate) fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.len());
        if !self.shared.is_empty() {
            count = self.advance_shared(count);
        }
        self.written += count;
    }

    /// Takes note of as much as is in front of the last shared payload's end, and tells the rest.
    fn advance_shared(&mut self, mut count: usize) -> usize {
        while let Some(shared) = self.shared.front_mut() {
            let before = count.min(shared.at - self.written);
            self.written += before;
            count -= before;
            let taken = count.min(shared.data.len());
            if self.written < shared.at {
                break;
            }
            shared.data.advance(taken);
            self.shared_len -= taken;
            count -= taken;
            if !shared.data.is_empty() {
                break;
            }
            // The frames in `bytes` are walked from here on: this one's payload is not there.
            self.lead = shared.at;
            self.lead_is_message = false;
            self.shared.pop_front();
        }
        count
    }

    /// Takes note that what is in here so far is not frames.
    pub(crate) fn mark_lead(&mut self) {
        self.lead = self.bytes.len();
        self.lead_is_message = false;
    }

    /// Appends the rest of a frame of which everything before was written.
    pub(crate) fn append_rest(&mut self, rest: &[u8]) -> Result<()> {
        debug_assert!(self.shared.is_empty());
        self.bytes.clear();
        self.written = 0;
        self.reserve(rest.len())?;
        self.bytes.extend_from_slice(rest);
        self.lead = rest.len();
        self.lead_is_message = true;
        Ok(())
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        self.bytes.try_reserve(count).map_err(|_| {
            let detail = format!("no memory for {count} bytes that the kernel does not take yet");
            Error::new(ErrorKind::NoMemory, detail)
        })
    }

    /// Appends a payload behind its header.
    pub(crate) fn append_payload(&mut self, payload: &[u8]) -> Result<()> {
        self.reserve(payload.len())?;
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    /// Moves what was written out of the way when that is most of the buffer.
    pub(crate) fn compact(&mut self, sender: Role) {
        if self.written < COMPACT || self.written < self.bytes.len() / 2 {
            return;
        }
        let (start, is_message) = self.boundary(sender);
        self.bytes.drain(..self.written);
        for shared in &mut self.shared {
            shared.at -= self.written;
        }
        self.lead = start - self.written;
        self.lead_is_message = is_message;
        self.written = 0;
    }

    /// Forgets what waits, but for how many messages that are.
    pub(crate) fn discard(&mut self, sender: Role) {
        *self = Self {
            discarded: self.messages(sender),
            ..Self::default()
        };
    }

    /// How many messages are not wholly written.
    pub(crate) fn messages(&self, sender: Role) -> u64 {
        let mut count = u64::from(self.lead_is_message && self.lead > self.written);
        count += self.discarded + self.shared.len() as u64;
        self.walk(sender, |end, is_message| {
            count += u64::from(is_message && end > self.written);
            true
        });
        count
    }

    /// The first frame boundary at or after what was written, and whether the frame that ends
    /// there is the end of a message.
    fn boundary(&self, sender: Role) -> (usize, bool) {
        if self.lead >= self.written {
            return (self.lead, self.lead_is_message);
        }
        let mut found = (self.written, false);
        self.walk(sender, |end, is_message| {
            found = (end, is_message && end > self.written);
            end < self.written
        });
        found
    }

    /// Calls `visit` with the end of each frame and whether it ends a message, while it wants more.
    fn walk(&self, sender: Role, mut visit: impl FnMut(usize, bool) -> bool) {
        let receiver = match sender {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let mut at = self.lead;
        let mut shared = (self.shared.iter())
            .filter(|shared| shared.at > self.lead)
            .peekable();
        while let Ok(Some((header, used))) =
            Header::parse(self.bytes.get(at..).unwrap_or_default(), receiver, true)
        {
            at += used;
            let is_elsewhere = shared.next_if(|shared| shared.at == at).is_some();
            if !is_elsewhere {
                at += usize::try_from(header.len).unwrap_or(usize::MAX - at);
            }
            // Those that are elsewhere are counted there.
            let is_message = header.fin && !header.opcode.is_control() && !is_elsewhere;
            if !visit(at, is_message) {
                return;
            }
        }
    }
}

/// The number of an [`Output`] in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputId(
    /// One more than the index, so that an absent output costs no space.
    NonZeroU32,
);

impl OutputId {
    #[inline]
    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// All outputs of a loop.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    all: Vec<Output>,
    free: Vec<OutputId>,
    /// Capacity of the free ones.
    kept: usize,
}

impl Outputs {
    /// An empty output.
    pub(crate) fn take(&mut self) -> OutputId {
        if let Some(id) = self.free.pop() {
            self.kept -= self.all[id.index()].bytes.capacity();
            return id;
        }
        self.all.push(Output::default());
        // A loop has fewer outputs than connections, whose indices are 32 bits wide.
        OutputId(NonZeroU32::MIN.saturating_add((self.all.len() - 1) as u32))
    }

    /// Takes an output back, with what may still be in it.
    pub(crate) fn give_back(&mut self, id: OutputId) {
        let output = &mut self.all[id.index()];
        output.shared.clear();
        output.shared_len = 0;
        output.discarded = 0;
        let capacity = output.bytes.capacity();
        if capacity > KEEP_EACH || self.kept + capacity > KEEP_TOTAL {
            *output = Output::default();
        } else {
            output.bytes.clear();
            output.written = 0;
            output.lead = 0;
            output.lead_is_message = false;
            self.kept += capacity;
        }
        self.free.push(id);
    }

    #[inline]
    pub(crate) fn get(&self, id: OutputId) -> &Output {
        &self.all[id.index()]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: OutputId) -> &mut Output {
        &mut self.all[id.index()]
    }

    /// Bytes that wait in all outputs.
    pub(crate) fn buffered(&self) -> u64 {
        self.all.iter().map(|output| output.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{Opcode, append_frame, append_header};

    #[test]
    fn messages_not_wholly_written_are_counted_at_every_byte() {
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"HTTP/1.1 101\r\n\r\n");
        output.mark_lead();
        let mut ends = Vec::new();
        for (fin, opcode, len) in [
            (true, Opcode::Text, 5),
            (false, Opcode::Binary, 200),
            (true, Opcode::Ping, 3),
            (true, Opcode::Continuation, 0),
            (true, Opcode::Binary, 70_000),
        ] {
            append_frame(output.bytes(), fin, opcode, false, &vec![7; len], None).unwrap();
            if fin && !opcode.is_control() {
                ends.push(output.len());
            }
        }
        for written in 0..=output.len() {
            output.written = written;
            let expected = ends.iter().filter(|&&end| end > written).count() as u64;
            assert_eq!(output.messages(Role::Server), expected, "{written} written");
        }
    }

    #[test]
    fn moving_written_bytes_away_loses_nothing() {
        let mut output = Output::default();
        let mut sent = Vec::new();
        let mut all = Vec::new();
        for i in 0..200u32 {
            let mut frame = Vec::new();
            append_frame(
                &mut frame,
                true,
                Opcode::Binary,
                false,
                &vec![i as u8; 1000 + i as usize],
                Some([1, 2, 3, 4]),
            )
            .unwrap();
            all.extend_from_slice(&frame);
            output.bytes().extend_from_slice(&frame);
            let before = output.messages(Role::Client);
            output.compact(Role::Client);
            assert_eq!(output.messages(Role::Client), before);
            let count = output.len().min(900);
            sent.extend_from_slice(&output.unsent().unwrap()[..count]);
            output.advance(count);
        }
        sent.extend_from_slice(output.unsent().unwrap());
        assert!(sent == all);
        assert!(output.bytes.len() < all.len());
    }

    #[test]
    fn the_rest_of_a_direct_write_counts_as_one_message() {
        let mut output = Output::default();
        output.append_rest(&[9; 5000]).unwrap();
        append_frame(output.bytes(), true, Opcode::Text, false, b"next", None).unwrap();
        assert_eq!(output.messages(Role::Server), 2);
        output.advance(5000);
        assert_eq!(output.messages(Role::Server), 1);
    }

    #[test]
    fn shared_payloads_are_written_in_their_places_whatever_a_write_takes() {
        for step in [1, 7, 999, 4096, 70_000] {
            let (mut output, mut all, mut sent) = (Output::default(), Vec::new(), Vec::new());
            // Ends of messages in everything that was ever queued.
            let mut ends = Vec::new();
            for i in 0..60usize {
                let payload = vec![i as u8; 5000 + i];
                if i % 3 == 0 {
                    append_header(
                        output.bytes(),
                        true,
                        Opcode::Text,
                        true,
                        payload.len(),
                        None,
                    )
                    .unwrap();
                    append_header(&mut all, true, Opcode::Text, true, payload.len(), None).unwrap();
                    all.extend_from_slice(&payload);
                    output.append_shared(Bytes::from(payload));
                } else {
                    append_frame(output.bytes(), true, Opcode::Text, false, &payload, None)
                        .unwrap();
                    append_frame(&mut all, true, Opcode::Text, false, &payload, None).unwrap();
                }
                ends.push(all.len());
                assert_eq!(output.len(), all.len() - sent.len());
                for _ in 0..i % 4 {
                    let mut taken = 0;
                    for slice in output.slices().as_slice() {
                        let count = slice.len().min(step * 3 - taken);
                        sent.extend_from_slice(&slice[..count]);
                        taken += count;
                    }
                    output.advance(taken);
                    let left = ends.iter().filter(|&&end| end > sent.len()).count() as u64;
                    assert_eq!(output.messages(Role::Server), left);
                    output.compact(Role::Server);
                    assert_eq!(output.messages(Role::Server), left);
                }
            }
            while output.len() > 0 {
                let count = {
                    let slices = output.slices();
                    let first = &slices.as_slice()[0];
                    let count = first.len().min(step);
                    sent.extend_from_slice(&first[..count]);
                    count
                };
                output.advance(count);
            }
            assert!(sent == all && output.shared.is_empty());
            assert_eq!(output.messages(Role::Server), 0);
        }
    }

    #[test]
    fn what_is_discarded_still_counts() {
        let mut outputs = Outputs::default();
        let id = outputs.take();
        let output = outputs.get_mut(id);
        for round in 1..=3 {
            append_frame(output.bytes(), true, Opcode::Text, false, b"text", None).unwrap();
            append_frame(output.bytes(), true, Opcode::Ping, false, b"ping", None).unwrap();
            output.discard(Role::Server);
            assert_eq!((output.len(), output.messages(Role::Server)), (0, round));
        }
        outputs.give_back(id);
        assert_eq!(outputs.take(), id);
        assert_eq!(outputs.get(id).messages(Role::Server), 0);
    }

    #[test]
    fn the_pool_keeps_a_bounded_amount() {
        let mut outputs = Outputs::default();
        let ids: Vec<_> = (0..100).map(|_| outputs.take()).collect();
        for &id in &ids {
            outputs.get_mut(id).bytes().resize(200 << 10, 0);
        }
        assert_eq!(outputs.buffered(), 100 * (200 << 10));
        for id in ids {
            outputs.give_back(id);
        }
        let capacity: usize = outputs
            .all
            .iter()
            .map(|output| output.bytes.capacity())
            .sum();
        assert!(capacity <= KEEP_TOTAL && outputs.kept == capacity);
        assert_eq!(outputs.buffered(), 0);
    }
}
