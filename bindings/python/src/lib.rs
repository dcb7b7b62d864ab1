//! Nothing yet.
//!
//! Does not know: anything.
