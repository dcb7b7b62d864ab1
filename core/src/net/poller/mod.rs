//! Waits for sockets, for one deadline, and for other threads, all behind one interface.
//!
//! On Linux this is level-triggered epoll, whose descriptor a host loop can watch; elsewhere, and on
//! Linux with `--cfg wsabi_mio`, it is mio, made level-triggered in user space.
//! Both builds have the same functions and pass the same tests, which are at the end of this file.
//!
//! Does not know: what a token stands for, or what is read and written when a socket is ready.

mod readiness;
pub(crate) use readiness::{Interest, Ready};

#[cfg(all(target_os = "linux", not(wsabi_mio)))]
mod epoll;
#[cfg(all(target_os = "linux", not(wsabi_mio)))]
pub(crate) use epoll::{Poller, Waker};

#[cfg(any(not(target_os = "linux"), wsabi_mio))]
mod portable;
#[cfg(any(not(target_os = "linux"), wsabi_mio))]
pub(crate) use portable::{Poller, Waker};

#[cfg(test)]
mod tests {
    use super::readiness::{MAX_EVENTS, TIMER, WAKE};
    use super::*;
    use crate::time::Time;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const BOTH: Interest = Interest {
        readable: true,
        writable: true,
    };

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A poller, and what one of its waits delivers.
    struct Watch {
        poller: Poller,
        ready: Vec<Ready>,
    }

    impl Watch {
        fn new() -> Self {
            Self {
                poller: Poller::new().unwrap(),
                ready: Vec::new(),
            }
        }

        fn add(&mut self, socket: &impl AsRawFd, token: u64, interest: Interest) {
            self.poller
                .add(socket.as_raw_fd(), token, interest)
                .unwrap();
        }

        fn wait(&mut self, timeout: Option<Duration>) -> &[Ready] {
            self.poller.wait(timeout, &mut self.ready).unwrap();
            &self.ready
        }

        /// What is ready without waiting.
        fn look(&mut self) -> &[Ready] {
            self.wait(Some(Duration::ZERO))
        }

        /// A wait that has to end without anything ready, long before its limit.
        fn wait_for_nothing(&mut self) {
            let start = Poller::now();
            assert_eq!(self.wait(Some(PATIENCE)), []);
            assert!(
                Poller::now().since(start) < PATIENCE,
                "nothing ended the wait"
            );
        }

        /// Waits until something is ready that `wanted` accepts.
        fn until(&mut self, wanted: impl Fn(&Ready) -> bool) -> Ready {
            let deadline = Poller::now().after(PATIENCE);
            while Poller::now() < deadline {
                let found = self
                    .wait(Some(PATIENCE))
                    .iter()
                    .find(|ready| wanted(ready))
                    .copied();
                if let Some(ready) = found {
                    return ready;
                }
            }
            panic!("nothing of the kind became ready");
        }

        /// Reads until `EAGAIN` and reports that, as every caller of a poller does.
        fn drain(&mut self, mut socket: &UnixStream, token: u64) -> usize {
            let mut total = 0;
            loop {
                match socket.read(&mut [0; 64]) {
                    Ok(count) => total += count,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        self.poller.blocked(token, Interest::READ);
                        return total;
                    }
                }
            }
        }

        /// Whether the poller's descriptor, inside another set, is readable at once.
        fn is_readable(&self) -> Option<bool> {
            self.poller.fd().map(|fd| poll_readable(fd, Duration::ZERO))
        }
    }

    fn poll_readable(fd: RawFd, timeout: Duration) -> bool {
        let mut entry = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry, for the length of the call.
        let count = unsafe { libc::poll(&mut entry, 1, timeout.as_millis() as libc::c_int) };
        assert!(count >= 0, "poll(2) failed");
        count == 1 && entry.revents & libc::POLLIN != 0
    }

    /// Raises the limit of open descriptors where it is lower.
    fn allow_descriptors(count: usize) {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is valid for the length of the calls.
        let result = unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit.rlim_cur = limit.rlim_cur.max(count as libc::rlim_t);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
        };
        assert_eq!(
            result, 0,
            "this test needs {count} descriptors: raise the hard limit"
        );
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    const READABLE: Ready = Ready {
        token: 7,
        readable: true,
        writable: false,
        hangup: false,
    };
    const WRITABLE: Ready = Ready {
        token: 7,
        readable: false,
        writable: true,
        hangup: false,
    };

    #[test]
    fn reports_a_level_and_not_an_edge() {
        let (mut watch, (near, mut far)) = (Watch::new(), pair());
        watch.add(&near, 7, Interest::READ);
        assert_eq!(watch.look(), []);
        far.write_all(b"two parts").unwrap();
        assert_eq!(watch.until(|_| true), READABLE);
        (&near).read_exact(&mut [0; 3]).unwrap();
        for _ in 0..3 {
            assert_eq!(watch.look(), [READABLE], "unread data stays ready");
        }
        assert_eq!(watch.drain(&near, 7), 6);
        assert_eq!(watch.look(), []);
        far.write_all(b"more").unwrap();
        assert_eq!(watch.until(|_| true), READABLE);
    }

    #[test]
    fn what_happened_without_interest_is_seen_once_there_is_some() {
        let (mut watch, (near, mut far)) = (Watch::new(), pair());
        watch.add(&near, 7, Interest::NONE);
        far.write_all(b"unread").unwrap();
        assert_eq!(watch.look(), []);
        watch
            .poller
            .modify(near.as_raw_fd(), 7, Interest::READ)
            .unwrap();
        assert_eq!(watch.until(|_| true), READABLE);
        watch
            .poller
            .modify(near.as_raw_fd(), 7, Interest::NONE)
            .unwrap();
        assert_eq!(watch.look(), []);
        watch.poller.modify(near.as_raw_fd(), 9, BOTH).unwrap();
        let both = watch.until(|ready| ready.readable && ready.writable);
        assert_eq!(
            both,
            Ready {
                token: 9,
                readable: true,
                writable: true,
                hangup: false
            }
        );
        watch
            .poller
            .modify(near.as_raw_fd(), 7, Interest::WRITE)
            .unwrap();
        assert_eq!(watch.look(), [WRITABLE]);
    }

    #[test]
    fn a_full_socket_is_writable_again_when_the_peer_has_read() {
        let (mut watch, (mut near, mut far)) = (Watch::new(), pair());
        watch.add(&near, 7, Interest::WRITE);
        assert_eq!(watch.until(|_| true), WRITABLE);
        let mut sent = 0;
        while let Ok(count) = near.write(&[0; 4096]) {
            sent += count;
        }
        watch.poller.blocked(7, Interest::WRITE);
        assert_eq!(watch.look(), []);
        far.read_exact(&mut vec![0; sent]).unwrap();
        assert_eq!(watch.until(|_| true), WRITABLE);
    }

    #[test]
    fn a_peer_that_is_gone_is_a_hangup_in_every_direction_of_interest() {
        for (interest, readable, writable) in [
            (Interest::NONE, false, false),
            (Interest::READ, true, false),
            (Interest::WRITE, false, true),
            (BOTH, true, true),
        ] {
            let (mut watch, (near, far)) = (Watch::new(), pair());
            watch.add(&near, 7, interest);
            drop(far);
            let wanted = Ready {
                token: 7,
                readable,
                writable,
                hangup: true,
            };
            assert_eq!(watch.until(|ready| ready.hangup), wanted);
            assert_eq!(watch.look(), [wanted], "it stays");
            watch.poller.remove(near.as_raw_fd());
            assert_eq!(watch.look(), []);
        }
    }

    #[test]
    fn a_reset_and_a_refused_connect_are_hangups() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).unwrap();
        let (far, _) = listener.accept().unwrap();
        let mut watch = Watch::new();
        watch.add(&near, 1, BOTH);
        socket2::SockRef::from(&far)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop((far, listener));
        let reset = watch.until(|ready| ready.hangup);
        assert_eq!(
            reset,
            Ready {
                token: 1,
                readable: true,
                writable: true,
                hangup: true
            }
        );
        watch.poller.remove(near.as_raw_fd());

        let new_socket = || {
            let stream = socket2::Type::STREAM;
            socket2::Socket::new(socket2::Domain::IPV4, stream, None).unwrap()
        };
        // Bound, so that nobody else gets the port, but not listening.
        let deaf = new_socket();
        deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let refused = new_socket();
        refused.set_nonblocking(true).unwrap();
        // The answer may come at once or later.
        let _ = refused.connect(&deaf.local_addr().unwrap());
        watch.add(&refused, 2, Interest::WRITE);
        let refused = watch.until(|ready| ready.token == 2 && ready.hangup);
        assert!(refused.writable && !refused.readable);
    }

    #[test]
    fn a_half_closed_peer_is_readable_but_no_hangup() {
        let (mut watch, (near, far)) = (Watch::new(), pair());
        watch.add(&near, 7, Interest::READ);
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(watch.until(|_| true), READABLE);
        assert_eq!(watch.look(), [READABLE]);
    }

    #[test]
    fn a_removed_descriptor_is_silent_and_its_number_can_be_watched_again() {
        let (mut watch, (near, mut far)) = (Watch::new(), pair());
        far.write_all(b"x").unwrap();
        watch.add(&near, 7, Interest::READ);
        assert_eq!(watch.until(|_| true), READABLE);
        watch.poller.remove(near.as_raw_fd());
        watch.poller.remove(near.as_raw_fd());
        assert_eq!(watch.look(), []);
        assert!(
            watch
                .poller
                .modify(near.as_raw_fd(), 7, Interest::READ)
                .is_err()
        );
        watch.add(&near, 8, Interest::READ);
        assert_eq!(
            watch.until(|_| true),
            Ready {
                token: 8,
                ..READABLE
            }
        );
        assert_eq!(
            watch.look(),
            [Ready {
                token: 8,
                ..READABLE
            }]
        );
    }

    #[test]
    fn refuses_its_own_tokens_and_bad_descriptors() {
        let (mut poller, (near, _far)) = (Poller::new().unwrap(), pair());
        for token in [WAKE, TIMER] {
            let refused = poller.add(near.as_raw_fd(), token, Interest::READ);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(poller.add(-1, 1, Interest::READ).is_err());
        poller
            .add(near.as_raw_fd(), TIMER - 1, Interest::READ)
            .unwrap();
    }

    #[test]
    fn more_than_one_wait_can_hold_all_get_their_turn() {
        // Duplicates of one socket's descriptor are separate entries of a set.
        let (mut watch, (near, mut far)) = (Watch::new(), pair());
        far.write_all(b"x").unwrap();
        let count = MAX_EVENTS + 40;
        allow_descriptors(2 * count);
        let copies: Vec<_> = (0..count).map(|_| near.try_clone().unwrap()).collect();
        for (token, copy) in copies.iter().enumerate() {
            watch.add(copy, token as u64, Interest::READ);
        }
        let mut seen = vec![false; count];
        for _ in 0..4 {
            let ready = watch.look();
            assert!(ready.len() <= MAX_EVENTS);
            ready
                .iter()
                .for_each(|ready| seen[ready.token as usize] = true);
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn waits_no_longer_than_asked_and_not_at_all_for_zero() {
        let mut watch = Watch::new();
        assert_eq!(watch.look(), []);
        let start = Poller::now();
        let timeout = Duration::from_micros(1500);
        while Poller::now().since(start) < timeout {
            assert_eq!(watch.wait(Some(timeout)), []);
        }
    }

    #[test]
    fn the_timer_ends_a_wait_once_and_not_before_its_time() {
        let mut watch = Watch::new();
        for at in [
            Poller::now().after(Duration::from_millis(30)),
            Poller::now(),
            Time::from_millis(0),
        ] {
            watch.poller.set_timer(Some(at)).unwrap();
            while Poller::now() < at {
                watch.wait_for_nothing();
            }
            // The same time again is a new timer once the first has fired, and ends one wait more.
            watch.look();
            watch.poller.set_timer(Some(at)).unwrap();
            watch.wait_for_nothing();
            watch.poller.set_timer(None).unwrap();
        }
    }

    #[test]
    fn a_timer_far_ahead_or_taken_back_does_not_fire() {
        let mut watch = Watch::new();
        let waker = watch.poller.waker();
        for at in [
            Time::from_millis(u64::MAX),
            Poller::now().after(Duration::from_secs(86_400)),
        ] {
            watch.poller.set_timer(Some(at)).unwrap();
            assert_ne!(watch.is_readable(), Some(true));
            waker.wake();
            watch.wait_for_nothing();
        }
        waker.wake();
        assert_eq!(watch.wait(None), []);
        watch.poller.set_timer(Some(Time::from_millis(1))).unwrap();
        watch.poller.set_timer(None).unwrap();
        assert_ne!(watch.is_readable(), Some(true));
    }

    #[test]
    fn wakes_from_another_thread_however_often_and_afterwards() {
        let mut watch = Watch::new();
        let (waker, other) = (watch.poller.waker(), watch.poller.waker());
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            for number in 0..1000 {
                sender.send(number).unwrap();
                waker.clone().wake();
            }
        });
        let mut expected = 0;
        while expected < 1000 {
            watch.wait_for_nothing();
            for number in receiver.try_iter() {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
        thread.join().unwrap();
        watch.look();
        assert_ne!(watch.is_readable(), Some(true), "the wake-ups are consumed");
        drop(watch);
        other.wake();
    }

    #[cfg(all(target_os = "linux", not(wsabi_mio)))]
    #[test]
    fn the_descriptor_is_readable_exactly_when_there_is_something_to_do() {
        let (mut watch, (near, mut far)) = (Watch::new(), pair());
        let fd = watch.poller.fd().unwrap();
        watch.add(&near, 7, Interest::READ);
        assert_eq!(watch.is_readable(), Some(false));

        far.write_all(b"x").unwrap();
        assert!(poll_readable(fd, PATIENCE));
        watch.look();
        assert_eq!(watch.is_readable(), Some(true), "reported is not read");
        watch.drain(&near, 7);
        assert_eq!(watch.is_readable(), Some(false));

        watch.poller.waker().wake();
        assert_eq!(watch.is_readable(), Some(true));
        assert_eq!(watch.look(), []);
        assert_eq!(watch.is_readable(), Some(false));

        let at = Poller::now().after(Duration::from_millis(20));
        watch.poller.set_timer(Some(at)).unwrap();
        assert!(poll_readable(fd, PATIENCE));
        assert!(Poller::now() >= at);
        assert_eq!(watch.is_readable(), Some(true), "until it is consumed");
        assert_eq!(watch.look(), []);
        assert_eq!(watch.is_readable(), Some(false));
    }

    #[cfg(any(not(target_os = "linux"), wsabi_mio))]
    #[test]
    fn there_is_no_descriptor_that_would_only_sometimes_be_readable() {
        assert_eq!(Poller::new().unwrap().fd(), None);
    }
}
