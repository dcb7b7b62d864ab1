//! Defects planted between the library and the model, to show that the model sees them.
//!
//! Does not know: how a defect is seen.

use crate::chance::Chance;
use crate::oracle::Accepted;

macro_rules! plants {
    ($($name:ident = $text:literal,)*) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Plant { $($name,)* }

        impl Plant {
            pub(crate) const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
        }
    };
}

plants! {
    DropsMessage = "a received message is dropped",
    DoublesMessage = "a received message comes twice",
    SwapsMessages = "two received messages are swapped",
    ChangesMessage = "a received message is changed in one bit",
    ForgetsSent = "an accepted message is forgotten",
    OmitsClose = "on_close is omitted",
    DoublesClose = "on_close comes twice",
    DropsBytes = "the kernel loses bytes",
    DoublesBytes = "the kernel doubles bytes",
    LeaksDescriptor = "a descriptor is left open",
    LeaksMemory = "memory of the library is not given back",
    HoardsMemory = "memory of the library grows beyond its limits",
    NeverEnds = "a loop is woken without end",
    Wavers = "the same seed gives another run",
}

/// A defect, and when it strikes.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) plant: Option<Plant>,
    /// Occasions left before it does.
    left: u64,
    kept: Option<Vec<u8>>,
}

impl Planted {
    pub(crate) fn new(plant: Option<Plant>, seed: u64) -> Self {
        Self {
            plant,
            left: Chance::new(seed, 7).below(4),
            kept: None,
        }
    }

    /// Whether `plant` strikes on this occasion.
    pub(crate) fn strikes(&mut self, plant: Plant) -> bool {
        if self.plant != Some(plant) {
            return false;
        }
        if self.left == 0 {
            self.plant = None;
            return true;
        }
        self.left -= 1;
        false
    }

    /// How often something is told that is to be told once.
    pub(crate) fn times(&mut self, omits: Plant, doubles: Plant) -> u32 {
        if self.strikes(omits) {
            0
        } else if self.strikes(doubles) {
            2
        } else {
            1
        }
    }

    /// The messages that are told in the place of one.
    pub(crate) fn messages(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut payload = payload.to_vec();
        if let Some(kept) = self.kept.take() {
            return vec![payload, kept];
        }
        if self.strikes(Plant::DropsMessage) {
            return Vec::new();
        }
        if self.strikes(Plant::DoublesMessage) {
            return vec![payload.clone(), payload];
        }
        if self.strikes(Plant::SwapsMessages) {
            self.kept = Some(payload);
            return Vec::new();
        }
        if !payload.is_empty() && self.strikes(Plant::ChangesMessage) {
            let at = payload.len() / 2;
            payload[at] ^= 1;
        }
        vec![payload]
    }

    pub(crate) fn note_accepted(&mut self, accepted: &mut Vec<Accepted>, message: Accepted) {
        if !self.strikes(Plant::ForgetsSent) {
            accepted.push(message);
        }
    }
}
