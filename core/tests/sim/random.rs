//! The loop's random source, from the seed of the run.
//!
//! Does not know: what the bytes are for.

use std::io;

use crate::kernel;
use crate::protocol::mask::Random;

pub(crate) struct SystemRandom;

impl SystemRandom {
    pub(crate) const fn new() -> io::Result<Self> {
        Ok(Self)
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, buffer: &mut [u8]) {
        kernel::with(|kernel| {
            for octets in buffer.chunks_mut(8) {
                octets.copy_from_slice(&kernel.keys.next().to_le_bytes()[..octets.len()]);
            }
        });
    }
}
