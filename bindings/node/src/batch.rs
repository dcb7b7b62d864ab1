//! What one connection has received and JavaScript has not been told yet: records in an array that
//! both sides see, payloads in memory that JavaScript has allocated.
//!
//! The views that JavaScript makes of the payloads keep that memory for as long as they live. So
//! small payloads share small slabs, larger ones larger slabs, and what is large has memory of its
//! own: a payload that is kept never keeps much more than others of its size.
//!
//! Does not know: when it is handed over, or what JavaScript does with it.

use core::ptr;

use napi::sys::{napi_env, napi_ref, napi_value};
use wsabi::ConnId;

use crate::js;

/// The numbers before the records: the connection's index, how many records there are, whether
/// its output may wait, and where in the list of buffers the slabs are.
const HEADER: usize = 3 + SLABS.len();
/// Where in them it is whether output may wait.
const IS_WAITING: usize = 2;
/// The numbers of a record: buffer and kind, offset, length.
const RECORD: usize = 3;
/// The largest payload of each kind of slab, and the size of the slab.
const SLABS: [(usize, usize); 3] = [(512, 8 << 10), (8 << 10, 64 << 10), (32 << 10, 96 << 10)];
/// The most that glibc takes into account, 32 MiB, less what it adds itself.
const LARGE: usize = (32 << 20) - (64 << 10);
/// Payloads begin at multiples of this, as those of Node's own pool do.
const ALIGNMENT: usize = 8;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    pub(crate) const BINARY: Self = Self(0);
    pub(crate) const TEXT: Self = Self(1);
    pub(crate) const PING: Self = Self(2);
    pub(crate) const PONG: Self = Self(3);
    /// How many bits a kind has.
    const BITS: u32 = 4;

    /// A part of a message.
    pub(crate) const fn chunk(is_text: bool, first: bool, last: bool) -> Self {
        Self(8 | is_text as u8 | (first as u8) << 1 | (last as u8) << 2)
    }
}

/// Memory for several payloads, which JavaScript allocated and keeps in its list.
#[derive(Default)]
struct Slab {
    reference: Option<napi_ref>,
    data: Option<ptr::NonNull<u8>>,
    len: usize,
    used: usize,
    /// Where it is in JavaScript's list.
    index: usize,
    /// Whether the memory is known to be there still: JavaScript has not run since.
    sure: bool,
}

/// Asks JavaScript for an ArrayBuffer of a size, for several messages or one, which it puts at the
/// end of its list.
pub(crate) type Allocate<'a> = &'a dyn Fn(usize, bool) -> Option<napi_value>;

/// The records and where their payloads are.
pub(crate) struct Batch {
    env: napi_env,
    numbers: *mut u32,
    capacity: usize,
    connection: Option<ConnId>,
    count: usize,
    slabs: [Slab; SLABS.len()],
    /// How many buffers JavaScript's list has.
    buffers: usize,
    /// Whether the allocator was made to expect large memory.
    expects_large: bool,
}

impl Batch {
    /// A batch with its records in `numbers`, which has room for `len` of them.
    pub(crate) fn new(env: napi_env, numbers: *mut u32, len: usize) -> Self {
        let batch = Self {
            env,
            numbers,
            capacity: len.saturating_sub(HEADER) / RECORD,
            connection: None,
            count: 0,
            slabs: Default::default(),
            buffers: SLABS.len(),
            expects_large: false,
        };
        batch.wait();
        batch
    }

    /// Whether a record of `connection` can be added.
    #[inline]
    pub(crate) fn takes(&self, connection: ConnId) -> bool {
        self.count < self.capacity && self.connection.is_none_or(|other| other == connection)
    }

    /// Adds a record; `None` if JavaScript has no memory.
    #[inline]
    pub(crate) fn add(
        &mut self,
        connection: ConnId,
        kind: Kind,
        payload: &[u8],
        allocate: Allocate<'_>,
    ) -> Option<()> {
        let (index, offset) = self.place(payload, allocate)?;
        self.connection = Some(connection);
        let at = HEADER + self.count * RECORD;
        self.write(at, (index << Kind::BITS | usize::from(kind.0)) as u32);
        self.write(at + 1, offset as u32);
        self.write(at + 2, payload.len() as u32);
        self.count += 1;
        Some(())
    }

    /// Completes the records for JavaScript to read, and tells whose they are; `None` if there are
    /// none. `is_waiting` tells whether JavaScript has to ask how much output of it waits.
    pub(crate) fn seal(&mut self, is_waiting: impl FnOnce(ConnId) -> bool) -> Option<ConnId> {
        let connection = self.connection.take()?;
        self.write(0, connection.as_u64() as u32);
        self.write(1, self.count as u32);
        self.write(IS_WAITING, u32::from(is_waiting(connection)));
        for kind in 0..self.slabs.len() {
            self.write(3 + kind, self.slabs[kind].index as u32);
        }
        Some(connection)
    }

    /// Output may wait: from now on until the next records JavaScript has to ask.
    #[inline]
    pub(crate) fn wait(&self) {
        self.write(IS_WAITING, 1);
    }

    /// JavaScript has seen the records, and its list has the slabs only, at the beginning.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.wait();
        self.buffers = SLABS.len();
        for (index, slab) in self.slabs.iter_mut().enumerate() {
            slab.index = index;
        }
        self.doubt();
    }

    /// JavaScript has run: it may have detached the slabs' memory, to transfer it to a worker.
    pub(crate) fn doubt(&mut self) {
        for slab in &mut self.slabs {
            slab.sure = false;
        }
    }

    #[inline]
    fn write(&self, at: usize, number: u32) {
        debug_assert!(at < HEADER + self.capacity * RECORD);
        // SAFETY: `at` is below the array's length: a header, and `capacity` records. The array is
        // kept by the host and not known to the application, so nobody detaches it.
        unsafe { self.numbers.add(at).write(number) };
    }

    /// Copies a payload to where JavaScript finds it.
    #[inline]
    fn place(&mut self, payload: &[u8], allocate: Allocate<'_>) -> Option<(usize, usize)> {
        if payload.is_empty() {
            return Some((0, 0));
        }
        let kind = SLABS.iter().position(|&(most, _)| payload.len() <= most);
        let Some(kind) = kind else {
            return self.place_alone(payload, allocate);
        };
        let slab = &mut self.slabs[kind];
        if !(slab.sure && slab.len - slab.used >= payload.len()) {
            self.prepare(kind, payload.len(), allocate)?;
        }
        let slab = &mut self.slabs[kind];
        let offset = slab.used;
        // SAFETY: the slab has `len` octets, and `prepare` saw to it that the payload fits behind
        // `used`. Nobody else has seen what is behind `used`.
        unsafe {
            let target = slab.data?.as_ptr().add(offset);
            ptr::copy_nonoverlapping(payload.as_ptr(), target, payload.len());
        }
        slab.used = (offset + payload.len())
            .next_multiple_of(ALIGNMENT)
            .min(slab.len);
        Some((slab.index, offset))
    }

    /// Sees to it that a slab is there and has room.
    #[inline(never)]
    fn prepare(&mut self, kind: usize, len: usize, allocate: Allocate<'_>) -> Option<()> {
        let slab = &mut self.slabs[kind];
        if let Some(reference) = slab.reference {
            let memory = js::memory(self.env, js::value_of(self.env, reference));
            slab.sure = memory.is_some_and(|(data, len)| {
                Some(data) == slab.data.map(ptr::NonNull::as_ptr) && len == slab.len
            });
            if slab.sure && slab.len - slab.used >= len {
                return Some(());
            }
            js::forget(self.env, reference);
            *slab = Slab {
                index: slab.index,
                ..Slab::default()
            };
        }
        if kind + 1 == SLABS.len() {
            self.expect_large();
        }
        let buffer = allocate(SLABS[kind].1, true)?;
        let slab = &mut self.slabs[kind];
        let (data, len) = js::memory(self.env, buffer)?;
        slab.index = self.buffers;
        self.buffers += 1;
        slab.reference = js::keep(self.env, buffer);
        (slab.data, slab.len, slab.used) = (ptr::NonNull::new(data), len, 0);
        slab.sure = slab.reference.is_some();
        slab.sure.then_some(())
    }

    /// Lets go of the memory that would be shared by what comes next.
    pub(crate) fn forget_slabs(&mut self) {
        for slab in &mut self.slabs {
            if let Some(reference) = slab.reference.take() {
                js::forget(self.env, reference);
            }
            *slab = Slab::default();
        }
    }

    /// Has the allocator expect that large memory comes and goes: allocates some, untouched, and
    /// frees it, once.
    ///
    /// V8 frees ArrayBuffers many at a time, and glibc gives such memory back to the kernel at once,
    /// so that every large message would have new pages of it, cleared and mapped one by one: more
    /// work than everything else about the message. glibc goes by what it has seen freed: after
    /// this, it keeps up to twice as much for the next ones, unless its settings say otherwise.
    /// Other allocators take no notice.
    fn expect_large(&mut self) {
        if self.expects_large {
            return;
        }
        self.expects_large = true;
        let mut memory: Vec<u8> = Vec::new();
        // Without the memory everything works, only slower.
        let _ = memory.try_reserve_exact(LARGE);
        drop(core::hint::black_box(memory));
    }

    #[inline(never)]
    fn place_alone(&mut self, payload: &[u8], allocate: Allocate<'_>) -> Option<(usize, usize)> {
        self.expect_large();
        let buffer = allocate(payload.len(), false)?;
        let (data, len) = js::memory(self.env, buffer)?;
        let index = self.buffers;
        self.buffers += 1;
        if len < payload.len() {
            return None;
        }
        // SAFETY: the buffer has at least as many octets, and is as new as can be.
        unsafe { ptr::copy_nonoverlapping(payload.as_ptr(), data, payload.len()) };
        Some((index, 0))
    }
}
