//! One direction of a simulated connection: bytes in flight, bytes that have arrived, and how it ends.
//!
//! Does not know: who writes, who reads, or why it is to end.

use std::collections::VecDeque;

use crate::chance::{self, Fault};

/// Something on its way.
#[derive(Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    /// Whether what had arrived and was not read is lost.
    Reset {
        purges: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Pipe {
    flight: VecDeque<(u64, Parcel)>,
    in_flight: usize,
    arrived: Vec<u8>,
    /// How much of `arrived` was read.
    read: usize,
    /// Positions at which writes end, as far as they have arrived and were not read past.
    ends: VecDeque<u64>,
    /// Bytes read since the beginning.
    position: u64,
    /// How many bytes fit in, those in flight included.
    capacity: usize,
    /// When the latest parcel arrives; none overtakes it.
    latest: u64,
    /// Bytes written since the beginning.
    pub(crate) written: u64,
    /// The writer has said that nothing follows.
    pub(crate) shut: bool,
    /// Nothing that is in here arrives any more.
    pub(crate) silent: bool,
    /// What is written is lost.
    pub(crate) cut: bool,
    /// The reader has come to the end of the stream, once `arrived` is read.
    pub(crate) finished: bool,
    /// A reset has come to the reader.
    pub(crate) reset: bool,
}

/// What a delivery brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) bytes: bool,
    pub(crate) reset: bool,
}

impl Pipe {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            flight: VecDeque::new(),
            in_flight: 0,
            arrived: Vec::new(),
            read: 0,
            ends: VecDeque::new(),
            position: 0,
            capacity,
            latest: 0,
            written: 0,
            shut: false,
            silent: false,
            cut: false,
            finished: false,
            reset: false,
        }
    }

    /// How much more fits in.
    pub(crate) fn room(&self) -> usize {
        self.capacity
            .saturating_sub(self.in_flight + self.waiting())
    }

    /// Bytes that have arrived and were not read.
    pub(crate) fn waiting(&self) -> usize {
        self.arrived.len() - self.read
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.waiting() > 0 || self.finished || self.reset
    }

    /// When the next parcel arrives.
    pub(crate) fn next(&self) -> Option<u64> {
        match self.flight.front() {
            Some(&(at, _)) if !self.silent => Some(at),
            _ => None,
        }
    }

    fn put(&mut self, at: u64, parcel: Parcel) {
        self.latest = self.latest.max(at);
        self.flight.push_back((self.latest, parcel));
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        if !self.cut && !bytes.is_empty() {
            self.in_flight += bytes.len();
            self.put(at, Parcel::Bytes(bytes.to_vec()));
        }
    }

    /// Nothing follows what was written.
    pub(crate) fn shut(&mut self, at: u64) {
        if !self.shut && !self.cut {
            if self.in_flight > 0 {
                chance::hit(Fault::HalfClose);
            }
            self.put(at, Parcel::Fin);
        }
        self.shut = true;
    }

    /// A reset follows what was written; `keep` bytes in flight still arrive before it.
    pub(crate) fn break_off(&mut self, at: u64, keep: usize, purges: bool) {
        let mut left = keep;
        for (_, parcel) in &mut self.flight {
            if let Parcel::Bytes(bytes) = parcel {
                bytes.truncate(left);
                left -= bytes.len();
            }
        }
        self.in_flight = keep.min(self.in_flight);
        self.put(at, Parcel::Reset { purges });
        self.cut = true;
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Lets everything arrive that is due.
    pub(crate) fn deliver(&mut self, now: u64) -> Delivery {
        let mut delivery = Delivery::default();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, parcel)) = self.flight.pop_front() else {
                break;
            };
            match parcel {
                Parcel::Bytes(bytes) => {
                    self.in_flight -= bytes.len();
                    if self.read > 0 {
                        self.arrived.drain(..self.read);
                        self.read = 0;
                    }
                    self.arrived.extend_from_slice(&bytes);
                    self.ends
                        .push_back(self.position + self.arrived.len() as u64);
                    delivery.bytes = true;
                }
                Parcel::Fin => self.finished = true,
                Parcel::Reset { purges } => {
                    if purges && self.waiting() > 0 {
                        chance::hit(Fault::ResetPurges);
                        self.arrived.clear();
                        self.read = 0;
                    }
                    self.reset = true;
                    delivery.reset = true;
                }
            }
        }
        delivery
    }

    /// Reads as much as `buffer` takes.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.arrived[self.read..self.read + buffer.len()]);
        self.read += buffer.len();
        self.position += buffer.len() as u64;
        let mut coalesced = false;
        while let Some(&end) = self.ends.front()
            && end <= self.position
        {
            coalesced |= end < self.position;
            self.ends.pop_front();
        }
        if coalesced {
            chance::hit(Fault::Coalesce);
        }
    }
}
