//! Compressing and decompressing the payloads of messages (RFC 7692 §7.2), by compressors and
//! decompressors that all connections of a loop share where they can.
//!
//! Does not know: frames, limits' names on the wire, or what was negotiated for which side.

use core::mem;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use crate::config::DeflateOptions;
use crate::error::{Error, ErrorKind, Result};

/// RFC 7692 §7.2.1: what a sender takes off the end of a message, and a receiver puts back.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The tail, and an empty last block: after whole blocks it ends the stream, after anything else it
/// does not.
const TAIL_AND_END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];
/// RFC 7692 §7.2.3.6: a message, or a last fragment, without data.
const EMPTY: &[u8] = &[0];
/// How much is decompressed in one step.
const STEP: usize = 16 << 10;
/// What a decompressor takes with its buffers: zlib-rs' own 47 KiB, and two steps.
pub(crate) const INFLATER_BYTES: usize = 80 << 10;
/// Shared compressors and decompressors that are kept, of each.
const KEEP: usize = 4;
/// What a compressor takes, with the largest window and the highest memory level.
const COMPRESSOR_BYTES: usize = 512 << 10;
/// Room for compressed data that is kept.
const KEEP_SCRATCH: usize = 1 << 20;

/// What decides how a compressor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    window_bits: u8,
    level: u8,
    mem_level: u8,
}

impl Shape {
    /// `window_bits` is 8 to 15.
    pub(crate) fn new(window_bits: u8, options: &DeflateOptions) -> Self {
        Self {
            // A window of 9 bits refers no further back than 250 octets, because the longest match
            // has to fit in front; so it serves a receiver with 8, of which zlib has no compressor.
            window_bits: window_bits.max(9),
            level: options.level,
            mem_level: options.mem_level,
        }
    }
}

/// A compressor.
pub(crate) struct Compressor {
    stream: Deflate,
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    pub(crate) fn new(shape: Shape) -> Result<Self> {
        let config = DeflateConfig {
            level: i32::from(shape.level),
            // Negative is zlib's way of asking for no header.
            window_bits: -i32::from(shape.window_bits),
            mem_level: i32::from(shape.mem_level),
            ..DeflateConfig::default()
        };
        let stream = or_no_memory(COMPRESSOR_BYTES, || Deflate::new_with_config(config))?;
        Ok(Self { stream })
    }

    /// Forgets the messages so far.
    fn reset(&mut self) {
        self.stream.reset();
    }

    /// Compresses `data` into `scratch`, of which the beginning is returned; `fin` marks the end of
    /// the message.
    fn compress<'s>(
        &mut self,
        data: &[u8],
        fin: bool,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8]> {
        if data.is_empty() {
            return Ok(if fin { EMPTY } else { &[] });
        }
        let (mut taken, mut made) = (0, 0);
        loop {
            if scratch.len() - made < STEP {
                let wanted = STEP.max(scratch.len());
                scratch.try_reserve(wanted).map_err(|_| no_memory())?;
                scratch.resize(scratch.len() + wanted, 0);
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let room = &mut scratch[made..];
            let room_len = room.len();
            self.stream
                .compress(&data[taken..], room, DeflateFlush::SyncFlush)
                .map_err(|_| Error::new(ErrorKind::Panic, "a message could not be compressed"))?;
            taken += (self.stream.total_in() - read) as usize;
            let step = (self.stream.total_out() - written) as usize;
            made += step;
            if taken == data.len() && step < room_len {
                break;
            }
        }
        // RFC 7692 §7.2.1: only the end of the message loses its tail.
        if fin {
            debug_assert!(scratch[..made].ends_with(&TAIL));
            made -= TAIL.len();
        }
        Ok(&scratch[..made])
    }
}

/// The compressors that connections share, and room for what they make.
#[derive(Debug, Default)]
pub struct Compressors {
    shared: Vec<(Shape, Compressor)>,
    scratch: Vec<u8>,
}

impl Compressors {
    /// Compresses a message, or a fragment of one, that refers to nothing before it.
    pub(crate) fn compress(&mut self, shape: Shape, data: &[u8], fin: bool) -> Result<&[u8]> {
        let index = match self.shared.iter().position(|(made, _)| *made == shape) {
            Some(index) => index,
            None => {
                if self.shared.len() == KEEP {
                    self.shared.remove(0);
                }
                self.shared.push((shape, Compressor::new(shape)?));
                self.shared.len() - 1
            }
        };
        self.trim();
        let compressor = &mut self.shared[index].1;
        compressor.reset();
        compressor.compress(data, fin, &mut self.scratch)
    }

    /// Compresses with a connection's own compressor, which remembers.
    pub(crate) fn compress_with(
        &mut self,
        own: &mut Compressor,
        data: &[u8],
        fin: bool,
    ) -> Result<&[u8]> {
        self.trim();
        own.compress(data, fin, &mut self.scratch)
    }

    /// Lets go of the room that an extraordinary message took.
    fn trim(&mut self) {
        if self.scratch.len() > KEEP_SCRATCH {
            self.scratch = Vec::new();
        }
    }
}

/// A decompressor amid a message.
pub(crate) struct Inflater {
    stream: Inflate,
    /// What one step makes.
    step: Box<[u8]>,
    /// Compressed data, unmasked, that waits for its step.
    input: Vec<u8>,
    /// How much of `input` was taken.
    taken: usize,
    /// Whether the last step filled its room, so that there may be more without further input.
    full: bool,
    /// Whether the stream ended with what was taken (RFC 7692 §7.2.3.4).
    ended: bool,
}

impl core::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    fn new() -> Result<Self> {
        let mut step = Vec::new();
        step.try_reserve_exact(STEP).map_err(|_| no_memory())?;
        step.resize(STEP, 0);
        Ok(Self {
            stream: or_no_memory(INFLATER_BYTES, || Inflate::new(false, 15))?,
            step: step.into_boxed_slice(),
            input: Vec::new(),
            taken: 0,
            full: false,
            ended: false,
        })
    }

    /// Begins a message that may refer back to `window`.
    fn begin(&mut self, window: &[u8]) -> Result<()> {
        self.input.clear();
        (self.taken, self.full) = (0, false);
        self.restart(window)
    }

    fn restart(&mut self, window: &[u8]) -> Result<()> {
        self.stream.reset(false);
        self.ended = false;
        if !window.is_empty() {
            self.stream
                .set_dictionary(window)
                .map_err(|_| no_memory())?;
        }
        Ok(())
    }

    /// Whether [`step`](Self::step) has something to do without [`fill`](Self::fill).
    pub(crate) fn has_input(&self) -> bool {
        self.full || self.taken < self.input.len()
    }

    /// Takes the next piece of the message, as much as it has room for, and gives it out to be
    /// unmasked.
    pub(crate) fn fill(&mut self, data: &[u8]) -> Result<&mut [u8]> {
        debug_assert!(!self.has_input());
        let count = data.len().min(STEP);
        self.input.clear();
        self.taken = 0;
        self.input.try_reserve(count).map_err(|_| no_memory())?;
        self.input.extend_from_slice(&data[..count]);
        Ok(&mut self.input)
    }

    /// Decompresses some of what was given. `window` and what was made of the message since are what
    /// may be referred back to, if a stream has ended and another begins (RFC 7692 §7.2.3.4).
    pub(crate) fn step(&mut self, window: &Window, since: &[u8]) -> Result<&[u8]> {
        if self.ended && self.taken < self.input.len() {
            self.restart(&window.after(since)?)?;
        }
        let (read, written) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(
            &self.input[self.taken..],
            &mut self.step,
            InflateFlush::NoFlush,
        );
        self.taken += (self.stream.total_in() - read) as usize;
        let made = (self.stream.total_out() - written) as usize;
        if status.is_err() && made == 0 {
            return Err(damaged("it is not a deflate stream"));
        }
        self.ended = status == Ok(Status::StreamEnd);
        // What came before the damage is looked at first, and the next step tells of the damage.
        self.full = status.is_err() || (made == self.step.len() && !self.ended);
        Ok(&self.step[..made])
    }

    /// Ends a message, all of whose data was taken.
    pub(crate) fn finish(&mut self) -> Result<()> {
        // What ended by a last block has no tail to put back.
        if mem::take(&mut self.ended) {
            return Ok(());
        }
        let (read, written) = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(&TAIL_AND_END, &mut self.step, InflateFlush::NoFlush);
        let whole = status == Ok(Status::StreamEnd)
            && self.stream.total_out() == written
            && self.stream.total_in() - read == TAIL_AND_END.len() as u64;
        if whole {
            Ok(())
        } else {
            Err(damaged("it ends amid a block"))
        }
    }
}

/// The decompressors that connections share; one is with a connection while a compressed message of
/// it is incomplete.
#[derive(Debug, Default)]
pub(crate) struct Inflaters {
    free: Vec<Inflater>,
}

impl Inflaters {
    /// A decompressor for a message that may refer back to `window`.
    pub(crate) fn take(&mut self, window: &[u8]) -> Result<Inflater> {
        let mut inflater = match self.free.pop() {
            Some(inflater) => inflater,
            None => Inflater::new()?,
        };
        inflater.begin(window)?;
        Ok(inflater)
    }

    pub(crate) fn put_back(&mut self, inflater: Inflater) {
        if self.free.len() < KEEP {
            self.free.push(inflater);
        }
    }
}

/// What the peer's messages may refer back to.
#[derive(Debug)]
pub(crate) struct Window {
    data: Vec<u8>,
    /// Most octets kept; 0 if nothing lasts from message to message.
    size: usize,
}

impl Window {
    /// `bits` is the logarithm of the window's size, if it lasts.
    pub(crate) const fn new(bits: Option<u8>) -> Self {
        Self {
            data: Vec::new(),
            size: match bits {
                Some(bits) => 1 << bits,
                None => 0,
            },
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The window after more data.
    pub(crate) fn slide(&mut self, data: &[u8]) -> Result<()> {
        if self.size == 0 || data.is_empty() {
            return Ok(());
        }
        let new = &data[data.len().saturating_sub(self.size)..];
        let kept = self.data.len().min(self.size - new.len());
        self.data.drain(..self.data.len() - kept);
        self.data
            .try_reserve_exact(new.len())
            .map_err(|_| no_memory())?;
        self.data.extend_from_slice(new);
        Ok(())
    }

    /// The window as it would be after `data`.
    fn after(&self, data: &[u8]) -> Result<Vec<u8>> {
        let new = &data[data.len().saturating_sub(self.size)..];
        let kept = self.data.len().min(self.size - new.len());
        let mut whole = Vec::new();
        whole
            .try_reserve_exact(kept + new.len())
            .map_err(|_| no_memory())?;
        whole.extend_from_slice(&self.data[self.data.len() - kept..]);
        whole.extend_from_slice(new);
        Ok(whole)
    }
}

fn damaged(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidDeflate,
        format!("the compressed message is damaged: {why} (RFC 7692 §7.2.2)"),
    )
}

#[cold]
/// What `make` makes of at most `bytes`.
///
/// zlib-rs panics when there is no memory for it, and what reports a panic may need memory, too. So it
/// is asked for before.
fn or_no_memory<T>(bytes: usize, make: impl FnOnce() -> T) -> Result<T> {
    let mut probe: Vec<u8> = Vec::new();
    probe.try_reserve_exact(bytes).map_err(|_| no_memory())?;
    drop(core::hint::black_box(probe));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).map_err(|_| no_memory())
}

fn no_memory() -> Error {
    Error::new(ErrorKind::NoMemory, "no memory to compress or decompress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(window_bits: u8) -> Shape {
        Shape::new(window_bits, &DeflateOptions::default())
    }

    #[test]
    fn what_is_kept_for_all_is_bounded() {
        let mut compressors = Compressors::default();
        for window_bits in 9..=15 {
            let made = compressors.compress(shape(window_bits), b"abcabcabc", true);
            assert!(made.is_ok_and(|made| !made.is_empty()));
        }
        assert_eq!(compressors.shared.len(), KEEP);
        // Random octets, which do not get smaller.
        let mut state = 1u32;
        let noise: Vec<u8> = (0..KEEP_SCRATCH + 1)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        compressors.compress(shape(9), &noise, true).unwrap();
        assert!(compressors.scratch.len() > KEEP_SCRATCH);
        compressors.compress(shape(9), b"a", true).unwrap();
        assert!(compressors.scratch.len() <= KEEP_SCRATCH);
        let mut inflaters = Inflaters::default();
        let all: Vec<Inflater> = (0..=KEEP).map(|_| inflaters.take(&[]).unwrap()).collect();
        all.into_iter()
            .for_each(|inflater| inflaters.put_back(inflater));
        assert_eq!(inflaters.free.len(), KEEP);
    }

    #[test]
    fn what_is_shown_for_debugging_has_no_data() {
        let (compressor, inflater) = (Compressor::new(shape(9)).unwrap(), Inflater::new().unwrap());
        let text = format!("{compressor:?} {inflater:?}");
        assert_eq!(text, "Compressor Inflater");
    }
}
