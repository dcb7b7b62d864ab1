//! Deadlines of many keys: a hierarchical timing wheel with ticks of one millisecond.
//!
//! Each level has 64 lists; a list on level `n` spans 64^n ms, and eleven levels span every `Time`.
//! A deadline stands on the level of the highest bit in which it differs from `elapsed`, hence every
//! list lies ahead of `elapsed` and the first occupied one is the next to come.
//! When `elapsed` reaches a list of a higher level, its keys are sorted into lower ones, at most once
//! per level and deadline: setting, cancelling and expiring cost O(1), however far the clock jumps.
//!
//! Does not know: what the keys stand for, or where the time comes from.

use crate::time::Time;

/// Bits of a deadline that one level decides.
const BITS: usize = 6;
const SLOTS: usize = 1 << BITS;
/// Enough for all 64 bits of a time.
const LEVELS: usize = (u64::BITS as usize).div_ceil(BITS);
/// The list after those of the wheel: timers that wait for the end of the running series of `expired`.
const HELD: u16 = (LEVELS * SLOTS) as u16;
/// The `list` of a key that has no deadline.
const UNSET: u16 = u16::MAX;
/// The head of an empty list.
const NONE: u32 = u32::MAX;

/// A key's deadline and its place in a circular, doubly linked list.
#[derive(Clone, Copy)]
struct Node {
    at: u64,
    next: u32,
    previous: u32,
    list: u16,
}

const _: () = assert!(size_of::<Node>() <= 24);

/// One deadline per key. Keys are small and dense: memory follows the largest one ever set.
pub(crate) struct Timers {
    nodes: Vec<Node>,
    heads: [u32; LEVELS * SLOTS + 1],
    /// Bit `s` of `occupied[l]`: list `s` of level `l` is not empty.
    occupied: [u64; LEVELS],
    /// The time up to which lists have been emptied; `elapsed <= seen`.
    elapsed: u64,
    /// The latest time `expired` was called with.
    seen: u64,
    /// `expired` has answered with a key and not yet with `None`.
    popping: bool,
}

impl Timers {
    /// No deadlines, at the time `now`.
    pub(crate) fn new(now: Time) -> Self {
        Self {
            nodes: Vec::new(),
            heads: [NONE; LEVELS * SLOTS + 1],
            occupied: [0; LEVELS],
            elapsed: now.as_millis(),
            seen: now.as_millis(),
            popping: false,
        }
    }

    /// Gives `key` the deadline `at` instead of any earlier one.
    ///
    /// A deadline that is already past expires with the next call of [`Timers::expired`], except inside
    /// a series of such calls: see there.
    pub(crate) fn set(&mut self, key: u32, at: Time) {
        debug_assert!(key != NONE, "keys are dense");
        let index = key as usize;
        if index >= self.nodes.len() {
            let empty = Node {
                at: 0,
                next: NONE,
                previous: NONE,
                list: UNSET,
            };
            self.nodes.resize(index + 1, empty);
        }
        let at = at.as_millis();
        let held = self.popping && at <= self.seen;
        let list = if held { HELD } else { self.list_for(at) };
        self.nodes[index].at = at;
        if self.nodes[index].list != list {
            self.unlink(key);
            self.link(key, list);
        }
    }

    /// Takes the deadline of `key` away, if it has one.
    pub(crate) fn cancel(&mut self, key: u32) {
        if (key as usize) < self.nodes.len() {
            self.unlink(key);
        }
    }

    /// The deadline of `key`, if it has one.
    pub(crate) fn deadline(&self, key: u32) -> Option<Time> {
        let node = self.nodes.get(key as usize)?;
        (node.list != UNSET).then(|| Time::from_millis(node.at))
    }

    /// When [`Timers::expired`] has to be called again; `None` without any deadline.
    ///
    /// Never later than the earliest deadline (one that was past when it was set counts as the time of
    /// the last call of `expired`), and earlier only where keys have to be sorted into a lower level.
    pub(crate) fn next(&self) -> Option<Time> {
        let start = if self.heads[usize::from(HELD)] == NONE {
            self.first()?.1
        } else {
            self.elapsed
        };
        Some(Time::from_millis(start))
    }

    /// Takes one key whose deadline is at or before `now`, and with it the deadline.
    ///
    /// Called until it answers `None`, also when timers are set in between: one set inside such a series
    /// with a deadline at or before `now` is held back until the series has ended with `None` or is
    /// continued with a later `now`, so that every series ends. Meanwhile `next` says that it is due.
    /// A `now` before that of an earlier call is taken to be that of the earlier call.
    pub(crate) fn expired(&mut self, now: Time) -> Option<u32> {
        if now.as_millis() > self.seen {
            self.seen = now.as_millis();
            self.sort(HELD);
        }
        while let Some((list, start)) = self.first()
            && start <= self.seen
        {
            self.elapsed = start;
            if usize::from(list) < SLOTS {
                let key = self.heads[usize::from(list)];
                self.unlink(key);
                self.popping = true;
                return Some(key);
            }
            self.sort(list);
        }
        self.elapsed = self.seen;
        self.popping = false;
        self.sort(HELD);
        None
    }

    /// The list for a deadline; one that is past belongs to the tick of `elapsed`.
    fn list_for(&self, at: u64) -> u16 {
        let at = at.max(self.elapsed);
        let level = ((at ^ self.elapsed) | 1).ilog2() as usize / BITS;
        let slot = (at >> (level * BITS)) as usize % SLOTS;
        (level * SLOTS + slot) as u16
    }

    /// The first occupied list of the wheel, and the time at which it begins.
    fn first(&self) -> Option<(u16, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        // A deadline agrees with `elapsed` in all bits above those of its level.
        let above = (self.elapsed >> (level * BITS)) & !(SLOTS as u64 - 1);
        let start = (above | slot as u64) << (level * BITS);
        Some(((level * SLOTS + slot) as u16, start))
    }

    /// Empties a list and puts each of its keys where it belongs as seen from `elapsed`.
    fn sort(&mut self, list: u16) {
        let first = self.heads[usize::from(list)];
        if first == NONE {
            return;
        }
        self.set_head(list, NONE);
        let mut key = first;
        loop {
            let Node { at, next, .. } = self.nodes[key as usize];
            self.link(key, self.list_for(at));
            if next == first {
                return;
            }
            key = next;
        }
    }

    /// Appends `key`, which is in no list.
    fn link(&mut self, key: u32, list: u16) {
        let head = self.heads[usize::from(list)];
        let (next, previous) = if head == NONE {
            self.set_head(list, key);
            (key, key)
        } else {
            (head, self.nodes[head as usize].previous)
        };
        let node = &mut self.nodes[key as usize];
        (node.next, node.previous, node.list) = (next, previous, list);
        self.nodes[previous as usize].next = key;
        self.nodes[next as usize].previous = key;
    }

    /// Takes `key` out of its list, if it is in one.
    fn unlink(&mut self, key: u32) {
        let Node {
            next,
            previous,
            list,
            ..
        } = self.nodes[key as usize];
        if list == UNSET {
            return;
        }
        self.nodes[key as usize].list = UNSET;
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
        if next == key {
            self.set_head(list, NONE);
        } else if self.heads[usize::from(list)] == key {
            self.set_head(list, next);
        }
    }

    /// Sets where a list begins, and its bit in `occupied`.
    fn set_head(&mut self, list: u16, key: u32) {
        let list = usize::from(list);
        self.heads[list] = key;
        if let Some(slots) = self.occupied.get_mut(list / SLOTS) {
            let bit = 1 << (list % SLOTS);
            *slots = if key == NONE {
                *slots & !bit
            } else {
                *slots | bit
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn ms(at: u64) -> Time {
        Time::from_millis(at)
    }

    fn all_expired(timers: &mut Timers, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.expired(ms(now))).collect()
    }

    #[test]
    fn expires_at_the_deadline_and_never_before() {
        let mut timers = Timers::new(ms(1000));
        timers.set(7, ms(1500));
        assert_eq!(all_expired(&mut timers, 1499), []);
        assert_eq!(timers.next(), Some(ms(1500)));
        assert_eq!(all_expired(&mut timers, 1500), [7]);
        assert_eq!(all_expired(&mut timers, 1500), []);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_later_set_replaces_and_cancel_removes() {
        let mut timers = Timers::new(ms(0));
        timers.set(1, ms(10));
        timers.set(1, ms(20));
        timers.set(2, ms(15));
        timers.set(3, ms(15));
        timers.cancel(2);
        timers.cancel(2);
        timers.cancel(99);
        assert_eq!(all_expired(&mut timers, 19), [3]);
        assert_eq!(all_expired(&mut timers, 20), [1]);
    }

    #[test]
    fn one_tick_expires_in_the_order_of_setting_and_ticks_in_order() {
        let mut timers = Timers::new(ms(0));
        for (key, at) in [(5, 40_000), (3, 39_999), (4, 40_000), (0, 70)] {
            timers.set(key, ms(at));
        }
        assert_eq!(all_expired(&mut timers, 50_000), [0, 3, 5, 4]);
    }

    #[test]
    fn a_past_deadline_expires_on_the_next_call() {
        let mut timers = Timers::new(ms(500));
        timers.set(0, ms(3));
        assert_eq!(timers.next(), Some(ms(500)));
        assert_eq!(timers.expired(ms(500)), Some(0));
        assert_eq!(timers.expired(ms(500)), None);
        timers.set(0, ms(500));
        assert_eq!(timers.expired(ms(500)), Some(0));
    }

    #[test]
    fn what_is_set_due_inside_a_series_waits_for_its_end() {
        let mut timers = Timers::new(ms(0));
        timers.set(0, ms(10));
        timers.set(1, ms(20));
        let mut popped = Vec::new();
        while let Some(key) = timers.expired(ms(100)) {
            popped.push(key);
            // Both before and after the time of the list that is being emptied.
            timers.set(key, ms(if key == 0 { 5 } else { 100 }));
            assert_eq!(timers.next(), Some(ms(if key == 0 { 10 } else { 20 })));
            assert!(popped.len() < 10, "the series does not end");
        }
        assert_eq!(popped, [0, 1]);
        assert_eq!(timers.next(), Some(ms(100)));
        assert_eq!(all_expired(&mut timers, 100), [0, 1]);
    }

    #[test]
    fn a_series_that_was_broken_off_goes_on_with_what_was_held() {
        let mut timers = Timers::new(ms(0));
        timers.set(0, ms(10));
        assert_eq!(timers.expired(ms(10)), Some(0));
        timers.set(0, ms(10));
        assert_eq!(timers.expired(ms(11)), Some(0));
        timers.set(0, ms(1));
        timers.cancel(0);
        assert_eq!(timers.next(), None);
        assert_eq!(timers.expired(ms(12)), None);
    }

    #[test]
    fn extreme_times_have_their_place() {
        let last = ms(u64::MAX).as_millis();
        for start in [0, last - 1000] {
            let mut timers = Timers::new(ms(start));
            timers.set(0, ms(last));
            timers.set(1, ms(last - 1));
            assert_eq!(all_expired(&mut timers, last - 2), []);
            assert_eq!(all_expired(&mut timers, last - 1), [1]);
            assert_eq!(timers.next(), Some(ms(last)));
            assert_eq!(all_expired(&mut timers, last), [0]);
        }
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let mut timers = Timers::new(ms(100));
        assert_eq!(timers.expired(ms(200)), None);
        timers.set(0, ms(201));
        assert_eq!(timers.expired(ms(50)), None);
        timers.set(1, ms(150));
        assert_eq!(timers.expired(ms(50)), Some(1));
        assert_eq!(all_expired(&mut timers, 201), [0]);
    }

    /// Each level is passed at most once on the way to a deadline, whatever the distance.
    #[test]
    fn following_next_reaches_any_deadline_in_few_steps() {
        for start in [0, 1, 63, 64, 4095, 262_143, (1 << 36) - 1, 123_456_789_012] {
            for distance in [
                0,
                1,
                63,
                64,
                65,
                4096,
                20_000,
                DAY,
                30 * DAY,
                10_000 * DAY,
                1 << 60,
            ] {
                let (mut timers, at) = (Timers::new(ms(start)), start + distance);
                timers.set(0, ms(at));
                let mut steps = 0;
                let (expired, when) = loop {
                    let when = timers.next().unwrap();
                    steps += 1;
                    if let Some(key) = timers.expired(when) {
                        break (key, when);
                    }
                    assert!(when < ms(at) && steps <= LEVELS, "{start} + {distance}");
                };
                assert_eq!((expired, when), (0, ms(at)));
            }
        }
    }

    /// Not periodic in our lifetime, and the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn distance(&mut self) -> u64 {
            let scale =
                [2, 64, 5000, 300_000, DAY, 400 * DAY, 100_000 * DAY][self.below(7) as usize];
            self.below(scale)
        }
    }

    /// The wheel beside a map from key to deadline.
    struct Pair {
        timers: Timers,
        model: BTreeMap<u32, u64>,
        random: Random,
        now: u64,
    }

    impl Pair {
        fn set(&mut self) -> u32 {
            let key = self.random.below(300) as u32;
            let distance = self.random.distance();
            let past = self.random.below(10) == 0;
            let at = if past {
                self.now.saturating_sub(distance)
            } else {
                self.now + distance
            };
            self.timers.set(key, ms(at));
            self.model.insert(key, at);
            key
        }

        fn cancel(&mut self) -> u32 {
            let key = self.random.below(320) as u32;
            self.timers.cancel(key);
            self.model.remove(&key);
            key
        }

        fn pop_all(&mut self) {
            let mut held: Vec<u32> = Vec::new();
            while let Some(key) = self.timers.expired(ms(self.now)) {
                let at = self.model.remove(&key).expect("it has a deadline");
                assert!(
                    at <= self.now,
                    "{key} expired at {} instead of {at}",
                    self.now
                );
                assert!(
                    !held.contains(&key),
                    "{key} expired in the series that set it"
                );
                if self.random.below(3) == 0 {
                    let key = self.set();
                    held.retain(|&other| other != key);
                    if self.model[&key] <= self.now {
                        held.push(key);
                    }
                }
                if self.random.below(8) == 0 {
                    let key = self.cancel();
                    held.retain(|&other| other != key);
                }
            }
            let mut late = self.model.iter().filter(|&(_, &at)| at <= self.now);
            assert!(
                late.all(|(key, _)| held.contains(key)),
                "a deadline was missed"
            );
        }

        fn compare_next(&self) {
            let earliest = self
                .model
                .values()
                .min()
                .map(|&at| at.max(self.timers.seen));
            let next = self.timers.next().map(Time::as_millis);
            assert_eq!(next.is_some(), earliest.is_some());
            assert!(next <= earliest, "{next:?} is later than {earliest:?}");
            assert!(next.is_none_or(|next| next >= self.timers.elapsed));
            if next != earliest {
                let boundary = next.unwrap();
                assert_eq!(
                    boundary % SLOTS as u64,
                    0,
                    "early but at a boundary of levels"
                );
            }
        }
    }

    #[test]
    fn agrees_with_a_naive_model() {
        for seed in [1, 0x9e37_79b9_7f4a_7c15, 0xdead_beef] {
            let now = 1_000_000;
            let timers = Timers::new(ms(now));
            let mut pair = Pair {
                timers,
                model: BTreeMap::new(),
                random: Random(seed),
                now,
            };
            for _ in 0..100_000 {
                match pair.random.below(10) {
                    0..=4 => drop(pair.set()),
                    5 | 6 => drop(pair.cancel()),
                    7 => {
                        // As a loop does it: straight to the announced time.
                        pair.now = pair
                            .timers
                            .next()
                            .map_or(pair.now, |at| at.as_millis().max(pair.now));
                        pair.pop_all();
                    }
                    _ => {
                        pair.now += pair.random.distance() >> pair.random.below(20);
                        pair.pop_all();
                    }
                }
                pair.compare_next();
            }
        }
    }
}
