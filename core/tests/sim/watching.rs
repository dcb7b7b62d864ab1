//! The simulated kernel's way to tell who is ready: level-triggered, in any order, some of it twice and
//! some of it without cause.
//!
//! Does not know: what goes wrong between two ends.

use std::io;

use crate::chance::{self, Fault};
use crate::kernel::{Entry, FIRST_FD, Kernel, failure};
use crate::net::poller::{Interest, Ready};

/// A poller: what it watches, when it is to wake, and whether it was woken.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    pub(crate) watched: Vec<(i32, u64, Interest)>,
    pub(crate) timer: Option<u64>,
    pub(crate) woken: bool,
}

impl Kernel {
    pub(crate) fn add_watcher(&mut self) -> usize {
        self.watchers.push(Watcher::default());
        self.watchers.len() - 1
    }

    pub(crate) fn watch(
        &mut self,
        watcher: usize,
        fd: i32,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let watched = &mut self.watchers[watcher].watched;
        if watched.iter().any(|&(other, ..)| other == fd) {
            return Err(failure(libc::EEXIST));
        }
        watched.push((fd, token, interest));
        Ok(())
    }

    pub(crate) fn change(
        &mut self,
        watcher: usize,
        fd: i32,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let watched = &mut self.watchers[watcher].watched;
        match watched.iter_mut().find(|(other, ..)| *other == fd) {
            Some(entry) => *entry = (fd, token, interest),
            None => return Err(failure(libc::ENOENT)),
        }
        self.progress += 1;
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, watcher: usize, fd: i32) {
        self.watchers[watcher]
            .watched
            .retain(|&(other, ..)| other != fd);
        self.progress += 1;
    }

    /// How many descriptors are watched.
    pub(crate) fn watched(&self) -> usize {
        self.watchers
            .iter()
            .map(|watcher| watcher.watched.len())
            .sum()
    }

    pub(crate) fn set_timer(&mut self, watcher: usize, at: Option<u64>) {
        self.watchers[watcher].timer = at;
    }

    pub(crate) fn timer(&self, watcher: usize) -> Option<u64> {
        self.watchers[watcher].timer
    }

    pub(crate) fn wake(&mut self, watcher: usize) {
        self.watchers[watcher].woken = true;
    }

    /// What a descriptor is ready for, of what is of interest.
    fn readiness(&self, (fd, token, interest): (i32, u64, Interest)) -> Option<Ready> {
        let none = Ready {
            token,
            readable: false,
            writable: false,
            hangup: false,
        };
        let entry = self.entries.get((fd - FIRST_FD) as usize)?.as_ref()?;
        let ready = match *entry {
            Entry::Listener { ref queue, .. } => Ready {
                readable: interest.readable && !queue.is_empty(),
                ..none
            },
            Entry::Stream { link, side } => {
                let link = &self.links[link];
                let (out, input) = (&link.pipes[side], &link.pipes[1 - side]);
                let failed = link.error[side].is_some();
                if !link.made && !failed {
                    return None;
                }
                let [read_at, write_at] = link.blocked_until[side];
                let hangup = failed || input.reset || (out.shut && input.finished);
                let readable = input.is_readable() || failed;
                let writable = hangup || out.room() > 0;
                Ready {
                    token,
                    readable: interest.readable && readable && read_at <= self.now,
                    writable: interest.writable && writable && write_at <= self.now,
                    hangup: hangup && read_at <= self.now && write_at <= self.now,
                }
            }
        };
        (ready.readable || ready.writable || ready.hangup).then_some(ready)
    }

    /// Whether a wait would not block.
    pub(crate) fn is_ready(&self, watcher: usize) -> bool {
        let watcher = &self.watchers[watcher];
        watcher.woken
            || watcher.timer.is_some_and(|at| at <= self.now)
            || watcher
                .watched
                .iter()
                .any(|&entry| self.readiness(entry).is_some())
    }

    /// What a wait finds, in any order; some of it twice, and some of it without cause.
    pub(crate) fn wait(&mut self, watcher: usize, ready: &mut Vec<Ready>) -> bool {
        let found = self.is_ready(watcher);
        let this = &self.watchers[watcher];
        ready.extend(
            this.watched
                .iter()
                .filter_map(|&entry| self.readiness(entry)),
        );
        if !ready.is_empty() && self.chance.hits(self.weather.duplicate) {
            chance::hit(Fault::DuplicateReadiness);
            let twice = *self.chance.pick(ready);
            ready.push(twice);
        }
        if !self.watchers[watcher].watched.is_empty() && self.chance.hits(self.weather.spurious) {
            chance::hit(Fault::SpuriousReadiness);
            let &(_, token, interest) = self.chance.pick(&self.watchers[watcher].watched);
            ready.push(Ready {
                token,
                readable: interest.readable,
                writable: interest.writable,
                hangup: false,
            });
        }
        self.chance.shuffle(ready);
        let (now, this) = (self.now, &mut self.watchers[watcher]);
        this.woken = false;
        this.timer = this.timer.filter(|&at| at > now);
        found
    }
}
