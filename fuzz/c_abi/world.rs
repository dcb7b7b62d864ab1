//! What the sequence of calls has made so far, and what has to come of it.
//!
//! Does not know: which calls are made.

use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_void};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Arbitrary, Unstructured};

use crate::conn::wsabi_conn_state;
use crate::host::wsabi_loop;
use crate::r#loop::{wsabi_loop_dispatch, wsabi_loop_free, wsabi_loop_new};
use crate::messages::wsabi_prepared;
use crate::prepared::wsabi_prepared_free;
use crate::status::{WSABI_E_PANIC, WSABI_OK, wsabi_last_error, wsabi_status_name};
use crate::types::WSABI_STATE_CLOSED;

/// Runs so far; tells the paths of one from those of another.
static RUNS: AtomicU64 = AtomicU64::new(1);

/// How a loop's life goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Life {
    Alive,
    /// Freed in a callback or being freed: calls still work in callbacks.
    Freeing,
    Gone,
}

pub(crate) struct LoopState {
    pub(crate) pointer: *mut wsabi_loop,
    pub(crate) life: Cell<Life>,
    /// How deep in calls that make callbacks.
    pub(crate) depth: Cell<u32>,
}

/// What the callbacks of a server or client are given as `user`.
pub(crate) struct Owner {
    pub(crate) world: *const World<'static>,
    pub(crate) at: usize,
    pub(crate) is_server: bool,
    pub(crate) ended: Cell<bool>,
}

/// One end of a connection.
#[derive(Default)]
pub(crate) struct End {
    pub(crate) at: usize,
    pub(crate) id: u64,
    pub(crate) is_server: bool,
    pub(crate) opened: bool,
    pub(crate) closed: bool,
    /// Type and payload of what was accepted for sending, in order.
    pub(crate) sent: Vec<(u32, Vec<u8>)>,
    pub(crate) unfinished: Option<(u32, Vec<u8>)>,
    /// How many of the peer's messages have arrived.
    pub(crate) heard: usize,
    /// The index of the other end, if it is one of ours.
    pub(crate) peer: Option<usize>,
    /// Something is in `sent` that may have been refused.
    pub(crate) unsure: bool,
    /// The message that is arriving in chunks.
    pub(crate) begun: Option<(u32, Vec<u8>)>,
    /// What was accepted and never handed to the system.
    pub(crate) dropped: u64,
}

pub(crate) struct Server {
    pub(crate) at: usize,
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) owner: *const Owner,
}

pub(crate) struct Prepared {
    pub(crate) pointer: *mut wsabi_prepared,
    pub(crate) kind: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct World<'a> {
    pub(crate) input: RefCell<Unstructured<'a>>,
    pub(crate) run: u64,
    pub(crate) calls: Cell<u32>,
    pub(crate) loops: [LoopState; 2],
    pub(crate) ends: RefCell<Vec<End>>,
    pub(crate) servers: RefCell<Vec<Server>>,
    /// Owners live as long as the world; boxed, so that they stay where they are.
    #[allow(clippy::vec_box, reason = "they are pointed to")]
    pub(crate) owners: RefCell<Vec<Box<Owner>>>,
    pub(crate) raw: RefCell<Vec<UnixStream>>,
    pub(crate) posted: Cell<u32>,
    pub(crate) made_or_dropped: Cell<u32>,
    pub(crate) prepared: RefCell<Vec<Prepared>>,
    /// Payloads that were given away, and those whose hooks were called.
    pub(crate) given: Cell<u32>,
    pub(crate) given_back: Cell<u32>,
}

impl<'a> World<'a> {
    /// Boxed, so that the callbacks can point to it.
    pub(crate) fn new(input: &'a [u8], calls: u32) -> Box<Self> {
        Box::new(Self {
            input: RefCell::new(Unstructured::new(input)),
            run: RUNS.fetch_add(1, Ordering::Relaxed),
            calls: Cell::new(calls),
            loops: [new_loop(), new_loop()],
            ends: RefCell::default(),
            servers: RefCell::default(),
            owners: RefCell::default(),
            raw: RefCell::default(),
            posted: Cell::new(0),
            made_or_dropped: Cell::new(0),
            prepared: RefCell::default(),
            given: Cell::new(0),
            given_back: Cell::new(0),
        })
    }

    /// The next choice of the input; zeros when it is used up.
    pub(crate) fn next<T: Arbitrary<'a>>(&self) -> T {
        let value = self.input.borrow_mut().arbitrary();
        value.unwrap_or_else(|_| {
            T::arbitrary(&mut Unstructured::new(&[])).expect("zeros are always there")
        })
    }

    pub(crate) fn below(&self, count: usize) -> usize {
        usize::from(self.next::<u8>()) % count.max(1)
    }

    /// Octets of the input, or many of one.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let size = self.next::<u8>();
        match size {
            0..=199 => {
                let mut input = self.input.borrow_mut();
                let size = usize::from(size).min(input.len());
                input.bytes(size).map(<[u8]>::to_vec).unwrap_or_default()
            }
            200..=254 => vec![size; 1 << (size % 18)],
            255 => vec![b'x'; 126],
        }
    }

    pub(crate) fn may_call(&self) -> bool {
        let left = self.calls.get();
        self.calls.set(left.saturating_sub(1));
        left > 0 && !self.input.borrow().is_empty()
    }

    pub(crate) fn owner(&self, at: usize, is_server: bool) -> *const Owner {
        let world = core::ptr::from_ref(self).cast::<World<'static>>();
        let owner = Box::new(Owner {
            world,
            at,
            is_server,
            ended: Cell::new(false),
        });
        let pointer = &raw const *owner;
        self.owners.borrow_mut().push(owner);
        pointer
    }

    /// A loop that calls may be made with: alive, or being freed while this is one of its callbacks.
    pub(crate) fn usable(&self, at: usize) -> Option<*mut wsabi_loop> {
        let state = &self.loops[at];
        let usable = match state.life.get() {
            Life::Alive => true,
            Life::Freeing => state.depth.get() > 0,
            Life::Gone => false,
        };
        usable.then_some(state.pointer)
    }

    pub(crate) fn path(&self, number: usize) -> PathBuf {
        std::env::temp_dir().join(format!("wsabi-fuzz-{}-{number}", std::process::id()))
    }

    pub(crate) fn find(&self, at: usize, id: u64) -> Option<usize> {
        self.ends
            .borrow()
            .iter()
            .position(|end| end.at == at && end.id == id)
    }

    /// Runs something that may make callbacks of a loop, and may free it.
    pub(crate) fn drive(&self, at: usize, act: impl FnOnce(*mut wsabi_loop) -> i32) -> Option<i32> {
        let pointer = self.usable(at)?;
        let state = &self.loops[at];
        state.depth.set(state.depth.get() + 1);
        let status = act(pointer);
        state.depth.set(state.depth.get() - 1);
        if state.depth.get() == 0 && state.life.get() == Life::Freeing {
            state.life.set(Life::Gone);
            assert_eq!(
                status,
                crate::status::WSABI_E_CLOSED,
                "it was freed meanwhile"
            );
        }
        Some(status)
    }

    pub(crate) fn free(&self, at: usize) {
        let Some(pointer) = self.usable(at) else {
            return;
        };
        let state = &self.loops[at];
        state.life.set(Life::Freeing);
        if state.depth.get() > 0 {
            // SAFETY: the loop is alive; it is freed when its dispatch ends.
            return unsafe { wsabi_loop_free(pointer) };
        }
        state.depth.set(1);
        // SAFETY: the loop is alive, and no call is made with it any more.
        unsafe { wsabi_loop_free(pointer) };
        state.depth.set(0);
        state.life.set(Life::Gone);
    }

    /// Lets things come to rest, frees everything and checks that everything had its end.
    pub(crate) fn settle(&self) {
        for at in [0, 1, 0, 1, 0, 1] {
            self.drive(at, |pointer| {
                // SAFETY: the loop is alive.
                check(unsafe { wsabi_loop_dispatch(pointer, core::ptr::null_mut()) })
            });
        }
        self.check_stale();
        self.free(0);
        self.free(1);
        for prepared in self.prepared.borrow_mut().drain(..) {
            // SAFETY: it was not freed.
            unsafe { wsabi_prepared_free(prepared.pointer) };
        }
        assert_eq!(
            self.given.get(),
            self.given_back.get(),
            "each payload is given back"
        );
        let ends = self.ends.borrow();
        for end in ends.iter() {
            if let Some(peer) = end.peer.filter(|_| !end.unsure && end.closed) {
                let handed = (end.sent.len() + usize::from(end.unfinished.is_some())) as u64;
                let left = handed
                    .checked_sub(end.dropped)
                    .expect("no more is dropped than was sent");
                assert!(
                    ends[peer].heard as u64 <= left,
                    "what was dropped has arrived"
                );
            }
            // A handshake that fails at a server ends without a word to its connection.
            assert!(
                end.closed || (end.is_server && !end.opened),
                "a connection without its end"
            );
        }
        assert!(self.owners.borrow().iter().all(|owner| owner.ended.get()));
        assert_eq!(
            self.posted.get(),
            self.made_or_dropped.get(),
            "each post has one outcome"
        );
        for server in self.servers.borrow().iter() {
            assert!(!server.path.exists(), "a socket's file is left behind");
        }
    }

    fn check_stale(&self) {
        for end in self.ends.borrow().iter().filter(|end| end.closed) {
            if let Some(pointer) = self.usable(end.at) {
                // SAFETY: the loop is alive.
                assert_eq!(
                    unsafe { wsabi_conn_state(pointer, end.id) },
                    WSABI_STATE_CLOSED
                );
            }
        }
    }
}

fn new_loop() -> LoopState {
    let mut pointer = core::ptr::null_mut();
    // SAFETY: null stands for the defaults, and the place is valid.
    let status = unsafe { wsabi_loop_new(core::ptr::null(), &raw mut pointer) };
    assert_eq!(status, WSABI_OK);
    LoopState {
        pointer,
        life: Cell::new(Life::Alive),
        depth: Cell::new(0),
    }
}

/// Checks a status: a known one, with a text if it is an error, and no defect.
pub(crate) fn check(status: i32) -> i32 {
    // SAFETY: the functions give strings that live long enough.
    let (name, text) = unsafe {
        (
            CStr::from_ptr(wsabi_status_name(status)),
            CStr::from_ptr(wsabi_last_error()),
        )
    };
    assert_ne!(name, c"WSABI_E_?", "{status}");
    assert_ne!(status, WSABI_E_PANIC, "{text:?}");
    assert!(status >= 0 || !text.is_empty());
    status
}

pub(crate) const fn user(owner: *const Owner) -> *mut c_void {
    owner.cast_mut().cast()
}
