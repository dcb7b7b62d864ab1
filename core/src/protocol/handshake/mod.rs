//! The opening handshake (RFC 6455 §4), one file a role, and what both roles write alike.
//!
//! Does not know: frames, or when anything arrives.

pub mod client;
pub(crate) mod key;
pub mod response;
pub mod server;

use crate::error::{Error, Result};
use crate::protocol::extension::Agreed;
use crate::protocol::head::{is_field_value, is_token};

/// What an opening handshake has settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The subprotocol in use.
    pub subprotocol: Option<Box<str>>,
    /// How messages are compressed, if they are.
    pub deflate: Option<Agreed>,
}

/// Header fields that an application adds, as name and value.
pub type ExtraHeaders = Vec<(String, String)>;

/// Checks header fields that an application adds: their grammar, and that `is_reserved` does not
/// know their lower-case names as those that wsabi writes itself.
fn check_headers(headers: &ExtraHeaders, is_reserved: fn(&str) -> bool) -> Result<()> {
    for (name, value) in headers {
        if !is_token(name.as_bytes()) {
            return Err(Error::invalid(format!(
                "header name {name:?} is not a token; expected letters, digits and !#$%&'*+-.^_`|~"
            )));
        }
        if !is_field_value(value.as_bytes()) {
            return Err(Error::invalid(format!(
                "the value of header {name} has a control character, or white space at an end: {value:?}"
            )));
        }
        if is_reserved(&name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "header {name} is set by wsabi and cannot be given"
            )));
        }
    }
    Ok(())
}

/// Checks a list of subprotocols: tokens, without repetition (RFC 6455 §4.1).
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid), naming the one that is wrong.
pub fn check_subprotocols(subprotocols: &[String]) -> Result<()> {
    for (i, name) in subprotocols.iter().enumerate() {
        if !is_token(name.as_bytes()) {
            return Err(Error::invalid(format!(
                "subprotocol {name:?} is not a token; expected letters, digits and !#$%&'*+-.^_`|~"
            )));
        }
        if subprotocols[..i].contains(name) {
            return Err(Error::invalid(format!(
                "subprotocol {name:?} is given twice"
            )));
        }
    }
    Ok(())
}

fn write_headers(out: &mut Vec<u8>, headers: &ExtraHeaders) {
    for (name, value) in headers {
        write_header(out, name, value);
    }
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
