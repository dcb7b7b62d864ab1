//! Replies that are part of what was just received: written from where they lie, without a copy.
//!
//! While a connection's input is handed out, a large payload that it sends back to where it came
//! from is only noted: which range of the input goes where in the output. When all events are
//! handed out, headers and ranges are written together, and only what the kernel does not take is
//! copied.
//!
//! Does not know: how the input was received, or what is in it.

use core::ops::Range;
use std::io::IoSlice;

use crate::error::Result;
use crate::event::MessageType;
use crate::net::context::Context;
use crate::net::number::ConnId;
use crate::net::output::Output;
use crate::net::poller::Interest;
use crate::net::writing::Sent;

/// Payloads below this are copied: that costs less than a part of a write.
pub(crate) const LEAST: usize = 4 << 10;
/// Most ranges in one write.
const MOST: usize = 64;

/// The input that is being handed out, and which of it is to be written.
#[derive(Default)]
pub(crate) struct Lending {
    /// Whose input it is; absent while none is handed out.
    conn: Option<ConnId>,
    /// The addresses of the input.
    input: Range<usize>,
    ranges: Vec<Lent>,
}

/// A range of the input that belongs into the output.
struct Lent {
    /// The index in the output's own bytes before which it belongs.
    at: usize,
    range: Range<usize>,
}

impl Lending {
    /// Begins to hand out input.
    pub(crate) fn begin(&mut self, id: ConnId, input: &[u8]) {
        self.conn = Some(id);
        self.input = input.as_ptr_range().start.addr()..input.as_ptr_range().end.addr();
        self.ranges.clear();
    }

    /// How many messages wait for the end of the handing out.
    pub(crate) fn count(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// Where in the input of `id` a payload lies, if it does.
    fn find(&self, id: ConnId, payload: &[u8]) -> Option<Range<usize>> {
        let addresses = payload.as_ptr_range();
        let (start, end) = (addresses.start.addr(), addresses.end.addr());
        let inside = self.input.start <= start && end <= self.input.end;
        if self.conn != Some(id) || !inside || self.ranges.len() == MOST {
            return None;
        }
        Some(start - self.input.start..end - self.input.start)
    }
}

impl Context {
    /// Sends a large payload that is part of the input at hand, if it is one; `None` if not.
    pub(crate) fn send_lent(
        &mut self,
        id: ConnId,
        message_type: MessageType,
        payload: &[u8],
    ) -> Option<Result<Sent>> {
        let range = self.lending.find(id, payload)?;
        let len = payload.len();
        let mut sent = self.send_with(id, len, |send, tools| {
            send.plain_header(message_type, len, tools.out)
        });
        if sent.is_ok() {
            self.stats.messages_sent += 1;
            let output = self.output(id);
            output.lend(len);
            let at = output.bytes().len();
            self.lending.ranges.push(Lent { at, range });
            sent = Ok(self.press(id));
        }
        Some(sent)
    }

    /// Writes what was lent of `input`, with everything around it, and ends the handing out.
    pub(crate) fn write_lent(&mut self, id: ConnId, input: &[u8]) {
        self.lending.conn = None;
        if self.lending.ranges.is_empty() {
            return;
        }
        let ranges = std::mem::take(&mut self.lending.ranges);
        self.write_ranges(id, input, &ranges);
        // Kept for the next input.
        self.lending.ranges = ranges;
        self.lending.ranges.clear();
    }

    fn write_ranges(&mut self, id: ConnId, input: &[u8], ranges: &[Lent]) {
        let Some(slot) = self.slots.get(id) else {
            return;
        };
        let (Some(output), Some(socket)) = (slot.output, &slot.socket) else {
            return;
        };
        let output = self.outputs.get_mut(output);
        if !output.has_lent() {
            // What was lent from has ended meanwhile.
            return;
        }
        let mut parts = [IoSlice::new(&[]); 2 * MOST + 1];
        let count = interleave(output, input, ranges, &mut parts);
        let taken = match socket.send_many(&parts[..count]) {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                self.poller.blocked(id.as_u64(), Interest::WRITE);
                0
            }
            Err(error) => return self.broken(id, &error),
        };
        self.stats.bytes_sent += taken as u64;
        if taken == output.len() {
            output.clear();
        } else {
            take_in(output, input, ranges);
            output.advance(taken);
        }
        self.after_write(id, taken);
    }
}

/// Lays out the output's own unsent bytes and the ranges in their order; tells how many parts
/// there are.
fn interleave<'a>(
    output: &'a Output,
    input: &'a [u8],
    ranges: &[Lent],
    parts: &mut [IoSlice<'a>; 2 * MOST + 1],
) -> usize {
    let own = output.unsent();
    // Nothing is written while something is lent, so the own bytes begin where they did.
    let skipped = output.written();
    let mut from = 0;
    let mut count = 0;
    for lent in ranges {
        parts[count] = IoSlice::new(&own[from..lent.at - skipped]);
        parts[count + 1] = IoSlice::new(&input[lent.range.clone()]);
        from = lent.at - skipped;
        count += 2;
    }
    parts[count] = IoSlice::new(&own[from..]);
    count + 1
}

/// Copies the ranges into the output, which then has everything itself.
fn take_in(output: &mut Output, input: &[u8], ranges: &[Lent]) {
    let own = std::mem::take(output.bytes());
    let mut all = Vec::with_capacity(own.len() + output.lent());
    let mut from = 0;
    for lent in ranges {
        all.extend_from_slice(&own[from..lent.at]);
        all.extend_from_slice(&input[lent.range.clone()]);
        from = lent.at;
    }
    all.extend_from_slice(&own[from..]);
    *output.bytes() = all;
    output.lend_none();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stand_where_they_belong() {
        let input: Vec<u8> = (0..100).collect();
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"old head1");
        output.advance(4);
        output.lend(3);
        let first = Lent {
            at: 9,
            range: 10..13,
        };
        output.bytes().extend_from_slice(b"head2");
        output.lend(2);
        let second = Lent {
            at: 14,
            range: 0..2,
        };
        output.bytes().extend_from_slice(b"tail");
        let ranges = [first, second];
        let mut parts = [IoSlice::new(&[]); 2 * MOST + 1];
        let count = interleave(&output, &input, &ranges, &mut parts);
        let together: Vec<u8> = parts[..count]
            .iter()
            .flat_map(|part| part.to_vec())
            .collect();
        assert_eq!(together, b"head1\x0a\x0b\x0chead2\x00\x01tail");
        assert_eq!(together.len(), output.len());
        take_in(&mut output, &input, &ranges);
        assert_eq!(output.unsent(), together);
        assert_eq!(output.len(), together.len());
    }
}
