//! From the crate's events to the callbacks that an application gave.
//!
//! Does not know: how events come about.

use core::ffi::c_void;
use core::ptr;

use wsabi::{
    Answer, Chunk, Closed, Conn, Context, Error, Handler, Handshake, Message, PeerAddr, Request,
    Response, ServerId, Stopped,
};

use crate::handshake::as_pointer;
use crate::host::{Callback, wsabi_loop};
use crate::messages::{
    WSABI_BINARY, WSABI_CHUNK_FIRST, WSABI_CHUNK_LAST, WSABI_COMPRESS_AUTO, WSABI_TEXT,
    wsabi_message,
};
use crate::status::{WSABI_OK, detail, status_of};
use crate::types::{
    WSABI_ACCEPT, WSABI_LATER, WSABI_REFUSE, wsabi_close, wsabi_error, wsabi_handlers,
    wsabi_stopped, wsabi_str,
};

/// The callbacks of all servers and clients of a loop. An entry's index is the tag of the
/// connections that use it.
#[derive(Default)]
pub(crate) struct Table {
    all: Vec<Option<wsabi_handlers>>,
    free: Vec<u32>,
    /// The tag of each server.
    servers: Vec<(ServerId, u32)>,
}

impl Table {
    pub(crate) fn add(&mut self, handlers: wsabi_handlers) -> u32 {
        match self.free.pop() {
            Some(tag) => {
                self.all[tag as usize] = Some(handlers);
                tag
            }
            None => {
                self.all.push(Some(handlers));
                (self.all.len() - 1) as u32
            }
        }
    }

    pub(crate) fn remove(&mut self, tag: u32) {
        self.all[tag as usize] = None;
        self.free.push(tag);
    }

    pub(crate) fn add_server(&mut self, server: ServerId, tag: u32) {
        self.servers.push((server, tag));
    }

    fn tag_of(&self, server: ServerId) -> Option<u32> {
        self.servers
            .iter()
            .find(|(id, _)| *id == server)
            .map(|&(_, tag)| tag)
    }

    #[inline]
    fn get<T>(
        &self,
        tag: u32,
        pick: impl FnOnce(&wsabi_handlers) -> Option<T>,
    ) -> Option<(T, *mut c_void)> {
        let handlers = self.all.get(tag as usize)?.as_ref()?;
        pick(handlers).map(|callback| (callback, handlers.user))
    }
}

/// Calls an application's callbacks.
pub(crate) struct Driver<'a> {
    host: &'a wsabi_loop,
    pointer: *mut wsabi_loop,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(host: &'a wsabi_loop) -> Self {
        Self {
            host,
            pointer: ptr::from_ref(host).cast_mut(),
        }
    }

    /// The callback of a connection, with its user pointer.
    #[inline]
    fn of<T>(
        &self,
        conn: &Conn<'_>,
        pick: impl FnOnce(&wsabi_handlers) -> Option<T>,
    ) -> Option<(T, *mut c_void)> {
        self.host.table.borrow().get(conn.tag(), pick)
    }

    /// The callback of a server, with its user pointer.
    fn of_server<T>(
        &self,
        server: ServerId,
        pick: impl FnOnce(&wsabi_handlers) -> Option<T>,
    ) -> Option<(T, *mut c_void)> {
        let table = self.host.table.borrow();
        table.get(table.tag_of(server)?, pick)
    }
}

/// A view of a text.
pub(crate) const fn view(text: &str) -> wsabi_str {
    wsabi_str {
        data: text.as_ptr().cast(),
        len: text.len(),
    }
}

const fn type_of(message: Message<'_>) -> u32 {
    match message {
        Message::Text(_) => WSABI_TEXT,
        Message::Binary(_) => WSABI_BINARY,
    }
}

// In every callback the SAFETY is the same: the function was given by the application to be called
// with these arguments, which live until it returns.
impl Handler for Driver<'_> {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        let Some((callback, user)) = self.of(conn, |handlers| handlers.on_upgrade) else {
            return Answer::accept();
        };
        let (id, handshake) = (conn.id().as_u64(), Handshake::Request(request));
        let _callback = Callback::enter(self.host, conn.context());
        // SAFETY: see above.
        match unsafe { callback(self.pointer, id, as_pointer(&handshake), user) } {
            WSABI_ACCEPT => Answer::accept(),
            WSABI_REFUSE => Answer::refuse(403, "the server refuses this request"),
            WSABI_LATER => Answer::Later,
            _ => Answer::refuse(
                500,
                "on_upgrade returned none of WSABI_ACCEPT, WSABI_REFUSE and WSABI_LATER",
            ),
        }
    }

    fn on_http(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Response> {
        let Some((callback, user)) = self.of(conn, |handlers| handlers.on_http) else {
            return Some(Response::upgrade_required(
                "this server speaks WebSocket only",
            ));
        };
        let (id, handshake) = (conn.id().as_u64(), Handshake::Request(request));
        let _callback = Callback::enter(self.host, conn.context());
        // SAFETY: see above.
        unsafe { callback(self.pointer, id, as_pointer(&handshake), user) };
        None
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_open) {
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, as_pointer(&handshake), user) };
        }
    }

    #[inline]
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_message) {
            let data = message.as_bytes();
            let message = wsabi_message {
                struct_size: size_of::<wsabi_message>(),
                r#type: type_of(message),
                compress: WSABI_COMPRESS_AUTO,
                data: data.as_ptr().cast(),
                len: data.len(),
                free_hook: None,
                free_arg: ptr::null_mut(),
            };
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, &raw const message, user) };
        }
    }

    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_chunk) {
            let (r#type, data) = (type_of(chunk.data), chunk.data.as_bytes());
            let flags = u32::from(chunk.first) * WSABI_CHUNK_FIRST
                + u32::from(chunk.last) * WSABI_CHUNK_LAST;
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe {
                callback(
                    self.pointer,
                    id,
                    r#type,
                    data.as_ptr().cast(),
                    data.len(),
                    flags,
                    user,
                );
            }
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_drain) {
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, user) };
        }
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_ping) {
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, payload.as_ptr(), payload.len(), user) };
        }
    }

    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_pong) {
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, payload.as_ptr(), payload.len(), user) };
        }
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let tag = conn.tag();
        if let Some((callback, user)) = self.of(conn, |handlers| handlers.on_close) {
            let error = closed.error.as_ref();
            let detail = error.map(detail).unwrap_or_default();
            let close = wsabi_close {
                code: closed.code.as_u16(),
                http_status: closed.http_status,
                clean: u32::from(closed.is_clean()),
                status: error.map_or(WSABI_OK, |error| status_of(error.kind())),
                os_error: error.map_or(0, Error::os_error),
                reason: view(&closed.reason),
                detail: view(&detail),
                messages_dropped: closed.messages_dropped,
            };
            let id = conn.id().as_u64();
            let _callback = Callback::enter(self.host, conn.context());
            // SAFETY: see above.
            unsafe { callback(self.pointer, id, &raw const close, user) };
        }
        // A server's callbacks serve its other connections; a client's have served.
        if conn.server().is_none() {
            self.host.table.borrow_mut().remove(tag);
        }
    }

    fn on_error(
        &mut self,
        context: &mut Context,
        server: ServerId,
        error: &Error,
        peer: Option<&PeerAddr>,
    ) {
        if let Some((callback, user)) = self.of_server(server, |handlers| handlers.on_error) {
            let peer = peer.map(ToString::to_string).unwrap_or_default();
            let detail = detail(error);
            let error = wsabi_error {
                status: status_of(error.kind()),
                os_error: error.os_error(),
                detail: view(&detail),
                peer: view(&peer),
            };
            let _callback = Callback::enter(self.host, context);
            // SAFETY: see above.
            unsafe { callback(self.pointer, server.as_u64(), &raw const error, user) };
        }
    }

    fn on_stopped(&mut self, context: &mut Context, server: ServerId, counts: Stopped) {
        if let Some((callback, user)) = self.of_server(server, |handlers| handlers.on_stopped) {
            let counts = wsabi_stopped {
                clean: counts.clean,
                forced: counts.forced,
                messages_dropped: counts.messages_dropped,
            };
            let _callback = Callback::enter(self.host, context);
            // SAFETY: see above.
            unsafe { callback(self.pointer, server.as_u64(), &raw const counts, user) };
        }
        let mut table = self.host.table.borrow_mut();
        if let Some(tag) = table.tag_of(server) {
            table.servers.retain(|(id, _)| *id != server);
            table.remove(tag);
        }
    }
}
