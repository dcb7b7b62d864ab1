//! Writes inputs that people have thought of: the cases of the transcripts, and compressed messages
//! at the borders of windows. Its argument is a folder, in which each target gets one;
//! `fuzz/run.py --seeds` runs it.
//!
//! Does not know: what the targets make of them.

#[path = "../../core/tests/transcripts/notation.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod notation;

use std::fs;
use std::path::Path;

use notation::{
    SAMPLE_REQUEST, SAMPLE_RESPONSE, Section, block, cell_lines, changed, encode, list, sections,
};
use wsabi::Role;

/// The input of `frames`: settings, then octets.
fn frames(section: &Section) -> Vec<Vec<u8>> {
    let limit = |name: &str| {
        section
            .setting(name)
            .and_then(|value| value.parse::<u8>().ok())
    };
    let inputs = section.rows.iter().map(|(_, row)| cell_lines(&row[0]));
    let blocks = section.blocks.iter().filter(|(name, _)| name == "input");
    let mut all = Vec::new();
    for lines in inputs.chain(blocks.map(|(_, lines)| lines.clone())) {
        let mut whole = cell_lines(section.setting("first").unwrap_or(""));
        whole.extend(lines);
        for (role, sender) in [(0, Role::Client), (1, Role::Server)] {
            let mut input = vec![
                role,
                limit("max_message_bytes").map_or(0, |limit| limit.saturating_add(1)),
                limit("max_fragments").unwrap_or(0),
                whole.len() as u8,
                0,
            ];
            input.extend(encode(&whole, sender, "").bytes);
            all.push(input);
        }
    }
    all
}

/// The inputs of the handshakes' targets: settings, then a head.
fn heads(section: &Section, base: &[String]) -> Vec<Vec<u8>> {
    let rows = section.rows.iter().map(|(_, row)| changed(base, &row[0]));
    let settings = [[0, 3, 0], [0x25, 2, 0]];
    rows.flat_map(|head| settings.map(|settings| [&settings[..], &head].concat()))
        .collect()
}

/// Bits from the lowest of each octet on.
#[derive(Default)]
struct Bits(Vec<u8>, usize);

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for i in 0..count {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            let last = self.0.len() - 1;
            self.0[last] |= ((value >> i & 1) as u8) << (self.1 % 8);
            self.1 += 1;
        }
    }

    /// A Huffman code, which begins with its highest bit (RFC 1951 §3.1.1).
    fn code(&mut self, value: u32, count: usize) {
        (0..count).rev().for_each(|i| self.put(value >> i, 1));
    }
}

/// A message that refers three octets back by a distance: 256 + `more`, at most one (RFC 1951
/// §3.2.5).
fn reference(more: bool) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0b010, 3);
    bits.code(1, 7);
    bits.code(if more { 16 } else { 15 }, 5);
    bits.put(if more { 0 } else { 63 }, if more { 7 } else { 6 });
    bits.code(0, 7);
    bits.put(0, 3);
    bits.0
}

/// The inputs of `deflate`: settings, then messages with kind and length.
fn compressed() -> Vec<Vec<u8>> {
    let mut stored = vec![0, 0, 1, 0xff, 0xfe];
    stored.extend(0..=255);
    stored.push(0);
    let hello = vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = vec![0xf2, 0x00, 0x11, 0x00, 0x00];
    let last = vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let twice = [last.clone(), last.clone()].concat();
    let lists = [
        vec![stored.clone(), reference(false)],
        vec![stored.clone(), reference(true)],
        vec![stored.clone(), hello.clone(), reference(false)],
        vec![hello.clone(), again.clone(), again],
        vec![last, twice, hello],
    ];
    let mut all = Vec::new();
    for messages in &lists {
        for (flags, bits, kind) in [(2, 0, 0), (2, 1, 9), (3, 8, 0), (0, 0, 1)] {
            let mut input = vec![flags, bits, 0xff, 0x7f, 9, 3, 0, 0];
            for message in messages {
                input.push(kind);
                input.extend((message.len() as u16).to_le_bytes());
                input.extend(message);
            }
            all.push(input);
        }
    }
    all
}

fn write(root: &Path, target: &str, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    let folder = root.join(target);
    fs::create_dir_all(&folder)?;
    for (i, input) in inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.len() <= 4096)
    {
        fs::write(folder.join(format!("seed-{i}")), input)?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let root = std::env::args_os().nth(1).expect("expected a folder");
    let root = Path::new(&root);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/transcripts");
    let document = |name: &str| {
        let text = fs::read_to_string(folder.join(name))?;
        Ok::<_, std::io::Error>(sections(name, &text))
    };
    let mut all = Vec::new();
    for name in [
        "framing.md",
        "control-frames.md",
        "closing.md",
        "text.md",
        "limits.md",
    ] {
        all.extend(document(name)?.iter().flat_map(frames));
    }
    write(root, "frames", &all)?;
    let texts: Vec<Vec<u8>> = [
        "κόσμε 😀 plain",
        "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
    ]
    .iter()
    .flat_map(|text| [0u8, 1, 2].map(|cut| [&[cut, 0], text.as_bytes()].concat()))
    .collect();
    write(root, "utf8", &texts)?;
    for (name, target, called, sample) in [
        (
            "server-handshake.md",
            "handshake_server",
            "request",
            SAMPLE_REQUEST,
        ),
        (
            "client-handshake.md",
            "handshake_client",
            "response",
            SAMPLE_RESPONSE,
        ),
    ] {
        let mut all = Vec::new();
        for section in document(name)? {
            let base = block(&section, called).unwrap_or_else(|| list(sample));
            all.extend(heads(&section, &base));
        }
        write(root, target, &all)?;
    }
    write(root, "deflate", &compressed())
}
