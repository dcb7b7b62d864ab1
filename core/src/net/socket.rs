//! An owned, non-blocking, close-on-exec stream or listening socket, TCP or unix, and nothing more.
//!
//! Every call is retried when a signal interrupts it, and no write can raise `SIGPIPE`.
//! Also here: the number of forks this process came through, after which its sockets are another's too.
//!
//! Does not know: who waits for readiness, or what the bytes mean.

use crate::net::sys::{Call, at_most, call};
use socket2::{Domain, SockAddr, Type};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Apple's systems know no such flag; there socket2 sets `SO_NOSIGPIPE` on every socket it makes, and
/// accepted ones inherit it.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = 0;
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// How many connections that failed before they were accepted are passed over in one call.
const FAILED_ACCEPTS: usize = 128;

/// Owns a socket, and closes it when dropped.
#[derive(Debug)]
pub(crate) struct Socket(socket2::Socket);

/// Listens on a TCP address; port 0 picks one.
///
/// With `dual_stack` an IPv6 socket takes IPv4 connections too.
pub(crate) fn listen_tcp(
    addr: SocketAddr,
    backlog: i32,
    reuse_port: bool,
    dual_stack: bool,
) -> io::Result<Socket> {
    let socket = new_socket(Domain::for_address(addr))?;
    call(Call::SetOption, || socket.set_reuse_address(true))?;
    if reuse_port {
        call(Call::SetOption, || socket.set_reuse_port(true))?;
    }
    if addr.is_ipv6() {
        call(Call::SetOption, || socket.set_only_v6(!dual_stack))?;
    }
    bind(&socket, &addr.into())?;
    call(Call::Listen, || socket.listen(backlog))?;
    Ok(Socket(socket))
}

/// Listens on a unix socket at `path`.
///
/// A socket file where nobody answers is removed first; a live one, or a file of another type, is
/// `EADDRINUSE`. The file stays when the socket is closed.
pub(crate) fn listen_unix(path: &Path, backlog: i32) -> io::Result<Socket> {
    let addr = unix_addr(path)?;
    let socket = new_socket(Domain::UNIX)?;
    match bind(&socket, &addr) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path, &addr) => {
            fs::remove_file(path)?;
            bind(&socket, &addr)?;
        }
        bound => bound?,
    }
    call(Call::Listen, || socket.listen(backlog))?;
    Ok(Socket(socket))
}

/// Starts to connect; the socket becomes writable when that is decided, see [`Socket::take_error`].
pub(crate) fn connect_tcp(addr: SocketAddr) -> io::Result<Socket> {
    connect(Domain::for_address(addr), &addr.into())
}

/// Connects to a unix socket, which is decided at once.
///
/// `EAGAIN` means that the listener's queue is full; nothing has been started then.
pub(crate) fn connect_unix(path: &Path) -> io::Result<Socket> {
    connect(Domain::UNIX, &unix_addr(path)?)
}

impl Socket {
    /// The descriptor, which stays this socket's.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes a waiting connection; `None` when nobody waits.
    ///
    /// Connections that failed while they waited are passed over.
    pub(crate) fn accept(&self) -> io::Result<Option<Self>> {
        let mut failed = 0;
        loop {
            return match call(Call::Accept, || accept_from(&self.0)) {
                Ok(socket) => Ok(Some(Self(socket))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if failed < FAILED_ACCEPTS && is_of_the_connection(&error) => {
                    failed += 1;
                    continue;
                }
                Err(error) => Err(error),
            };
        }
    }

    /// The outcome of a connect that was started, once the socket is writable.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        call(Call::Outcome, || self.0.take_error()?.map_or(Ok(()), Err))
    }

    /// Turns Nagle's algorithm off or on; without effect on a unix socket.
    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        let harmless = |error: &io::Error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT) => true,
            // Apple's answer for a connection that has already been reset; reading will tell.
            Some(libc::EINVAL) => cfg!(target_vendor = "apple"),
            _ => false,
        };
        match call(Call::SetOption, || self.0.set_tcp_nodelay(on)) {
            Err(error) if harmless(&error) => Ok(()),
            result => result,
        }
    }

    /// Reads; `None` when it would block, `Some(0)` at the end of the stream.
    ///
    /// # Errors
    /// Besides the system's: `InvalidInput` for an empty `buf`, which could not be told from the end.
    pub(crate) fn recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if buf.is_empty() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "no room to receive into",
            ));
        }
        unless_blocked(Call::Recv, || {
            let room = at_most(Call::Recv, buf.len());
            (&self.0).read(&mut buf[..room])
        })
    }

    /// Appends what it reads to `buf`, at most `max` bytes and never more than there is capacity for.
    ///
    /// Answers like [`Socket::recv`], also when there is no room.
    pub(crate) fn recv_into(&self, buf: &mut Vec<u8>, max: usize) -> io::Result<Option<usize>> {
        let spare = buf.spare_capacity_mut();
        let room = spare.len().min(max);
        if room == 0 {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "no room to receive into",
            ));
        }
        let received = unless_blocked(Call::Recv, || {
            let room = at_most(Call::Recv, room);
            self.0.recv(&mut spare[..room])
        })?;
        if let Some(count) = received {
            let len = buf.len() + count;
            // SAFETY: the kernel has written `count` bytes right behind the vector's old end, within
            // its capacity.
            unsafe { buf.set_len(len) };
        }
        Ok(received)
    }

    /// Writes as much as the kernel takes; `None` when it would block.
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<Option<usize>> {
        unless_blocked(Call::Send, || {
            let count = at_most(Call::Send, data.len());
            self.0.send_with_flags(&data[..count], SEND_FLAGS)
        })
    }

    /// Writes all of `parts` in order and in one call, as much as the kernel takes of them.
    pub(crate) fn send_slices(&self, parts: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        unless_blocked(Call::Send, || {
            let all = parts.iter().map(|part| part.len()).sum();
            let count = at_most(Call::Send, all);
            if count < all {
                let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                return self.0.send_with_flags(&bytes[..count], SEND_FLAGS);
            }
            self.0.send_vectored_with_flags(parts, SEND_FLAGS)
        })
    }

    /// Ends the outgoing half of the stream once all that was written has been sent.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        retry(Call::Shutdown, || self.0.shutdown(Shutdown::Write))
    }

    /// Closes and throws away what has not been sent; the peer of a TCP connection sees a reset.
    pub(crate) fn reset(self) {
        // If this is refused, closing sends FIN instead, and the peer is rid of the connection too.
        let _ = call(Call::SetOption, || self.0.set_linger(Some(Duration::ZERO)));
    }

    /// The address of the other end; `None` when there is no other end any more.
    pub(crate) fn peer_addr(&self) -> Option<PeerAddr> {
        self.0.peer_addr().ok().as_ref().and_then(PeerAddr::new)
    }

    /// The address of this end.
    pub(crate) fn local_addr(&self) -> Option<PeerAddr> {
        self.0.local_addr().ok().as_ref().and_then(PeerAddr::new)
    }
}

/// The address of one end of a connection, or of a listener, for people and logs.
///
/// It is written as `127.0.0.1:80`, `[::1]:80`, `unix:/path`, or `unix:` for a socket without a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// A TCP address; an IPv4 peer of an IPv6 listener has its IPv4 address.
    Tcp(SocketAddr),
    /// The path of a unix socket; connecting ends have none.
    Unix(Option<PathBuf>),
}

impl PeerAddr {
    /// The TCP port; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(addr) => addr.port(),
            Self::Unix(_) => 0,
        }
    }

    fn new(addr: &SockAddr) -> Option<Self> {
        match addr.as_socket() {
            Some(SocketAddr::V6(v6)) if v6.ip().to_ipv4_mapped().is_some() => Some(Self::Tcp(
                SocketAddr::new(v6.ip().to_canonical(), v6.port()),
            )),
            Some(tcp) => Some(Self::Tcp(tcp)),
            None if addr.is_unix() => Some(Self::Unix(addr.as_pathname().map(Path::to_path_buf))),
            None => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(None) => f.write_str("unix:"),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
        }
    }
}

static FORKS: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

/// Makes [`fork_count`] count from here on; once is enough.
pub(crate) fn watch_forks() {
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    WATCH.call_once(|| {
        // SAFETY: the handler only touches an atomic, which is allowed in a child of any process.
        // It can be refused for want of memory only; then forks stay unnoticed.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
}

/// How many forks lie between the process that called [`watch_forks`] and this one: it differs from
/// an earlier answer exactly in a child that was forked since.
pub(crate) fn fork_count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

fn new_socket(domain: Domain) -> io::Result<socket2::Socket> {
    call(Call::Socket, || {
        let socket = socket2::Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

fn bind(socket: &socket2::Socket, addr: &SockAddr) -> io::Result<()> {
    call(Call::Bind, || socket.bind(addr))
}

/// The system would cut a path at a NUL, and choose a name of its own for an empty one.
fn unix_addr(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        let text = "the path of a unix socket must not be empty or contain NUL";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    SockAddr::unix(path)
}

fn connect(domain: Domain, addr: &SockAddr) -> io::Result<Socket> {
    let socket = new_socket(domain)?;
    // An interrupted connect goes on by itself, and must not be started again.
    let started = |error: &io::Error| {
        error.raw_os_error() == Some(libc::EINPROGRESS) || error.kind() == ErrorKind::Interrupted
    };
    match call(Call::Connect, || socket.connect(addr)) {
        Err(error) if !started(&error) => Err(error),
        _ => Ok(Socket(socket)),
    }
}

/// A socket file whose owner is gone.
fn is_stale(path: &Path, addr: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && connect(Domain::UNIX, addr)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept_from(listener: &socket2::Socket) -> io::Result<socket2::Socket> {
    use std::os::fd::FromRawFd;
    use std::ptr::null_mut;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: null pointers ask for no address.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), null_mut(), null_mut(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, so nobody else owns it.
    Ok(unsafe { socket2::Socket::from_raw_fd(fd) })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept_from(listener: &socket2::Socket) -> io::Result<socket2::Socket> {
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Errors of accept(2) that belong to the connection it took from the queue, not to the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use libc::{ECONNABORTED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH};
    use libc::{ENETDOWN, ENETUNREACH, ENOPROTOOPT, EPERM, EPROTO, ETIMEDOUT};
    match error.raw_os_error() {
        #[cfg(target_os = "linux")]
        Some(libc::ENONET) => true,
        Some(ECONNABORTED | ECONNRESET | EHOSTDOWN | EHOSTUNREACH) => true,
        Some(ENETDOWN | ENETUNREACH | ENOPROTOOPT | EPERM | EPROTO | ETIMEDOUT) => true,
        _ => false,
    }
}

fn retry<T>(which: Call, mut real: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call(which, &mut real) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn unless_blocked(
    which: Call,
    real: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    match retry(which, real) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicUsize;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Waits for readiness; what has to come comes within the limit of poll(2).
    fn wait(socket: &Socket, events: libc::c_short) {
        let mut entry = libc::pollfd {
            fd: socket.fd(),
            events,
            revents: 0,
        };
        // SAFETY: one valid entry, for the length of the call.
        let count = unsafe { libc::poll(&mut entry, 1, 20_000) };
        assert_eq!(count, 1, "nothing happened on the socket");
    }

    fn accept(listener: &Socket) -> Socket {
        wait(listener, libc::POLLIN);
        listener.accept().unwrap().expect("somebody waits")
    }

    fn tcp(addr: &PeerAddr) -> SocketAddr {
        match addr {
            PeerAddr::Tcp(addr) => *addr,
            PeerAddr::Unix(_) => panic!("a unix address"),
        }
    }

    fn slices<'a>(first: &'a [u8], second: &'a [u8]) -> [IoSlice<'a>; 2] {
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// Both ends of a connection.
    fn tcp_pair() -> (Socket, Socket) {
        let listener = listen_tcp(ANY_PORT, 16, false, false).unwrap();
        let near = connect_tcp(tcp(&listener.local_addr().unwrap())).unwrap();
        let far = accept(&listener);
        wait(&near, libc::POLLOUT);
        near.take_error().unwrap();
        (near, far)
    }

    /// A path that no other test uses, free at first and afterwards.
    struct TempPath(PathBuf);

    impl TempPath {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("wsabi-socket-{}-{number}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for TempPath {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Runs `child` in a forked process and gives back how that ended.
    /// `child` may only do what is allowed after a fork in a process with threads.
    fn in_child(child: impl FnOnce() -> bool) -> libc::c_int {
        // SAFETY: the child runs system calls on what it was given, and never returns into the
        // test harness; the parent waits for its own child.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(if child() { 0 } else { 1 });
            }
            assert!(pid > 0, "fork failed");
            let mut status = 0;
            while libc::waitpid(pid, &mut status, 0) < 0 {
                assert_eq!(io::Error::last_os_error().kind(), ErrorKind::Interrupted);
            }
            status
        }
    }

    fn default_sigpipe() {
        // SAFETY: the default action replaces a handler; no code is installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }

    #[test]
    fn reads_what_was_sent_then_blocks_then_ends() {
        let (near, far) = tcp_pair();
        let mut buf = [0; 16];
        assert_eq!(near.recv(&mut buf).unwrap(), None);
        assert_eq!(far.send(b"one ").unwrap(), Some(4));
        assert_eq!(
            far.send_slices(&slices(b"two ", b"three")).unwrap(),
            Some(9)
        );
        let mut got = Vec::new();
        while got.len() < 13 {
            wait(&near, libc::POLLIN);
            let count = near.recv(&mut buf).unwrap().unwrap();
            got.extend_from_slice(&buf[..count]);
        }
        assert_eq!(got, b"one two three");
        far.shutdown_write().unwrap();
        wait(&near, libc::POLLIN);
        assert_eq!(near.recv(&mut buf).unwrap(), Some(0));
        assert_eq!(
            near.send(b"still").unwrap(),
            Some(5),
            "the other half is open"
        );
        assert_eq!(
            near.recv(&mut []).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }

    #[test]
    fn recv_into_keeps_to_capacity_and_max() {
        let (near, far) = tcp_pair();
        far.send(b"0123456789abcdef").unwrap();
        // SAFETY: asks how many bytes have come, into a valid integer.
        let arrived =
            |count: &mut libc::c_int| unsafe { libc::ioctl(near.fd(), libc::FIONREAD, count) };
        let mut count = 0;
        while count < 16 {
            wait(&near, libc::POLLIN);
            assert_eq!(arrived(&mut count), 0);
        }
        let mut buf = Vec::with_capacity(10);
        buf.extend_from_slice(b"kept:");
        let capacity = buf.capacity();
        assert_eq!(near.recv_into(&mut buf, 3).unwrap(), Some(3));
        assert_eq!(buf, b"kept:012");
        let rest = capacity - buf.len();
        assert_eq!(near.recv_into(&mut buf, usize::MAX).unwrap(), Some(rest));
        assert_eq!((buf.len(), buf.capacity()), (capacity, capacity));
        for (buf, max) in [(&mut buf, 5), (&mut Vec::with_capacity(8), 0)] {
            let error = near.recv_into(buf, max).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidInput,
                "no room is not the end of the stream"
            );
        }
        let mut last = Vec::with_capacity(64);
        near.recv_into(&mut last, 64).unwrap();
        assert_eq!([&buf[5..], &last[..]].concat(), b"0123456789abcdef");
        assert_eq!(near.recv_into(&mut last, 64).unwrap(), None);
        drop(far);
        wait(&near, libc::POLLIN);
        assert_eq!(near.recv_into(&mut last, 64).unwrap(), Some(0));
    }

    #[test]
    fn a_full_kernel_buffer_would_block() {
        let (near, _far) = tcp_pair();
        let (first, second) = (vec![7; 1 << 16], vec![8; 1 << 10]);
        let mut sent = 0;
        while let Some(count) = near.send(&first).unwrap() {
            sent += count;
        }
        while let Some(count) = near.send_slices(&slices(&first, &second)).unwrap() {
            sent += count;
        }
        assert!(sent > 0);
    }

    #[test]
    fn reset_reaches_the_peer_as_a_reset() {
        let (near, far) = tcp_pair();
        far.reset();
        wait(&near, libc::POLLIN);
        let error = near.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn sending_to_a_reset_peer_is_an_error_and_no_signal() {
        let (near, far) = tcp_pair();
        far.reset();
        wait(&near, libc::POLLIN);
        assert_eq!(
            near.take_error().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        let status = in_child(|| {
            default_sigpipe();
            near.send(b"x").is_err() && near.send_slices(&slices(b"x", b"y")).is_err()
        });
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "status {status:#x}"
        );
        let status = in_child(|| {
            default_sigpipe();
            // SAFETY: one byte from a valid buffer.
            unsafe { libc::write(near.fd(), b"x".as_ptr().cast(), 1) };
            true
        });
        let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPIPE;
        assert!(
            killed,
            "a plain write does raise the signal here: status {status:#x}"
        );
    }

    #[test]
    fn sockets_are_nonblocking_and_close_on_exec() {
        let (near, far) = tcp_pair();
        let listener = listen_tcp(ANY_PORT, 16, true, false).unwrap();
        for socket in [&near, &far, &listener] {
            // SAFETY: reads flags of an open descriptor.
            let (file, descriptor) = unsafe {
                (
                    libc::fcntl(socket.fd(), libc::F_GETFL),
                    libc::fcntl(socket.fd(), libc::F_GETFD),
                )
            };
            assert_ne!(file & libc::O_NONBLOCK, 0);
            assert_ne!(descriptor & libc::FD_CLOEXEC, 0);
        }
        assert!(listener.accept().unwrap().is_none());
        assert_eq!(
            near.accept().unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }

    #[test]
    fn a_refused_connect_is_told_by_take_error() {
        // Bound, so that nobody else gets the port, but not listening.
        let deaf = new_socket(Domain::IPV4).unwrap();
        deaf.bind(&ANY_PORT.into()).unwrap();
        let addr = deaf.local_addr().unwrap().as_socket().unwrap();
        let error = connect_tcp(addr).and_then(|socket| {
            wait(&socket, libc::POLLOUT);
            socket.take_error()
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn nodelay_is_set_on_tcp_and_harmless_on_unix() {
        let (near, _far) = tcp_pair();
        for on in [true, false] {
            near.set_nodelay(on).unwrap();
            assert_eq!(near.0.tcp_nodelay().unwrap(), on);
        }
        let path = TempPath::new();
        let _listener = listen_unix(&path.0, 16).unwrap();
        connect_unix(&path.0).unwrap().set_nodelay(true).unwrap();
    }

    #[test]
    fn a_port_is_shared_only_if_all_ask_for_it() {
        let first = listen_tcp(ANY_PORT, 16, true, false).unwrap();
        let addr = tcp(&first.local_addr().unwrap());
        listen_tcp(addr, 16, true, false).unwrap();
        let error = listen_tcp(addr, 16, false, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn dual_stack_takes_both_families_and_names_ipv4_peers_by_ipv4() {
        let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = match listen_tcp(every, 16, false, true) {
            // A machine without IPv6 has nothing to test here.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return,
            listener => listener.unwrap(),
        };
        let port = listener.local_addr().unwrap().port();
        let v4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let peer = accept(&listener).peer_addr().unwrap();
        assert_eq!(peer, PeerAddr::Tcp(v4.local_addr().unwrap()));
        assert!(!listener.0.only_v6().unwrap());
        assert!(
            listen_tcp(every, 16, false, false)
                .unwrap()
                .0
                .only_v6()
                .unwrap()
        );
    }

    #[test]
    fn addresses_are_written_as_people_know_them() {
        let unix = PeerAddr::Unix(Some(PathBuf::from("/run/a.sock")));
        let cases = [
            (
                PeerAddr::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 80))),
                "127.0.0.1:80",
                80,
            ),
            (
                PeerAddr::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, 8080))),
                "[::1]:8080",
                8080,
            ),
            (unix, "unix:/run/a.sock", 0),
            (PeerAddr::Unix(None), "unix:", 0),
        ];
        for (addr, text, port) in cases {
            assert_eq!((addr.to_string().as_str(), addr.port()), (text, port));
        }
        let (near, far) = tcp_pair();
        assert_eq!(
            (near.peer_addr(), near.local_addr()),
            (far.local_addr(), far.peer_addr())
        );
        far.reset();
        wait(&near, libc::POLLIN);
        assert_eq!(near.peer_addr(), None);
    }

    #[test]
    fn a_unix_socket_carries_bytes_and_knows_its_path() {
        let path = TempPath::new();
        let listener = listen_unix(&path.0, 16).unwrap();
        let near = connect_unix(&path.0).unwrap();
        let far = accept(&listener);
        assert_eq!(near.send(b"hello").unwrap(), Some(5));
        let mut buf = [0; 8];
        assert_eq!(far.recv(&mut buf).unwrap(), Some(5));
        assert_eq!(near.peer_addr(), Some(PeerAddr::Unix(Some(path.0.clone()))));
        assert_eq!(far.peer_addr(), Some(PeerAddr::Unix(None)));
        near.reset();
        wait(&far, libc::POLLIN);
        assert!(matches!(far.recv(&mut buf), Ok(Some(0)) | Err(_)));
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_nothing_else_is() {
        let path = TempPath::new();
        let addr = SockAddr::unix(&path.0).unwrap();
        new_socket(Domain::UNIX).unwrap().bind(&addr).unwrap();
        assert!(path.0.exists(), "the file outlives its socket");
        let live = listen_unix(&path.0, 1).unwrap();
        let in_use = |path: &TempPath| {
            let error = listen_unix(&path.0, 1).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        };
        in_use(&path);
        let waiting: Vec<_> = std::iter::from_fn(|| connect_unix(&path.0).ok())
            .take(64)
            .collect();
        assert!(waiting.len() < 64, "a queue of one is full");
        in_use(&path);
        accept(&live);
        connect_unix(&path.0).expect("the live one still has its file");

        let file = TempPath::new();
        fs::write(&file.0, b"precious").unwrap();
        in_use(&file);
        assert_eq!(fs::read(&file.0).unwrap(), b"precious");
        let datagram = TempPath::new();
        let _owner = UnixDatagram::bind(&datagram.0).unwrap();
        in_use(&datagram);
        for bad in [&"x".repeat(500), "", "a\0b"] {
            let error = listen_unix(Path::new(bad), 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(connect_unix(Path::new(bad)).is_err());
        }
    }

    #[test]
    fn a_child_knows_that_it_was_forked() {
        watch_forks();
        watch_forks();
        let before = fork_count();
        assert_eq!(in_child(|| fork_count() == before + 1), 0);
        assert_eq!(fork_count(), before);
    }
}
