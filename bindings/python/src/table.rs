//! Numbered places for things that callbacks are looked up by.
//!
//! Does not know: what is kept.

use core::num::NonZeroUsize;

/// Things with numbers from 1 on; a free number is used again.
pub(crate) struct Table<T> {
    all: Vec<Option<T>>,
    free: Vec<NonZeroUsize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    pub(crate) fn add(&mut self, thing: T) -> NonZeroUsize {
        if let Some(number) = self.free.pop() {
            self.all[number.get() - 1] = Some(thing);
            return number;
        }
        self.all.push(Some(thing));
        NonZeroUsize::new(self.all.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The thing with that number; 0 is nothing's.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.all.get(number.wrapping_sub(1))?.as_ref()
    }

    /// The first thing that `is` likes, and its number.
    pub(crate) fn find(&self, is: impl Fn(&T) -> bool) -> Option<(usize, &T)> {
        let mut things = (1..).zip(&self.all);
        things.find_map(|(number, thing)| match thing {
            Some(thing) if is(thing) => Some((number, thing)),
            _ => None,
        })
    }

    #[must_use = "dropping it may run code that needs the table"]
    pub(crate) fn remove(&mut self, number: usize) -> Option<T> {
        let place = NonZeroUsize::new(number)?;
        let thing = self.all.get_mut(number - 1)?.take()?;
        self.free.push(place);
        Some(thing)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().flatten()
    }
}
