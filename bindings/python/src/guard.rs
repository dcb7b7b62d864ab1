//! Data that belongs to whoever holds the interpreter's lock.
//!
//! Does not know: what the data is.

use pyo3::Python;

/// A value that is touched only by threads that are attached to the interpreter.
///
/// The module declares that it needs the global lock, so an interpreter without one turns it on,
/// and one thread at a time is attached.
pub(crate) struct Guarded<T>(T);

// SAFETY: the value is reached by `get` only, with a proof that this thread holds the lock, and the
// reference does not outlive that proof: `Python::detach` refuses closures that carry it away.
unsafe impl<T> Sync for Guarded<T> {}
// SAFETY: as above; where the value is dropped the lock is held too, because it is a part of a
// Python object.
unsafe impl<T> Send for Guarded<T> {}

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    #[inline]
    pub(crate) const fn get<'py>(&'py self, _py: Python<'py>) -> &'py T {
        &self.0
    }

    /// For the collector of cycles, which holds the lock but has no proof to give.
    ///
    /// # Safety
    /// The calling thread holds the lock.
    pub(crate) const unsafe fn get_collecting(&self) -> &T {
        &self.0
    }
}
