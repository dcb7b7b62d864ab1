//! UTF-8 validation of text that arrives in pieces: fails at the first octet that cannot continue
//! any valid text (RFC 6455 §8.1), in the middle of a frame too.
//!
//! Does not know: frames or messages.

/// The octets are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUtf8;

/// A validator that remembers an unfinished character between pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8 {
    /// The octets of an unfinished character; `0 <= len <= 3`, and they are the valid beginning
    /// of at least one character.
    pending: [u8; 3],
    len: u8,
}

impl Utf8 {
    /// Checks the next piece.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) -> Result<(), NotUtf8> {
        while self.len > 0 {
            let Some((&octet, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            self.extend(octet)?;
        }
        let Err(error) = simdutf8::compat::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        let tail = &piece[error.valid_up_to()..];
        self.pending[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// Whether the text so far ends with a whole character.
    pub(crate) const fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// How many octets at the end of the text so far are an unfinished character.
    pub(crate) const fn unfinished(&self) -> usize {
        self.len as usize
    }

    fn extend(&mut self, octet: u8) -> Result<(), NotUtf8> {
        let known = usize::from(self.len);
        let mut character = [0; 4];
        character[..known].copy_from_slice(&self.pending[..known]);
        character[known] = octet;
        match core::str::from_utf8(&character[..=known]) {
            Ok(_) => self.len = 0,
            Err(error) if error.error_len().is_none() && known < 3 => {
                self.pending[known] = octet;
                self.len += 1;
            }
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }
}

/// The text of a whole piece.
#[inline]
pub(crate) fn check(text: &[u8]) -> Result<&str, NotUtf8> {
    simdutf8::basic::from_utf8(text).map_err(|_| NotUtf8)
}

/// The text of octets that a [`Utf8`] has already seen.
///
/// # Safety
/// Every octet of `text`, in order and nothing else, was fed to one [`Utf8`] without an error, and
/// that validator is complete.
pub(crate) unsafe fn already_checked(text: &[u8]) -> &str {
    debug_assert!(core::str::from_utf8(text).is_ok());
    // SAFETY: the caller's promise is that the octets are valid UTF-8.
    unsafe { core::str::from_utf8_unchecked(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index of the first octet at which a text is refused when fed octet by octet.
    fn first_bad(text: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        text.iter().position(|&octet| utf8.feed(&[octet]).is_err())
    }

    #[test]
    fn refuses_at_the_first_octet_that_cannot_continue() {
        let cases: &[(&[u8], Option<usize>)] = &[
            (b"plain", None),
            ("\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes(), None),
            (b"\xed\x9f\xbf", None),
            (b"\xf4\x8f\xbf\xbf", None),
            (b"\x80", Some(0)),
            (b"a\xc0\xaf", Some(1)),
            (b"\xc1\xbf", Some(0)),
            (b"\xe0\x80\xaf", Some(1)),
            (b"\xed\xa0\x80", Some(1)),
            (b"\xf0\x80\x80\xaf", Some(1)),
            (b"\xf4\x90\x80\x80", Some(1)),
            (b"\xf5\x80\x80\x80", Some(0)),
            (b"\xe2\x82a", Some(2)),
            (b"\xff", Some(0)),
        ];
        for (text, expected) in cases {
            assert_eq!(first_bad(text), *expected, "{text:x?}");
        }
    }

    #[test]
    fn every_split_gives_the_same_verdict_as_the_whole() {
        let texts: [&[u8]; 4] = [
            "κόσμε and 😀 and plain ASCII to the end".as_bytes(),
            b"ok until \xf0\x9f\x98 and then not",
            b"\xe2\x82",
            b"\xf0\x9f\x98\x80\xf0\x9f\x98",
        ];
        for text in texts {
            let mut whole = Utf8::default();
            let verdict = whole.feed(text).map(|()| whole.is_complete());
            assert_eq!(verdict == Ok(true), core::str::from_utf8(text).is_ok());
            for cut in 0..=text.len() {
                let mut split = Utf8::default();
                let halves = split
                    .feed(&text[..cut])
                    .and_then(|()| split.feed(&text[cut..]));
                assert_eq!(
                    halves.map(|()| split.is_complete()),
                    verdict,
                    "{text:x?} cut at {cut}"
                );
            }
        }
    }
}
