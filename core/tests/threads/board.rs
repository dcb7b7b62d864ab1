//! What the calling threads know: numbers that were good a moment ago, and tokens that count what
//! becomes of posted calls and of payloads that are lent.
//!
//! Does not know: who puts the numbers there.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wsabi::{ConnId, ServerId};

/// How many numbers are kept; the oldest are stale by then.
const REMEMBERED: usize = 24;

/// A list without the oldest.
pub struct Recent<T>(Mutex<Vec<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Copy> Recent<T> {
    pub fn put(&self, item: T) {
        let mut list = self.0.lock().unwrap();
        if list.len() == REMEMBERED {
            list.remove(0);
        }
        list.push(item);
    }

    /// One of them; the number says which.
    pub fn pick(&self, number: u64) -> Option<T> {
        let list = self.0.lock().unwrap();
        let index = number.checked_rem(list.len() as u64)?;
        Some(list[index as usize])
    }

    /// One of them, which leaves the list.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap().pop()
    }
}

/// What the loop's thread tells the callers.
#[derive(Default)]
pub struct Board {
    pub connections: Recent<ConnId>,
    /// Requests that wait for an answer.
    pub held: Recent<ConnId>,
    /// Servers that may be stopped.
    pub servers: Recent<ServerId>,
    /// The server that stays, and its port.
    pub server: Mutex<Option<ServerId>>,
    pub port: AtomicU16,
    /// Of those that may be stopped, or are.
    pub ports: Recent<u16>,
    /// Whether the callers may end.
    pub enough: AtomicBool,
    /// Callers that are done.
    pub done: AtomicU64,
    /// Whether clients that end are replaced.
    pub refill: AtomicBool,
}

/// What became of tokens.
#[derive(Default)]
pub struct Tally {
    pub out: AtomicU64,
    /// Posted calls that were made.
    pub made: AtomicU64,
    pub gone: AtomicU64,
}

/// Belongs to one posted call, or to one payload that is lent.
pub struct Token(pub Arc<Tally>);

impl Token {
    pub fn new(tally: &Arc<Tally>) -> Self {
        tally.out.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(tally))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, Ordering::SeqCst);
    }
}

/// A payload that is not copied.
pub struct Lent {
    pub payload: Vec<u8>,
    pub _token: Token,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}
