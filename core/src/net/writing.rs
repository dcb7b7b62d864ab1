//! Sending: from a message to the kernel, with the backlog in between.
//!
//! Output is gathered in one buffer for each connection and written at the end of the turn. What
//! the kernel does not take stays in that buffer as the backlog, until the poller tells that it
//! takes more.
//!
//! Does not know: who sends, or what is received.

use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::config::{Compress, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::event::MessageType;
use crate::net::context::{Context, LogLevel, Notice};
use crate::net::number::ConnId;
use crate::net::output::Output;
use crate::net::poller::Interest;
use crate::net::slot::{Slot, Stage};
use crate::protocol::connection::Tools;
use crate::protocol::send::Send;

/// A payload this large is handed to the kernel from where it is, when nothing waits before it.
const DIRECT_WRITE: usize = 64 << 10;
/// Output of this size is written in the middle of a turn, while it is in the processor's cache.
const EARLY_WRITE: usize = 128 << 10;

/// Output of this size is written when its connection's input is worked off.
const LARGE_OUTPUT: usize = 16 << 10;

/// How a message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The backlog is at or below high water.
    Ok,
    /// The backlog is above high water; `on_drain` will tell when it has fallen to low water.
    Backpressure,
}

impl Context {
    /// The output of a connection, which is written at the end of the turn.
    pub(crate) fn output(&mut self, id: ConnId) -> &mut Output {
        self.mark_dirty(id);
        let slot = self.slots.at(id.index());
        let output = *slot.output.get_or_insert_with(|| self.outputs.take());
        self.outputs.get_mut(output)
    }

    /// Sees to it that a connection's output is written at the end of the turn.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, id: ConnId) {
        let flags = &mut self.slots.at(id.index()).flags;
        if !flags.dirty {
            flags.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Bytes of a connection that wait to be written.
    #[inline]
    pub(crate) fn backlog(&self, slot: &Slot) -> u64 {
        slot.output
            .map_or(0, |output| self.outputs.get(output).len() as u64)
    }

    /// Sends what `encode` appends; `len` is the payload's length, which decides whether it is
    /// accepted.
    #[inline]
    pub(crate) fn send_with(
        &mut self,
        id: ConnId,
        len: usize,
        encode: impl FnOnce(&mut Send, &mut Tools<'_>) -> Result<()>,
    ) -> Result<Sent> {
        if self.queue_with(id, len, encode)? {
            return Ok(self.press(id));
        }
        Ok(Sent::Ok)
    }

    /// Queues what `encode` appends, and tells whether so much waits that it is to be written now.
    #[inline]
    fn queue_with(
        &mut self,
        id: ConnId,
        len: usize,
        encode: impl FnOnce(&mut Send, &mut Tools<'_>) -> Result<()>,
    ) -> Result<bool> {
        self.check_fork()?;
        let Some(slot) = self.slots.get(id) else {
            return Err(Error::closed());
        };
        let Stage::Open(established) = &mut slot.stage else {
            return Err(not_open(&slot.stage));
        };
        if !established.connection.is_open() {
            return Err(Error::closed());
        }
        let output = *slot.output.get_or_insert_with(|| self.outputs.take());
        let output = self.outputs.get_mut(output);
        let backlog = output.len() as u64;
        // Where nothing waits anything is accepted, or there would be no drain to wait for.
        if backlog >= slot.config.high_water_bytes.max(1)
            && backlog + len as u64 > slot.config.max_backlog_bytes
        {
            slot.flags.wants_drain = true;
            return Err(full(backlog, slot.config.max_backlog_bytes));
        }
        let mut tools = Tools {
            now: self.now,
            config: &slot.config,
            random: &mut self.random,
            compressors: &mut self.compressors,
            out: output.bytes(),
        };
        let encoded = encode(established.connection.send(), &mut tools);
        let is_much = is_much(output, &slot.config);
        self.mark_dirty(id);
        encoded?;
        Ok(is_much)
    }

    /// Queues the header that `encode` appends, and `payload` behind it, which is not copied.
    pub(crate) fn queue_shared(
        &mut self,
        id: ConnId,
        len: usize,
        payload: Bytes,
        encode: impl FnOnce(&mut Send, &mut Tools<'_>) -> Result<()>,
    ) -> Result<Sent> {
        let _ = self.queue_with(id, len, encode)?;
        let slot = self.slots.at(id.index());
        let Some(output) = slot.output else {
            return Ok(Sent::Ok);
        };
        let output = self.outputs.get_mut(output);
        output.append_shared(payload);
        if is_much(output, &slot.config) {
            return Ok(self.press(id));
        }
        Ok(Sent::Ok)
    }

    /// Sends a message.
    #[inline]
    pub(crate) fn send_message(
        &mut self,
        id: ConnId,
        message_type: MessageType,
        payload: &[u8],
        compress: Compress,
    ) -> Result<Sent> {
        if payload.len() >= DIRECT_WRITE && self.may_write_directly(id, payload.len(), compress) {
            return self.send_directly(id, message_type, payload);
        }
        let sent = self.send_with(id, payload.len(), |send, tools| {
            send.message(message_type, payload, compress, tools)
        })?;
        self.sent_message(id);
        Ok(sent)
    }

    /// Sees to the consequences of a message that was queued.
    #[inline]
    pub(crate) fn sent_message(&mut self, id: ConnId) {
        self.stats.messages_sent += 1;
        let slot = self.slots.at(id.index());
        if let Stage::Open(established) = &mut slot.stage
            && established.connection.send().release_at().is_some()
        {
            self.arm(id);
        }
        self.settle();
    }

    /// Writes the output of a connection whose input was just worked off, if it is large: it is in
    /// the processor's cache, and the next connection's would push it out. What is small waits for
    /// the end of the turn, when other connections may have added to it.
    pub(crate) fn flush_if_large(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get(id)
            && !slot.flags.blocked
            && let Some(output) = slot.output
            && self.outputs.get(output).len() >= LARGE_OUTPUT
        {
            self.flush(id);
        }
    }

    /// Writes what the kernel was not offered yet, before a connection ends whose peer has closed its
    /// direction: it may still read.
    pub(crate) fn offer(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        if matches!(slot.stage, Stage::Open(_)) && slot.output.is_some() && !slot.flags.blocked {
            self.flush(id);
        }
    }

    /// Writes early what has become much, and tells whether it became backlog.
    #[inline(never)]
    fn press(&mut self, id: ConnId) -> Sent {
        if !self.slots.at(id.index()).flags.blocked {
            self.flush(id);
        }
        let Some(slot) = self.slots.peek(id) else {
            return Sent::Ok;
        };
        let backlog = self.backlog(slot);
        let slot = self.slots.at(id.index());
        if backlog <= slot.config.high_water_bytes {
            return Sent::Ok;
        }
        slot.flags.wants_drain = true;
        Sent::Backpressure
    }

    /// Whether payloads go out as they are.
    pub(crate) fn is_plain(&mut self, id: ConnId) -> bool {
        match self.slots.get(id).map(|slot| &mut slot.stage) {
            Some(Stage::Open(established)) => established.connection.send().is_plain(),
            _ => false,
        }
    }

    /// Whether a large payload can go to the kernel from where it is.
    fn may_write_directly(&mut self, id: ConnId, len: usize, compress: Compress) -> bool {
        let Some(slot) = self.slots.get(id) else {
            return false;
        };
        if slot.flags.blocked || slot.flags.broken {
            return false;
        }
        let in_one_piece = slot
            .output
            .is_none_or(|output| self.outputs.get(output).unsent().is_some());
        match &mut slot.stage {
            Stage::Open(established) => {
                let send = established.connection.send();
                in_one_piece && send.is_plain() && !send.compresses(compress, len)
            }
            Stage::Vacant | Stage::Opening(_) | Stage::Lingering { .. } | Stage::Ended(_) => false,
        }
    }

    /// Sends a message of which only what the kernel does not take is copied.
    fn send_directly(
        &mut self,
        id: ConnId,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<Sent> {
        let plain = |send: &mut Send, tools: &mut Tools<'_>| {
            send.plain_header(message_type, false, payload.len(), tools.out)
        };
        // The header stays queued, however little may wait: the payload has to follow it.
        let _ = self.queue_with(id, payload.len(), plain)?;
        self.stats.messages_sent += 1;
        let slot = self.slots.at(id.index());
        let (Some(output), Some(socket)) = (slot.output, &slot.socket) else {
            return Ok(Sent::Ok);
        };
        let output = self.outputs.get_mut(output);
        let waiting = output.len();
        let taken = match socket.send_slices(&[
            IoSlice::new(output.unsent().unwrap_or_default()),
            IoSlice::new(payload),
        ]) {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                self.poller.blocked(id.as_u64(), Interest::WRITE);
                0
            }
            Err(error) => {
                self.broken(id, &error);
                self.settle();
                return Ok(Sent::Ok);
            }
        };
        self.stats.bytes_sent += taken as u64;
        let kept = if taken < waiting {
            output.advance(taken);
            output.append_payload(payload)
        } else if taken == waiting + payload.len() {
            output.advance(waiting);
            Ok(())
        } else {
            output.append_rest(&payload[taken - waiting..])
        };
        if let Err(error) = kept {
            // The peer has the beginning of a frame that can have no end.
            self.end(id, error.clone(), true);
            self.settle();
            return Err(error);
        }
        self.after_write(id, taken);
        let sent = self.press(id);
        self.settle();
        Ok(sent)
    }

    /// Writes the output of every connection that has any.
    pub(crate) fn flush_dirty(&mut self) {
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            slot.flags.dirty = false;
            if slot.flags.blocked {
                self.account(id);
            } else {
                self.flush(id);
            }
        }
    }

    /// Writes the output of a connection, as much as the kernel takes.
    pub(crate) fn flush(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let (Some(output), Some(socket)) = (slot.output, &slot.socket) else {
            return self.shut_if_wanted(id);
        };
        if slot.flags.broken {
            return self.discard_output(id);
        }
        let output = self.outputs.get_mut(output);
        let taken = if output.len() == 0 {
            0
        } else {
            let sent = match output.unsent() {
                Some(unsent) => socket.send(unsent),
                None => socket.send_slices(output.slices().as_slice()),
            };
            match sent {
                Ok(Some(taken)) => taken,
                Ok(None) => {
                    self.poller.blocked(id.as_u64(), Interest::WRITE);
                    0
                }
                Err(error) => return self.broken(id, &error),
            }
        };
        output.advance(taken);
        self.stats.bytes_sent += taken as u64;
        self.after_write(id, taken);
    }

    /// Writes the pong that waited for a backlog, if that has just gone: who is told of the write
    /// then finds nothing left, and hears of no other.
    pub(crate) fn flush_owed(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get(id)
            && slot.flags.dirty
            && !slot.flags.blocked
        {
            self.flush(id);
        }
    }

    /// Sees to the consequences of a write that took `taken` bytes.
    fn after_write(&mut self, id: ConnId, taken: usize) {
        let now = self.now;
        let role = self.role_of(id);
        let slot = self.slots.at(id.index());
        let waited = slot.flags.blocked;
        let left = match slot.output {
            Some(output) => {
                let entry = self.outputs.get_mut(output);
                let left = entry.len();
                if left == 0 {
                    slot.output = None;
                    self.outputs.give_back(output);
                } else {
                    entry.compact(role);
                }
                left
            }
            None => 0,
        };
        match &mut slot.stage {
            Stage::Open(established) if taken > 0 => established.connection.wrote(now, waited),
            // A long response has its time as long as the client takes it.
            Stage::Lingering { deadline } if taken > 0 => {
                *deadline = now.after(slot.config.close_timeout);
            }
            _ => {}
        }
        slot.flags.blocked = left > 0;
        if waited != slot.flags.blocked {
            self.backlog_changed(id, left > 0);
        }
        let slot = self.slots.at(id.index());
        if slot.flags.wants_drain && left as u64 <= slot.config.low_water_bytes {
            self.note_drain(id);
        }
        self.account(id);
        self.shut_if_wanted(id);
    }

    /// The backlog has fallen to low water, which is told once, however often it rose before.
    fn note_drain(&mut self, id: ConnId) {
        let flags = &mut self.slots.at(id.index()).flags;
        flags.wants_drain = false;
        if !flags.drain_noted {
            flags.drain_noted = true;
            self.notices.push_back(Notice::Drain(id));
        }
    }

    /// A backlog has come about or gone.
    fn backlog_changed(&mut self, id: ConnId, backlogged: bool) {
        self.update_interest(id);
        let slot = self.slots.at(id.index());
        let Stage::Open(established) = &mut slot.stage else {
            return;
        };
        let send = established.connection.send();
        if backlogged || !send.owes_pong() {
            let mut nothing = Vec::new();
            send.set_backlogged(backlogged, &mut self.random, &mut nothing);
            return;
        }
        let output = *slot.output.get_or_insert_with(|| self.outputs.take());
        send.set_backlogged(
            false,
            &mut self.random,
            self.outputs.get_mut(output).bytes(),
        );
        self.mark_dirty(id);
    }

    /// Closes our direction of the transport, if everything is written and it is time.
    fn shut_if_wanted(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        if slot.flags.shut || slot.output.is_some() {
            return;
        }
        let wanted = match &slot.stage {
            Stage::Open(established) => established.connection.wants_shutdown(),
            Stage::Lingering { .. } => true,
            Stage::Vacant | Stage::Opening(_) | Stage::Ended(_) => false,
        };
        if let (true, Some(socket)) = (wanted, &slot.socket) {
            slot.flags.shut = true;
            // Fails only when the peer has closed already, which reading will tell.
            let _ = socket.shutdown_write();
        }
    }

    /// Nothing more can be written. What the peer sent before may still be read, and ends it.
    fn broken(&mut self, id: ConnId, error: &io::Error) {
        self.log(LogLevel::Debug, || format!("{id}: cannot write: {error}"));
        self.slots.at(id.index()).flags.broken = true;
        self.discard_output(id);
        self.queue_unread(id);
    }

    fn discard_output(&mut self, id: ConnId) {
        let role = self.role_of(id);
        let slot = self.slots.at(id.index());
        slot.flags.blocked = false;
        if slot.flags.wants_drain {
            // Who reads again only after `drain` would never hear of the end.
            self.note_drain(id);
        }
        let slot = self.slots.at(id.index());
        let Some(output) = slot.output else {
            return;
        };
        // It stays, because it knows how many messages that were.
        self.outputs.get_mut(output).discard(role);
        self.account(id);
        self.update_interest(id);
    }

    /// Sees to it that a connection is read at the next dispatch, whatever the poller says.
    pub(crate) fn queue_unread(&mut self, id: ConnId) {
        let flags = &mut self.slots.at(id.index()).flags;
        if !flags.queued {
            flags.queued = true;
            self.unread.push_back(id);
        }
    }
}

/// Whether so much waits that it is to be written now.
#[inline]
fn is_much(output: &Output, config: &Config) -> bool {
    let queued = output.len();
    // At high water too: from there on sends may be refused, which only a kernel that was asked and
    // takes no more is a reason for.
    queued >= EARLY_WRITE || queued as u64 >= config.high_water_bytes
}

#[cold]
fn not_open(stage: &Stage) -> Error {
    match stage {
        Stage::Opening(_) => Error::new(ErrorKind::State, "the connection is not open yet"),
        Stage::Vacant | Stage::Open(_) | Stage::Lingering { .. } | Stage::Ended(_) => {
            Error::closed()
        }
    }
}

#[cold]
fn full(backlog: u64, limit: u64) -> Error {
    Error::new(
        ErrorKind::Full,
        format!(
            "{backlog} bytes wait to be written and the message would exceed max_backlog_bytes, {limit}"
        ),
    )
}
