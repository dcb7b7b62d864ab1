//! A message made once to be sent to many: its payload, and what it compresses to.
//!
//! Does not know: connections, or frames.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::config::Compress;
use crate::error::{Error, Result};
use crate::event::MessageType;
use crate::protocol::deflate::{Compressors, Shape};
use crate::protocol::utf8::check;

/// A message that is sent to many connections, from one copy of its payload, which is compressed
/// once for each way in which connections compress.
///
/// A clone is another name for the same message. May be made and sent from any thread.
#[derive(Clone, Debug)]
pub struct Prepared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    message_type: MessageType,
    payload: Bytes,
    compress: Compress,
    /// What the payload compresses to; absent if that is no smaller.
    compressed: Mutex<Vec<(Shape, Option<Bytes>)>>,
}

impl Prepared {
    /// A message of this type.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid) for text that is not UTF-8.
    pub fn new(
        message_type: MessageType,
        payload: impl Into<Bytes>,
        compress: Compress,
    ) -> Result<Self> {
        let payload = payload.into();
        if message_type == MessageType::Text && check(&payload).is_err() {
            return Err(Error::invalid("the text is not UTF-8"));
        }
        Ok(Self(Arc::new(Inner {
            message_type,
            payload,
            compress,
            compressed: Mutex::default(),
        })))
    }

    /// Text or binary.
    pub fn message_type(&self) -> MessageType {
        self.0.message_type
    }

    /// The payload as it was given.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    pub(crate) fn compress(&self) -> Compress {
        self.0.compress
    }

    /// The payload for a connection that compresses as `shape` says, if it does, and whether it is
    /// compressed.
    pub(crate) fn payload_for(
        &self,
        shape: Option<Shape>,
        compressors: &mut Compressors,
    ) -> Result<(Bytes, bool)> {
        let plain = || (self.0.payload.clone(), false);
        let Some(shape) = shape else {
            return Ok(plain());
        };
        // Nothing that is called under the lock can panic but in defects, and then the list is whole.
        let mut made = self
            .0
            .compressed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = made.iter().find(|(known, _)| *known == shape);
        let compressed = match found {
            Some((_, compressed)) => compressed.clone(),
            None => {
                let bytes = compressors.compress(shape, &self.0.payload, true)?;
                let smaller = bytes.len() < self.0.payload.len();
                let compressed = smaller.then(|| Bytes::copy_from_slice(bytes));
                made.push((shape, compressed.clone()));
                compressed
            }
        };
        Ok(compressed.map_or_else(plain, |bytes| (bytes, true)))
    }
}
