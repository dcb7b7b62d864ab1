//! An allocator that tells the library's memory from the simulator's own.
//!
//! Every block remembers who asked for it, so that either may free it.
//!
//! Does not know: what the memory is for, or how much is too much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Room before each block, for its owner; keeps the alignment of what follows.
const HEADER: usize = 16;

thread_local! {
    static IS_LIBRARY: Cell<bool> = const { Cell::new(false) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

pub(crate) struct Ledger;

fn count(is_library: bool, bytes: i64) {
    if is_library {
        let live = LIVE.get() + bytes;
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
    }
}

fn with_header(layout: Layout) -> Option<(Layout, usize)> {
    let offset = layout.align().max(HEADER);
    let size = layout.size().checked_add(offset)?;
    let layout = Layout::from_size_align(size, offset).ok()?;
    Some((layout, offset))
}

// SAFETY: every block is the system allocator's, with a header of the alignment's size before it, and
// goes back with the same layout.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((outer, offset)) = with_header(layout) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the size is at least that of the header.
        let block = unsafe { System.alloc(outer) };
        // SAFETY: as the caller's.
        unsafe { hand_out(block, offset, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((outer, offset)) = with_header(layout) else {
            return std::ptr::null_mut();
        };
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(outer) };
        // SAFETY: as above.
        unsafe { hand_out(block, offset, layout.size()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some((outer, offset)) = with_header(layout) else {
            return;
        };
        // SAFETY: the block was handed out with this layout, so its header lies before it.
        unsafe {
            let block = pointer.sub(offset);
            count(*block != 0, -(layout.size() as i64));
            System.dealloc(block, outer);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some((outer, offset)) = with_header(layout) else {
            return std::ptr::null_mut();
        };
        let Some(outer_size) = size.checked_add(offset) else {
            return std::ptr::null_mut();
        };
        // SAFETY: as for `dealloc`; the header moves with the block, and its owner stays.
        unsafe {
            let is_library = *pointer.sub(offset) != 0;
            let block = System.realloc(pointer.sub(offset), outer, outer_size);
            if block.is_null() {
                return block;
            }
            count(is_library, size as i64 - layout.size() as i64);
            block.add(offset)
        }
    }
}

/// # Safety
/// `block` is null or has room for `offset + size` bytes, and `offset` is not 0.
unsafe fn hand_out(block: *mut u8, offset: usize, size: usize) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    let is_library = IS_LIBRARY.get();
    count(is_library, size as i64);
    // SAFETY: upheld by the caller.
    unsafe {
        *block = u8::from(is_library);
        block.add(offset)
    }
}

/// Puts back whose memory is asked for.
pub(crate) struct Owner(bool);

impl Drop for Owner {
    fn drop(&mut self) {
        IS_LIBRARY.set(self.0);
    }
}

/// From here on until the value is dropped, what is allocated is the library's.
#[must_use]
pub(crate) fn of_library() -> Owner {
    Owner(IS_LIBRARY.replace(true))
}

/// From here on until the value is dropped, what is allocated is the simulator's.
#[must_use]
pub(crate) fn of_simulator() -> Owner {
    Owner(IS_LIBRARY.replace(false))
}

/// Bytes of this thread that are the library's.
pub(crate) fn live() -> i64 {
    LIVE.get()
}

/// The most there were since this was last asked.
pub(crate) fn take_peak() -> i64 {
    PEAK.replace(LIVE.get())
}
