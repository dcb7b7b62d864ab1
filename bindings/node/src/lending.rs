//! Memory of JavaScript's that output is written from, instead of from a copy of it.
//!
//! A view is kept until its payload is written, so that nobody frees its memory. But an application
//! can take the memory away from its view, by transferring or resizing it: so it is looked after
//! whenever JavaScript has run, before anything is written.
//!
//! Does not know: what is sent, or what becomes of a connection whose memory was taken away.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use napi::sys::{napi_env, napi_ref, napi_value};
use wsabi::{Bytes, ConnId};

use crate::js::{self, Scope};

/// Most payloads that are lent at a time, because all are looked after at each step. What is more is
/// copied.
const MOST: usize = 64;

/// One payload that is lent.
struct Loan {
    connection: ConnId,
    view: napi_ref,
    data: *const u8,
    len: usize,
    /// Whether the output needs it no more.
    over: Arc<AtomicBool>,
}

/// The output's part of a loan.
struct Lent {
    data: ptr::NonNull<u8>,
    len: usize,
    over: Arc<AtomicBool>,
}

// SAFETY: the memory may be read from any thread as long as it is there. It is read only on the
// thread of the loop that it was lent to, which is the environment's.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory is there while the loan lasts: `Loans` keeps its view, and has the
        // connection terminated when it was taken away, before the loop goes on.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// Everything that is lent.
#[derive(Default)]
pub(crate) struct Loans {
    all: Vec<Loan>,
    /// Connections that were terminated because of their loans, and whose end was not told yet.
    broken: Vec<ConnId>,
}

impl Loans {
    /// Whether there is anything to look after.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Lends the memory of a view, unless too much is lent already.
    pub(crate) fn lend(
        &mut self,
        env: napi_env,
        connection: ConnId,
        view: napi_value,
    ) -> Option<Bytes> {
        if self.all.len() >= MOST {
            return None;
        }
        let (data, len) = js::view(env, view)?;
        let over = Arc::new(AtomicBool::new(false));
        let lent = Lent {
            data: ptr::NonNull::new(data)?,
            len,
            over: Arc::clone(&over),
        };
        self.all.push(Loan {
            connection,
            view: js::keep(env, view)?,
            data,
            len,
            over,
        });
        Some(Bytes::from_owner(lent))
    }

    /// Ends what is over, and gives the connections whose memory was taken away: they are to be
    /// terminated before anything is written.
    pub(crate) fn look_after(&mut self, env: napi_env) -> Vec<ConnId> {
        let mut broken = Vec::new();
        let Some(_scope) = Scope::open(env) else {
            return broken;
        };
        self.all.retain(|loan| {
            if !loan.over.load(Ordering::Acquire) {
                let now = js::view(env, js::value_of(env, loan.view));
                if now == Some((loan.data.cast_mut(), loan.len)) {
                    return true;
                }
                broken.push(loan.connection);
            }
            js::forget(env, loan.view);
            false
        });
        self.broken.extend_from_slice(&broken);
        broken
    }

    /// Whether a connection that has ended was terminated because of its loans.
    pub(crate) fn take_broken(&mut self, connection: ConnId) -> bool {
        let before = self.broken.len();
        self.broken.retain(|&other| other != connection);
        self.broken.len() != before
    }
}
