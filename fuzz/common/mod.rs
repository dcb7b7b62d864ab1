//! What targets share: inputs cut into pieces, the model of the property tests, and keys that are
//! the same in every run.
//!
//! Does not know: what a target asserts.

#![allow(dead_code, reason = "no target uses all of it")]

pub(crate) mod extensions;
pub(crate) mod heads;
pub(crate) mod inflate;
#[path = "../../core/tests/splits/model.rs"]
pub(crate) mod model;

use wsabi::Role;
use wsabi::protocol::mask::Random;

/// The other role.
pub(crate) const fn peer(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Keys that are all different, and the same in every run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(u32);

impl Random for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(4) {
            self.0 = self.0.wrapping_add(1);
            let key = self.0.wrapping_mul(0x9e37_79b9).to_be_bytes();
            chunk.copy_from_slice(&key[..chunk.len()]);
        }
    }
}

/// The pieces in which an input comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pieces {
    /// All at once.
    Whole,
    /// Octet by octet.
    Octets,
    /// Of lengths that follow from a number: up to 1, 2, 4 … 16,384 octets each.
    Cut(u16),
}

impl Pieces {
    /// The pieces of `input`, in order; none of them is empty.
    pub(crate) fn of(self, mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
        // Marsaglia's xorshift; the state must not be 0.
        let mut state = match self {
            Self::Cut(seed) => u32::from(seed) | 0x1_0000,
            Self::Whole | Self::Octets => 1,
        };
        std::iter::from_fn(move || {
            let most = match self {
                Self::Whole => input.len(),
                Self::Octets => 1,
                Self::Cut(seed) => {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    1 + state as usize % (1 << (seed % 15))
                }
            };
            let (piece, rest) = input.split_at(most.min(input.len()));
            input = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
