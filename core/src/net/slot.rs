//! Connections as numbers: what a loop remembers of each, and the table that turns a number into
//! it. This is where the protocol meets the transport.
//!
//! Does not know: events, callbacks, or how anything is read or written.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::net::address::Target;
use crate::net::number::{ConnId, ServerId};
use crate::net::output::OutputId;
use crate::net::poller::Interest;
use crate::net::socket::Socket;
use crate::protocol::connection::{Closed, Connection};
use crate::protocol::handshake::client::{ClientHandshake, RequestOptions};
use crate::protocol::handshake::server::Upgrade;
use crate::protocol::head::HeadReader;
use crate::protocol::receive::Receive;
use crate::time::Time;

/// How far an opening handshake has come.
pub(crate) enum Opening {
    /// Client: the host's name is being resolved.
    Resolving,
    /// Client: a connection is being made; these addresses are left to be tried.
    Connecting {
        left: VecDeque<SocketAddr>,
        attempt_deadline: Time,
    },
    /// Client: the response is being read.
    Response {
        reader: HeadReader,
        handshake: ClientHandshake,
    },
    /// Server: the request is being read.
    Request { reader: HeadReader },
    /// Server: the application has the request; `upgrade` is absent if it is plain HTTP.
    Held {
        upgrade: Option<Upgrade>,
        head: Arc<[u8]>,
        to_head: bool,
    },
}

/// A connection whose opening handshake is not complete.
pub(crate) struct Pending {
    pub(crate) opening: Opening,
    pub(crate) deadline: Time,
    /// Client: where to and what to ask for.
    pub(crate) request: Option<Box<(Target, RequestOptions)>>,
}

/// A connection whose opening handshake is complete.
pub(crate) struct Established {
    pub(crate) connection: Connection,
    pub(crate) receive: Receive,
}

/// What a slot is.
pub(crate) enum Stage {
    /// Free.
    Vacant,
    /// Amid the opening handshake.
    Opening(Box<Pending>),
    /// Established, and all of the closing handshake.
    Open(Established),
    /// An HTTP response is being written; what arrives is discarded until the peer closes.
    Lingering { deadline: Time },
    /// The transport is gone, `on_close` is to come.
    Ended(Box<Closed>),
}

/// Single facts about a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// The kernel took less than it was given; the poller tells when it takes more.
    pub(crate) blocked: bool,
    /// In the list of those with output to write at the end of the turn.
    pub(crate) dirty: bool,
    /// The application reads nothing.
    pub(crate) paused: bool,
    /// The application was told of backpressure and waits for `drain`.
    pub(crate) wants_drain: bool,
    /// `drain` is on the list of notices.
    pub(crate) drain_noted: bool,
    /// Our direction of the transport is closed.
    pub(crate) shut: bool,
    /// Nothing more can be written; reading brings the end.
    pub(crate) broken: bool,
    /// In the list of those with bytes to go on with.
    pub(crate) queued: bool,
    /// Not in the poller: the transport is hung up and the application is paused.
    pub(crate) detached: bool,
    /// `on_open` has been called.
    pub(crate) announced: bool,
    /// Its server has a budget.
    pub(crate) budgeted: bool,
    /// Not read until its server has relief.
    pub(crate) waiting: bool,
}

/// What a loop remembers of a connection.
pub(crate) struct Slot {
    generation: u32,
    pub(crate) flags: Flags,
    pub(crate) interest: Interest,
    pub(crate) socket: Option<Socket>,
    pub(crate) output: Option<OutputId>,
    /// The server it came to; absent for a client.
    pub(crate) server: Option<ServerId>,
    /// The application's own number.
    pub(crate) user: u64,
    /// The application's own number for all connections of the server or client.
    pub(crate) tag: u32,
    pub(crate) config: Arc<Config>,
    /// The subprotocol in use, kept until the slot is freed. Boxed twice, so that the many that have
    /// none pay for one word.
    pub(crate) subprotocol: Option<Box<Box<str>>>,
    /// Bytes that were read and not looked at.
    #[allow(
        clippy::box_collection,
        reason = "nearly every connection has none, and then it costs one word"
    )]
    pub(crate) unread: Option<Box<Vec<u8>>>,
    /// What its server's budget knows it to hold.
    pub(crate) held: u64,
    pub(crate) stage: Stage,
}

impl Slot {
    /// The established connection, if it is one.
    #[inline]
    pub(crate) fn established(&mut self) -> Option<&mut Established> {
        match &mut self.stage {
            Stage::Open(established) => Some(established),
            Stage::Vacant | Stage::Opening(_) | Stage::Lingering { .. } | Stage::Ended(_) => None,
        }
    }

    /// Whether nothing is read, by the application's wish or for want of memory.
    #[inline]
    pub(crate) const fn is_silenced(&self) -> bool {
        self.flags.paused || self.flags.waiting
    }

    /// Whether messages are to be delivered now.
    #[inline]
    pub(crate) fn is_delivering(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) && !self.is_silenced()
    }
}

/// All connections of a loop.
pub(crate) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    /// How many slots are not vacant.
    live: usize,
    vacant_config: Arc<Config>,
}

/// Generations use 31 bits, so that a number's highest bit is free to tell servers from
/// connections.
const LAST_GENERATION: u32 = u32::MAX >> 1;

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            live: 0,
            vacant_config: Arc::default(),
        }
    }

    /// Puts a connection into the table; `None` when there is no number, or no memory, for it.
    pub(crate) fn insert(&mut self, config: Arc<Config>, stage: Stage) -> Option<ConnId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.all.len()).ok()?;
                self.all.try_reserve(1).ok()?;
                // So that freeing never needs memory.
                self.free.try_reserve(self.all.len() + 1).ok()?;
                self.all.push(Slot {
                    generation: 0,
                    flags: Flags::default(),
                    interest: Interest::NONE,
                    socket: None,
                    output: None,
                    server: None,
                    user: 0,
                    tag: 0,
                    config: Arc::clone(&self.vacant_config),
                    subprotocol: None,
                    unread: None,
                    held: 0,
                    stage: Stage::Vacant,
                });
                index
            }
        };
        let slot = &mut self.all[index as usize];
        self.live += 1;
        slot.generation += 1;
        slot.config = config;
        slot.stage = stage;
        ConnId::new(index, slot.generation)
    }

    /// Frees a slot; its number is stale from here on.
    pub(crate) fn remove(&mut self, index: u32) {
        let slot = &mut self.all[index as usize];
        debug_assert!(slot.output.is_none() && slot.socket.is_none());
        slot.flags = Flags::default();
        slot.interest = Interest::NONE;
        slot.server = None;
        slot.user = 0;
        slot.tag = 0;
        slot.config = Arc::clone(&self.vacant_config);
        slot.subprotocol = None;
        slot.unread = None;
        slot.held = 0;
        slot.stage = Stage::Vacant;
        self.live -= 1;
        // A slot whose generations are used up is never used again, so that no number comes twice.
        if slot.generation < LAST_GENERATION {
            self.free.push(index);
        }
    }

    /// The connection with this number, unless it is stale.
    #[inline]
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Slot> {
        let slot = self.all.get_mut(id.index() as usize)?;
        if slot.generation != id.generation() || matches!(slot.stage, Stage::Vacant) {
            return None;
        }
        Some(slot)
    }

    /// As [`get`](Self::get), for looking only.
    #[inline]
    pub(crate) fn peek(&self, id: ConnId) -> Option<&Slot> {
        let slot = self.all.get(id.index() as usize)?;
        if slot.generation != id.generation() || matches!(slot.stage, Stage::Vacant) {
            return None;
        }
        Some(slot)
    }

    /// The slot with this index, which is one of the table's own.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.all[index as usize]
    }

    /// The number of the connection in a slot.
    pub(crate) fn id_at(&self, index: u32) -> Option<ConnId> {
        let slot = self.all.get(index as usize)?;
        if matches!(slot.stage, Stage::Vacant) {
            None
        } else {
            ConnId::new(index, slot.generation)
        }
    }

    /// The numbers of all connections.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        (0..self.all.len() as u32)
            .filter_map(|index| self.id_at(index))
            .collect()
    }

    /// The open connections of a server.
    pub(crate) fn open_of(&self, server: ServerId) -> impl Iterator<Item = ConnId> {
        (0..).zip(&self.all).filter_map(move |(index, slot)| {
            let is_open = slot.server == Some(server) && matches!(slot.stage, Stage::Open(_));
            is_open
                .then(|| ConnId::new(index, slot.generation))
                .flatten()
        })
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.live == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slots: &mut Slots) -> ConnId {
        slots
            .insert(
                Arc::default(),
                Stage::Lingering {
                    deadline: Time::ORIGIN,
                },
            )
            .unwrap()
    }

    #[test]
    fn a_number_never_comes_twice() {
        let mut slots = Slots::new();
        let first = insert(&mut slots);
        slots.remove(first.index());
        assert!(slots.get(first).is_none());
        let second = insert(&mut slots);
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert!(slots.get(first).is_none() && slots.get(second).is_some());
    }

    #[test]
    fn a_slot_with_no_generations_left_is_retired() {
        let mut slots = Slots::new();
        let id = insert(&mut slots);
        slots.all[0].generation = LAST_GENERATION;
        slots.remove(id.index());
        assert_eq!(insert(&mut slots).index(), 1);
    }

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 240, "{}", size_of::<Slot>());
    }
}
