//! HTTP heads read the slow and obvious way: split at line ends, then at colons.
//!
//! Does not know: the library's reader, or httparse.

/// A head: its first line, and its fields without white space around the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) first: &'a [u8],
    pub(crate) fields: Vec<(&'a [u8], &'a [u8])>,
}

/// Splits what begins with a head into the head and what follows it.
pub(crate) fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(input, b"\r\n\r\n")? + 4;
    Some(input.split_at(end))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

impl<'a> Head<'a> {
    /// Reads a head that ends with an empty line.
    pub(crate) fn read(mut head: &'a [u8]) -> Option<Self> {
        let mut lines = Vec::new();
        while let Some(end) = find(head, b"\r\n") {
            lines.push(&head[..end]);
            head = &head[end + 2..];
        }
        if !head.is_empty() || lines.pop() != Some(b"") || lines.is_empty() {
            return None;
        }
        let first = lines.remove(0);
        let fields = lines.into_iter().map(|line| {
            let colon = line.iter().position(|&octet| octet == b':')?;
            let blank = |octet: &u8| *octet == b' ' || *octet == b'\t';
            let value = &line[colon + 1..];
            let start = value.iter().position(|o| !blank(o)).unwrap_or(value.len());
            let end = value
                .iter()
                .rposition(|o| !blank(o))
                .map_or(start, |at| at + 1);
            Some((&line[..colon], &value[start..end]))
        });
        Some(Self {
            first,
            fields: fields.collect::<Option<_>>()?,
        })
    }

    /// The values of all fields of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a [u8]> {
        let called = |field: &&(&[u8], &'a [u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields
            .iter()
            .filter(called)
            .map(|field| field.1)
            .collect()
    }

    /// The value of the only field of a name.
    pub(crate) fn only(&self, name: &str) -> Option<&'a [u8]> {
        match self.all(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The elements of the comma-separated lists of a name.
    pub(crate) fn elements(&self, name: &str) -> Vec<&'a [u8]> {
        let values = self.all(name);
        let elements = values
            .iter()
            .flat_map(|value| value.split(|&octet| octet == b','));
        elements
            .map(<[u8]>::trim_ascii)
            .filter(|e| !e.is_empty())
            .collect()
    }

    /// Whether a list names a token, in any case.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        let mut elements = self.elements(name).into_iter();
        elements.any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}
