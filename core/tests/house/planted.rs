//! Plants a violation of each rule into a small house that has none: each must be found.
//!
//! Does not know: the real sources.

use std::collections::BTreeMap;

use crate::inspect;
use crate::scan::Source;

const OPENING: &str = "//! Opens.\n//!\n//! Does not know: more.\n";
const SOUND: &[(&str, &str)] = &[
    ("core/src/lib.rs", "pub mod error;\npub use error::Error;"),
    (
        "core/src/error.rs",
        "/* \" crate::net::slot */ pub struct Error(char, &'static str);",
    ),
    (
        "core/src/protocol/send.rs",
        "use crate::{error::Error, protocol::frame::{self, Head}};",
    ),
    (
        "core/src/protocol/receive.rs",
        "const Q: char = '\"'; // unsafe { std::net::x() }",
    ),
    ("core/src/protocol/connection.rs", "use super::send::Send;"),
    (
        "core/src/protocol/frame.rs",
        "fn f(x: [u8; 4]);\n#[cfg(test)]\nmod tests { use crate::X; }",
    ),
    (
        "core/src/net/socket.rs",
        "// SAFETY: a note\n// of two lines.\nlet x =\n    unsafe { f() };",
    ),
    (
        "core/src/net/slot.rs",
        "use crate::{net::socket, protocol::{connection, send::*}};",
    ),
    (
        "ffi/src/lib.rs",
        "/// # Safety\n#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn f() {}",
    ),
];

/// What is found when a text is put into a file of the sound house.
fn found_with(path: &str, planted: &str) -> Vec<String> {
    let mut house: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for (path, text) in SOUND {
        house.insert(path, (OPENING, format!("{text}\n")));
    }
    let (_, text) = house.entry(path).or_default();
    *text = format!("{planted}\n{text}");
    let parts = house.into_iter();
    let sources: Vec<_> = parts
        .map(|(path, (opening, text))| Source::new(path, &format!("{opening}{text}")))
        .collect();
    inspect(&sources).0
}

#[test]
fn a_sound_house_is_left_alone() {
    assert_eq!(found_with("core/src/lib.rs", ""), Vec::<String>::new());
}

#[test]
fn planted_violations_are_found() {
    let long_file = "\n".repeat(900);
    let long_function = format!("fn long() {{{}}}", "\n".repeat(121));
    let planted = [
        (
            "core/src/error.rs",
            "use crate::{protocol::{frame::{self, Head}}};",
            "higher floor",
        ),
        (
            "core/src/protocol/frame.rs",
            "fn f() { super::send::g() }",
            "higher floor",
        ),
        (
            "core/src/protocol/receive.rs",
            "use super::{send as s};",
            "strangers",
        ),
        (
            "core/src/net/socket.rs",
            "use crate::protocol::connection;",
            "strangers",
        ),
        ("core/src/net/slot.rs", "use crate::Error;", "re-export"),
        (
            "core/src/net/slot.rs",
            "use super::super::Error;",
            "re-export",
        ),
        ("core/src/protocol/novel.rs", "", "in no floor"),
        (
            "core/src/protocol/send.rs",
            "use std::{time::{Duration, Instant}};",
            "may not name",
        ),
        (
            "core/src/protocol/mod.rs",
            "fn f() { getrandom::fill() }",
            "may not name",
        ),
        (
            "core/src/net/slot.rs",
            "// SAFETY: none.\nlet x = unsafe { f() };",
            "no `unsafe`",
        ),
        (
            "core/src/net/socket.rs",
            "// SAFETY: a.\nf();\nunsafe { g() }",
            "without `// SAFETY:`",
        ),
        (
            "ffi/src/lib.rs",
            "unsafe impl Send for X {}",
            "without `// SAFETY:`",
        ),
        (
            "ffi/src/lib.rs",
            "/// Docs.\npub unsafe extern \"C\" fn f() {}",
            "without `# Safety`",
        ),
        ("core/src/net/slot.rs", long_file.as_str(), "the file has"),
        ("core/src/net/slot.rs", long_function.as_str(), "`long` has"),
        (
            "ffi/src/options.rs",
            "#![allow(missing_docs)]",
            "Does not know",
        ),
    ];
    for (path, text, expected) in planted {
        let found = found_with(path, text);
        assert!(
            found.iter().any(|p| p.contains(expected)),
            "{path}: {expected}: {found:?}"
        );
    }
}

#[test]
fn cycles_are_found_however_long() {
    let room = |name: &str, to: &str| {
        Source::new(
            &format!("core/src/net/{name}.rs"),
            &format!("{OPENING}use crate::net::{to}::X;"),
        )
    };
    let found = |rooms: &[(&str, &str)]| {
        let sources: Vec<_> = rooms.iter().map(|(name, to)| room(name, to)).collect();
        let problems = inspect(&sources).0.into_iter();
        problems
            .filter(|problem| problem.starts_with("cycle"))
            .count()
    };
    assert_eq!(
        found(&[
            ("slot", "handler"),
            ("handler", "output"),
            ("output", "socket")
        ]),
        0
    );
    assert_eq!(
        found(&[
            ("slot", "handler"),
            ("handler", "output"),
            ("output", "slot")
        ]),
        3
    );
}
