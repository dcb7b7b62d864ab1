//! A race on purpose, through a posted call: who watches must report it.
//!
//! Does not know: who watches.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wsabi::{Context, Loop};

use crate::board::Board;
use crate::office::Office;

struct Shared(UnsafeCell<u64>);

// SAFETY: it is not; the race is the purpose. A plain 64-bit addition cannot do more harm than to
// lose one of the two.
unsafe impl Sync for Shared {}

impl Shared {
    fn add_without_a_lock(&self) {
        // SAFETY: the memory is alive, see `Sync` for the rest.
        unsafe { *self.0.get() += 1 };
    }
}

/// Adds in a posted call, on the loop's thread, and on the thread that has posted it.
pub fn race() {
    let mut event_loop = Loop::new().unwrap();
    let mut office = Office::new(Arc::<Board>::default());
    let shared = Arc::new(Shared(UnsafeCell::new(0)));
    let made = Arc::new(AtomicBool::new(false));
    let poster = thread::spawn({
        let (handle, shared, made) = (event_loop.handle(), Arc::clone(&shared), Arc::clone(&made));
        move || {
            let theirs = Arc::clone(&shared);
            let call = move |_: &mut Context| {
                theirs.add_without_a_lock();
                // Orders nothing.
                made.store(true, Ordering::Relaxed);
            };
            handle.post(call).unwrap();
            shared.add_without_a_lock();
        }
    });
    while !made.load(Ordering::Relaxed) {
        event_loop
            .poll(Some(Duration::from_millis(20)), &mut office)
            .unwrap();
    }
    poster.join().unwrap();
    println!("a race was there");
}
