//! Reads the notation of the transcripts; `README.md` beside this file describes it.
//!
//! Does not know: the library under test, but for the names of its kinds of errors.

use wsabi::Role;

/// The key that every masked frame of the transcripts has.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A section: its heading, its settings, and what stands in its tables and fenced blocks.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) place: String,
    pub(crate) settings: Vec<(String, String)>,
    /// The rows of tables, without the heading of the columns.
    pub(crate) rows: Vec<(String, Vec<String>)>,
    /// Fenced blocks, by what they are called.
    pub(crate) blocks: Vec<(String, Vec<String>)>,
}

impl Section {
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The sections of a document.
pub(crate) fn sections(file: &str, text: &str) -> Vec<Section> {
    let mut sections = vec![Section::default()];
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = format!("{file}:{}", number + 1);
        let section = sections.last_mut().unwrap();
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section {
                place: format!("{place} ({heading})"),
                ..Section::default()
            });
        } else if let Some(name) = line.strip_prefix("```") {
            let body = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| !line.starts_with("```"));
            section
                .blocks
                .push((name.trim().to_owned(), body.map(str::to_owned).collect()));
        } else if let Some((name, value)) = line.strip_prefix("- ").and_then(|l| l.split_once(": "))
        {
            section.settings.push((name.to_owned(), value.to_owned()));
        } else if let Some(row) = line.strip_prefix('|') {
            let row = row.trim_end().strip_suffix('|').expect("a row ends with |");
            let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
            let heading = cells[0].starts_with("---")
                || ["input", "change", "octets"].contains(&cells[0].as_str());
            if !heading {
                section.rows.push((place, cells));
            }
        }
    }
    sections.retain(|section| !section.rows.is_empty() || !section.blocks.is_empty());
    sections
}

/// The lines of a table's cell.
pub(crate) fn cell_lines(cell: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in cell.chars() {
        if c == ';' && !quoted {
            lines.push(String::new());
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        lines.last_mut().unwrap().push(c);
    }
    lines
}

/// Splits a line at white space outside quotes, up to a comment.
pub(crate) fn tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        if !quoted && c == '#' {
            break;
        }
        if !quoted && c.is_whitespace() {
            tokens.push(std::mem::take(&mut token));
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        token.push(c);
    }
    assert!(!quoted, "an open quote in {line:?}");
    tokens.push(token);
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// The octets of text with escapes.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        octets.push(match chars.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some(c @ ('\\' | '"')) => c as u8,
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).expect("two digits after \\x")
            }
            other => panic!("unknown escape {other:?} in {text:?}"),
        });
    }
    octets
}

/// The octets of a token of payload.
pub(crate) fn octets(token: &str) -> Option<Vec<u8>> {
    if let Some((count, rest)) = token.split_once('*')
        && let Ok(count) = count.parse::<usize>()
    {
        return Some(octets(rest)?.repeat(count));
    }
    if let Some(text) = token.strip_prefix('"') {
        return Some(unescape(text.strip_suffix('"')?));
    }
    if token.len() == 2 {
        return Some(vec![u8::from_str_radix(token, 16).ok()?]);
    }
    None
}

/// All octets of a list of tokens.
pub(crate) fn all_octets(tokens: &[String]) -> Vec<u8> {
    let each = tokens
        .iter()
        .map(|token| octets(token).unwrap_or_else(|| panic!("{token:?} is not payload")));
    each.flatten().collect()
}

/// Octets, and where among them the last event is due.
#[derive(Debug, Default)]
pub(crate) struct Octets {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mark: Option<usize>,
}

/// The octets that `sender` sends; `detail` stands for the word of that name.
pub(crate) fn encode(lines: &[String], sender: Role, detail: &str) -> Octets {
    let mut all = Octets::default();
    for line in lines {
        let tokens = tokens(line);
        if !tokens.is_empty() {
            encode_line(&tokens, sender, detail, &mut all);
        }
    }
    all
}

/// A frame as it is being read.
struct Frame {
    first: u8,
    form: u64,
    len: Option<u64>,
    masked: bool,
    payload: Vec<u8>,
}

fn encode_line(tokens: &[String], sender: Role, detail: &str, all: &mut Octets) {
    let start = all.bytes.len();
    let mut frame = Frame {
        first: 0x80,
        form: 0,
        len: None,
        masked: sender == Role::Client,
        payload: Vec::new(),
    };
    let (mut is_frame, mut in_payload, mut at_header) = (false, None, false);
    for token in tokens {
        if let Some(opcode) = opcode(token) {
            is_frame = true;
            frame.first |= opcode;
        } else if token == "!" {
            in_payload = Some(frame.payload.len());
        } else if token == "!header" {
            at_header = true;
        } else if let Some(place) = token.strip_prefix('!') {
            let place: usize = place.parse().expect("a place after !");
            all.mark = Some(start + place);
        } else if token == "detail" {
            frame.payload.extend_from_slice(truncated(detail));
        } else if !attribute(token, &mut frame) {
            let octets = octets(token).unwrap_or_else(|| panic!("unknown token {token:?}"));
            frame.payload.extend_from_slice(&octets);
        }
    }
    if is_frame {
        let end = append(&frame, &mut all.bytes);
        if at_header {
            all.mark = Some(end);
        }
        all.mark = in_payload.map(|place| end + place).or(all.mark);
    } else {
        all.bytes.extend_from_slice(&frame.payload);
        all.mark = in_payload.map(|place| start + place).or(all.mark);
    }
}

fn opcode(token: &str) -> Option<u8> {
    Some(match token {
        "continuation" => 0x0,
        "text" => 0x1,
        "binary" => 0x2,
        "close" => 0x8,
        "ping" => 0x9,
        "pong" => 0xa,
        _ => token.strip_prefix("opcode=")?.parse().expect("an opcode"),
    })
}

fn attribute(token: &str, frame: &mut Frame) -> bool {
    match token.split_once('=') {
        None if token == "more" => frame.first &= 0x7f,
        // A close code: the only decimal number among the tokens.
        None if token.len() >= 3 && token.bytes().all(|c| c.is_ascii_digit()) => {
            let code: u16 = token.parse().expect("a close code");
            frame.payload.extend_from_slice(&code.to_be_bytes());
        }
        Some(("rsv", bits)) => frame.first |= bits.parse::<u8>().expect("reserved bits") << 4,
        Some(("form", form)) => frame.form = form.parse().expect("16 or 64"),
        Some(("len", len)) => frame.len = Some(len.parse().expect("a length")),
        Some(("mask", mask)) => frame.masked = mask == "yes",
        _ => return false,
    }
    true
}

/// Appends a frame, and tells where its header ends.
fn append(frame: &Frame, bytes: &mut Vec<u8>) -> usize {
    let len = frame.len.unwrap_or(frame.payload.len() as u64);
    let mask = if frame.masked { 0x80 } else { 0 };
    bytes.push(frame.first);
    if frame.form == 64 || len > 0xffff {
        bytes.push(mask | 127);
        bytes.extend_from_slice(&len.to_be_bytes());
    } else if frame.form == 16 || len > 125 {
        bytes.push(mask | 126);
        bytes.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        bytes.push(mask | len as u8);
    }
    if frame.masked {
        bytes.extend_from_slice(&KEY);
    }
    let end = bytes.len();
    let key = if frame.masked { KEY } else { [0; 4] };
    bytes.extend(
        frame
            .payload
            .iter()
            .enumerate()
            .map(|(i, octet)| octet ^ key[i % 4]),
    );
    end
}

/// As much of a text as fits behind the code of a Close frame, in whole characters.
pub(crate) fn truncated(text: &str) -> &[u8] {
    let end = (0..=text.len().min(123)).rev();
    let end = end.into_iter().find(|&end| text.is_char_boundary(end));
    &text.as_bytes()[..end.unwrap_or(0)]
}

/// The fenced block of this name.
pub(crate) fn block(section: &Section, name: &str) -> Option<Vec<String>> {
    let found = section.blocks.iter().find(|(block, _)| block == name);
    found.map(|(_, lines)| lines.clone())
}

/// The octets of a head.
pub(crate) fn head(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut head: Vec<u8> = lines
        .iter()
        .flat_map(|line| [line, &b"\r\n"[..]].concat())
        .collect();
    head.extend_from_slice(b"\r\n");
    head
}

/// The input of a row: the lines with the changes, or octets as they stand.
pub(crate) fn changed(base: &[String], change: &str) -> Vec<u8> {
    if let Some(octets) = change.strip_prefix("octets ") {
        return all_octets(&tokens(octets));
    }
    let mut lines: Vec<Vec<u8>> = base.iter().map(|line| unescape(line)).collect();
    for change in cell_lines(change) {
        apply(&mut lines, change.trim());
    }
    head(&lines)
}

fn apply(lines: &mut Vec<Vec<u8>>, change: &str) {
    let called = |line: &[u8], name: &str| {
        line.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
            && line.get(name.len()) == Some(&b':')
    };
    if change == "=" {
    } else if let Some(name) = change.strip_prefix("- ") {
        let before = lines.len();
        lines.retain(|line| !called(line, name));
        assert!(lines.len() < before, "there is no {name} to remove");
    } else if let Some(field) = change.strip_prefix("+ ") {
        let (count, field) = match field.split_once("* ") {
            Some((count, field)) => (count.parse().expect("a count"), field),
            None => (1, field),
        };
        lines.extend(std::iter::repeat_n(unescape(field), count));
    } else if is_first_line(change) {
        lines[0] = unescape(change);
    } else {
        let (name, _) = change.split_once(':').expect("Name: value");
        let line = lines.iter_mut().find(|line| called(line, name));
        *line.unwrap_or_else(|| panic!("there is no {name} to replace")) = unescape(change);
    }
}

fn is_first_line(change: &str) -> bool {
    change.starts_with("HTTP/") || change.contains(" HTTP/") || change.starts_with("first line ")
}

pub(crate) const SAMPLE_REQUEST: &str = "GET /chat HTTP/1.1, Host: server.example.com, Upgrade: websocket, \
    Connection: Upgrade, Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, Sec-WebSocket-Version: 13";

pub(crate) const SAMPLE_RESPONSE: &str = "HTTP/1.1 101 Switching Protocols, Upgrade: websocket, \
    Connection: Upgrade, Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The elements of a setting, or the lines of a sample.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(", ").map(str::to_owned).collect()
}
