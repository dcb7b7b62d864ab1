//! The loop's sockets, on the simulated kernel: the same functions as in `core/src/net/socket.rs`.
//!
//! Does not know: what goes wrong, or when.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;

use crate::kernel;
use crate::memory;
pub use crate::net::system_socket::PeerAddr;

#[derive(Debug)]
pub(crate) struct Socket {
    fd: RawFd,
    resets: Cell<bool>,
}

fn own(fd: RawFd) -> Socket {
    Socket {
        fd,
        resets: Cell::new(false),
    }
}

pub(crate) fn listen_tcp(address: SocketAddr, _: i32, _: bool, _: bool) -> io::Result<Socket> {
    Ok(own(kernel::with(|kernel| kernel.listen(address))))
}

pub(crate) fn listen_unix(_: &Path, _: i32) -> io::Result<Socket> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

pub(crate) fn connect_tcp(address: SocketAddr) -> io::Result<Socket> {
    Ok(own(kernel::with(|kernel| kernel.connect(address))))
}

pub(crate) fn connect_unix(_: &Path) -> io::Result<Socket> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl Socket {
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(crate) fn accept(&self) -> io::Result<Option<Self>> {
        Ok(kernel::with(|kernel| kernel.accept(self.fd))?.map(own))
    }

    pub(crate) fn take_error(&self) -> io::Result<()> {
        match kernel::with(|kernel| kernel.take_error(self.fd)) {
            Some(number) => Err(io::Error::from_raw_os_error(number)),
            None => Ok(()),
        }
    }

    pub(crate) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        kernel::with(|kernel| kernel.recv(self.fd, buffer))
    }

    pub(crate) fn recv_into(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<Option<usize>> {
        let (old, room) = (buffer.len(), (buffer.capacity() - buffer.len()).min(max));
        buffer.resize(old + room, 0);
        let received = self.recv(&mut buffer[old..]);
        let count = received.as_ref().ok().copied().flatten().unwrap_or(0);
        buffer.truncate(old + count);
        received
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<Option<usize>> {
        kernel::with(|kernel| kernel.send(self.fd, data))
    }

    pub(crate) fn send_slices(&self, parts: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let all = {
            let _owner = memory::of_simulator();
            parts
                .iter()
                .flat_map(|part| part.iter().copied())
                .collect::<Vec<u8>>()
        };
        self.send(&all)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        kernel::with(|kernel| kernel.shutdown(self.fd))
    }

    pub(crate) fn reset(self) {
        self.resets.set(true);
    }

    pub(crate) fn peer_addr(&self) -> Option<PeerAddr> {
        kernel::with(|kernel| kernel.peer(self.fd)).map(PeerAddr::Tcp)
    }

    pub(crate) fn local_addr(&self) -> Option<PeerAddr> {
        kernel::with(|kernel| kernel.local(self.fd)).map(PeerAddr::Tcp)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        kernel::with(|kernel| kernel.close(self.fd, self.resets.get()));
    }
}

pub(crate) const fn watch_forks() {}

pub(crate) const fn fork_count() -> u32 {
    0
}
