//! The poller of every other system: mio, which reports only changes, with a memory of what is ready.
//!
//! What mio reported stays ready until the caller meets `EAGAIN` and says so through `blocked`; so
//! callers see levels, at the price of one more attempt that finds nothing.
//! There is no descriptor for a host loop: such a host asks for the timeout and polls.
//!
//! Does not know: sockets, or what the timer and the wake-ups are for.

use super::readiness::{Interest, MAX_EVENTS, Ready, TIMER, WAKE, monotonic};
use crate::time::Time;
use mio::unix::SourceFd;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// mio's token of the wake-up; every other is a descriptor.
const WAKE_TOKEN: mio::Token = mio::Token(WAKE as usize);

/// Watches descriptors that stay somebody else's.
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    deadline: Option<Time>,
    watched: HashMap<RawFd, Watched>,
    /// The descriptor of each token.
    descriptors: HashMap<u64, RawFd>,
    /// Descriptors that may be ready, in turn; each watched one once at most (`Watched::queued`).
    queue: VecDeque<(RawFd, u64)>,
    /// Room for the descriptors of one wait.
    changed: Vec<RawFd>,
    /// The last `Watched::serial` given.
    serial: u64,
}

struct Watched {
    token: u64,
    /// Tells a queue entry of this descriptor from one of an earlier descriptor with the same number.
    serial: u64,
    interest: Interest,
    /// What mio watches: every direction that was ever of interest.
    registered: mio::Interest,
    /// What has been reported and not been blocked since, of interest or not.
    ready: Interest,
    read_closed: bool,
    write_closed: bool,
    error: bool,
    queued: bool,
}

impl Watched {
    fn hangup(&self) -> bool {
        self.error || (self.read_closed && self.write_closed)
    }

    /// What a caller is to hear; `None` if nothing.
    fn report(&self) -> Option<Ready> {
        let hangup = self.hangup();
        let readable = self.interest.readable && (self.ready.readable || hangup);
        let writable = self.interest.writable && (self.ready.writable || hangup);
        let ready = Ready {
            token: self.token,
            readable,
            writable,
            hangup,
        };
        (readable || writable || hangup).then_some(ready)
    }

    fn note(&mut self, event: &mio::event::Event) {
        self.read_closed |= event.is_read_closed();
        self.write_closed |= event.is_write_closed();
        self.error |= event.is_error();
        self.ready.readable |= event.is_readable() || event.is_read_closed();
        self.ready.writable |= event.is_writable() || event.is_write_closed();
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE_TOKEN)?);
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(MAX_EVENTS),
            waker,
            deadline: None,
            watched: HashMap::new(),
            descriptors: HashMap::new(),
            queue: VecDeque::new(),
            changed: Vec::new(),
            serial: 0,
        })
    }

    /// The monotonic clock of all deadlines.
    pub(crate) fn now() -> Time {
        monotonic()
    }

    /// None: what is ready is partly known in user space only.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        None
    }

    /// Watches `fd`, which is not watched yet, until it is removed; to be done before it is closed.
    pub(crate) fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        if token >= TIMER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a token of the poller's own",
            ));
        }
        // mio cannot watch for hang-ups alone.
        let registered = directions(interest).unwrap_or(mio::Interest::READABLE);
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), mio::Token(fd as usize), registered)?;
        self.serial += 1;
        let watched = Watched {
            token,
            serial: self.serial,
            interest,
            registered,
            ready: Interest::NONE,
            read_closed: false,
            write_closed: false,
            error: false,
            queued: false,
        };
        self.watched.insert(fd, watched);
        self.descriptors.insert(token, fd);
        Ok(())
    }

    /// Changes the interest in a watched `fd`.
    pub(crate) fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let Some(watched) = self.watched.get_mut(&fd) else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        if let Some(wanted) = directions(interest)
            && watched.registered | wanted != watched.registered
        {
            let all = watched.registered | wanted;
            self.poll
                .registry()
                .reregister(&mut SourceFd(&fd), mio::Token(fd as usize), all)?;
            watched.registered = all;
        }
        if watched.token != token {
            self.descriptors.remove(&watched.token);
            self.descriptors.insert(token, fd);
            watched.token = token;
        }
        watched.interest = interest;
        self.enqueue(fd);
        Ok(())
    }

    /// Stops watching `fd`; fine if it is not watched.
    pub(crate) fn remove(&mut self, fd: RawFd) {
        if let Some(watched) = self.watched.remove(&fd) {
            self.descriptors.remove(&watched.token);
            // Fails only if the descriptor is not in the set, which is what is wanted.
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// Waits until something is ready, the timer fires, a [`Waker`] wakes it, or `timeout` has passed,
    /// and replaces the content of `ready`.
    ///
    /// Zero does not block, `None` sets no limit.
    /// A timer that fired and a wake-up are consumed and have no entry.
    /// It may return early with nothing ready, as after a signal. Tells whether anything of these
    /// happened.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<bool> {
        ready.clear();
        self.forget_blocked();
        let timeout = if self.queue.is_empty() {
            self.until_deadline(timeout)
        } else {
            Some(Duration::ZERO)
        };
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            let interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if interrupted { Ok(false) } else { Err(error) };
        }
        let mut changed = std::mem::take(&mut self.changed);
        for event in self
            .events
            .iter()
            .filter(|event| event.token() != WAKE_TOKEN)
        {
            let fd = event.token().0 as RawFd;
            if let Some(watched) = self.watched.get_mut(&fd) {
                watched.note(event);
                changed.push(fd);
            }
        }
        for fd in changed.drain(..) {
            self.enqueue(fd);
        }
        self.changed = changed;
        let mut happened = !self.events.is_empty();
        if self.deadline.is_some_and(|at| at <= monotonic()) {
            self.deadline = None;
            happened = true;
        }
        self.report(ready);
        Ok(happened || !ready.is_empty())
    }

    /// Hears that the caller met `EAGAIN` in these directions: they are not ready until mio says so again.
    pub(crate) fn blocked(&mut self, token: u64, interest: Interest) {
        let watched = self
            .descriptors
            .get(&token)
            .and_then(|fd| self.watched.get_mut(fd));
        if let Some(watched) = watched {
            watched.ready.readable &= !interest.readable;
            watched.ready.writable &= !interest.writable;
        }
    }

    /// Ends a wait at the time `at`, once; `None` takes that back.
    pub(crate) fn set_timer(&mut self, at: Option<Time>) -> io::Result<()> {
        self.deadline = at;
        Ok(())
    }

    /// What other threads end a wait with.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// The shorter of `timeout` and what is left until the timer fires.
    fn until_deadline(&self, timeout: Option<Duration>) -> Option<Duration> {
        let left = self.deadline.map(|at| at.since(monotonic()));
        timeout.into_iter().chain(left).min()
    }

    fn enqueue(&mut self, fd: RawFd) {
        if let Some(watched) = self.watched.get_mut(&fd)
            && !watched.queued
            && watched.report().is_some()
        {
            watched.queued = true;
            self.queue.push_back((fd, watched.serial));
        }
    }

    /// Leaves in the queue only what would be reported.
    fn forget_blocked(&mut self) {
        let watched = &mut self.watched;
        self.queue.retain(|(fd, serial)| {
            let Some(watched) = watched
                .get_mut(fd)
                .filter(|watched| watched.serial == *serial)
            else {
                return false;
            };
            watched.queued = watched.report().is_some();
            watched.queued
        });
    }

    /// Reports from the front of the queue; what was reported goes to its end, so that all get a turn.
    fn report(&mut self, ready: &mut Vec<Ready>) {
        for _ in 0..self.queue.len().min(MAX_EVENTS) {
            let Some(entry) = self.queue.pop_front() else {
                return;
            };
            ready.extend(self.watched.get(&entry.0).and_then(Watched::report));
            self.queue.push_back(entry);
        }
    }
}

/// Ends a wait of the poller it comes from, from any thread; harmless when that is gone.
#[derive(Clone)]
pub(crate) struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Ends the wait that is running, or else the next one.
    ///
    /// What the caller wrote before is seen by the poller's thread after that wait.
    pub(crate) fn wake(&self) {
        // Fails only for want of kernel memory; there is nobody to tell.
        let _ = self.0.wake();
    }
}

fn directions(interest: Interest) -> Option<mio::Interest> {
    match (interest.readable, interest.writable) {
        (true, true) => Some(mio::Interest::READABLE | mio::Interest::WRITABLE),
        (true, false) => Some(mio::Interest::READABLE),
        (false, true) => Some(mio::Interest::WRITABLE),
        (false, false) => None,
    }
}
