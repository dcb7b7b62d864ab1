//! Random bytes from the system, fetched in batches (RFC 6455 §5.3, §10.3).
//!
//! Does not know: what the bytes are for.

use std::io;

use crate::net::sys::{Call, call};
use crate::protocol::mask::Random;

/// Bytes fetched at once: a system call for every 256 masking keys.
const BATCH: usize = 1024;

/// The system's random source.
pub(crate) struct SystemRandom {
    batch: Box<[u8; BATCH]>,
    /// Bytes of the batch that were given out and overwritten; `used <= BATCH`.
    used: usize,
}

impl SystemRandom {
    /// Opens the source, and fails if the system has none.
    pub(crate) fn new() -> io::Result<Self> {
        let mut batch = Box::new([0; BATCH]);
        call(Call::Random, || {
            getrandom::fill(batch.as_mut_slice()).map_err(io::Error::from)
        })?;
        Ok(Self { batch, used: 0 })
    }
}

impl Random for SystemRandom {
    #[inline]
    fn fill(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            if self.used == BATCH {
                getrandom::fill(self.batch.as_mut_slice())
                    .expect("the system's random source has worked before and does not go away");
                self.used = 0;
            }
            let count = buffer.len().min(BATCH - self.used);
            let (now, later) = buffer.split_at_mut(count);
            let taken = &mut self.batch[self.used..self.used + count];
            now.copy_from_slice(taken);
            taken.fill(0);
            self.used += count;
            buffer = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_not_repeated() {
        let mut random = SystemRandom::new().unwrap();
        let mut keys: Vec<[u8; 8]> = Vec::new();
        for _ in 0..1000 {
            let mut key = [0; 8];
            random.fill(&mut key);
            keys.push(key);
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
        let mut large = vec![0; 5 * BATCH];
        random.fill(&mut large);
        assert!(
            large
                .chunks(64)
                .all(|chunk| chunk.iter().any(|&octet| octet != 0))
        );
    }
}
