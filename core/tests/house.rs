//! The rules of the house, read off the source text: floors and cycles, the sans-IO wall,
//! reasons for `unsafe`, sizes, opening lines.
//!
//! Does not know: what the code means; the compiler and clippy look after that.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, an unreadable source is a failure"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[path = "house/planted.rs"]
mod planted;
#[path = "house/scan.rs"]
mod scan;
use scan::{Source, functions, is_word, paths};

/// The rooms of `core/src`, floor by floor from 0. A folder's entry holds for all in it.
const FLOORS: &[&str] = &[
    "error event config time protocol::close_code protocol::head protocol::mask protocol::utf8",
    "protocol::frame protocol::message protocol::deflate protocol::extension protocol::prepared",
    "protocol::receive protocol::send protocol::handshake",
    "protocol::connection net::transport net::tls net::socket net::poller net::timers \
     net::address net::random net::number net::resolver net::sys",
    "net::slot net::handler net::listener net::connector net::output net::context net::commands net::conn net::broadcast net::budget \
     net::writing net::lifecycle net::dialing net::serving",
    "net::loop net::handle net::reading",
];
/// Rooms that may not know each other; `net` stands for its rooms on floor 3.
const STRANGERS: &[(&str, &str)] = &[
    ("protocol::receive", "protocol::send"),
    ("protocol::connection", "net"),
];
/// These declare rooms and re-export to users; nobody inside imports from them.
const ROOFS: &[&str] = &["", "protocol", "net"];
/// What `protocol/` may not name: time and randomness are arguments.
const WALL: &str = "std::net std::os std::thread std::time::Instant std::time::SystemTime \
                    getrandom libc mio socket2";
const UNSAFE_IN: &[&str] = &[
    "core/src/protocol/utf8.rs",
    "core/src/protocol/mask.rs",
    "core/src/protocol/message.rs",
    "core/src/net/socket.rs",
    "core/src/net/poller/",
    "ffi/src/",
    "bindings/python/src/",
    "bindings/node/src/",
];
/// Gate and aim.
const FILE_LINES: (usize, usize) = (800, 600);
const FUNCTION_LINES: (usize, usize) = (120, 80);

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for folder in [
        "core",
        "ffi",
        "bindings/python",
        "bindings/node",
        "examples/rust",
    ] {
        collect(root, &root.join(folder).join("src"), &mut sources);
    }
    assert!(
        sources.iter().any(|s| s.path == "core/src/lib.rs"),
        "core/src was not found"
    );
    let (problems, aims) = inspect(&sources);
    println!("{}", aims.join("\n"));
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What breaks a rule, and what misses an aim.
fn inspect(sources: &[Source]) -> (Vec<String>, Vec<String>) {
    let (mut problems, mut aims, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    imports(sources, &mut problems);
    for source in sources {
        reasons_for_unsafe(source, &mut problems);
        lengths.extend(sizes(source, &mut problems, &mut aims));
        let mut opening = source
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"));
        let library = !source.path.starts_with("examples/");
        if library && !opening.any(|line| line.contains("Does not know")) {
            problems.push(format!(
                "{}: no `//!` opening with \"Does not know\"",
                source.path
            ));
        }
    }
    let short = lengths.iter().filter(|&&lines| lines <= 30).count();
    aims.push(format!(
        "{short} of {} functions have 30 lines or fewer (aim 90%)",
        lengths.len()
    ));
    (problems, aims)
}

fn imports(sources: &[Source], problems: &mut Vec<String>) {
    let planned = FLOORS
        .iter()
        .flat_map(|entries| entries.split(' '))
        .map(str::to_owned);
    let rooms: BTreeSet<String> = sources
        .iter()
        .filter_map(Source::module)
        .chain(planned)
        .collect();
    let mut graph = BTreeMap::new();
    for (source, room) in sources.iter().filter_map(|s| Some((s, s.module()?))) {
        let roof = ROOFS.contains(&room.as_str());
        if !roof && floor(&room).is_none() {
            problems.push(format!(
                "{}: `{room}` is in no floor of FLOORS",
                source.path
            ));
        }
        let mut targets = BTreeSet::new();
        for path in paths(&source.code) {
            let named = |wall: &str| path == wall || path.starts_with(&format!("{wall}::"));
            if room.starts_with("protocol") && WALL.split_whitespace().any(named) {
                problems.push(format!(
                    "{}: the protocol may not name `{path}`",
                    source.path
                ));
            }
            let target = resolve(source, &room, &path, &rooms).filter(|t| !roof && *t != room);
            if let Some(why) = target.as_ref().and_then(|target| wrong(&room, target)) {
                problems.push(format!("{}: `{path}`: {why}", source.path));
            }
            targets.extend(target);
        }
        graph.insert(room, targets);
    }
    cycles(graph, problems);
}

/// The room that a path leads to; "" is the crate root.
fn resolve(source: &Source, room: &str, path: &str, rooms: &BTreeSet<String>) -> Option<String> {
    let mut base: Vec<&str> = room
        .split("::")
        .filter(|segment| !segment.is_empty())
        .collect();
    match path.split("::").next()? {
        "crate" => base.clear(),
        // In a module inside the file it means the file itself.
        "super"
            if source
                .code
                .lines()
                .any(|l| l.contains("mod ") && l.ends_with('{')) =>
        {
            return None;
        }
        "super" | "self" => {}
        first if rooms.contains(&format!("{room}::{first}")) => {}
        _ => return None,
    }
    for segment in path
        .split("::")
        .filter(|segment| !["crate", "self"].contains(segment))
    {
        if segment == "super" {
            base.pop();
        } else {
            base.push(segment);
        }
    }
    while !base.is_empty() && !rooms.contains(&base.join("::")) {
        base.pop();
    }
    Some(base.join("::"))
}

fn floor(room: &str) -> Option<usize> {
    let holds = |entry: &str| room == entry || room.starts_with(&format!("{entry}::"));
    FLOORS
        .iter()
        .position(|entries| entries.split(' ').any(holds))
}

/// Why `room` may not import from `target`.
fn wrong(room: &str, target: &str) -> Option<String> {
    let is = |room: &str, entry: &str| match entry {
        "net" => room.starts_with("net::") && floor(room) == Some(3),
        _ => room == entry,
    };
    let meet =
        |&&(a, b): &&(&str, &str)| is(room, a) && is(target, b) || is(room, b) && is(target, a);
    if ROOFS.contains(&target) {
        Some("a re-export; import it from its own room".to_owned())
    } else if floor(room).is_some_and(|own| floor(target) > Some(own)) {
        Some(format!("`{target}` is on a higher floor than `{room}`"))
    } else {
        let strangers = STRANGERS.iter().find(meet);
        strangers.map(|_| format!("`{room}` and `{target}` are strangers"))
    }
}

/// Takes away what imports nothing or is imported by nobody until only cycles are left.
fn cycles(mut graph: BTreeMap<String, BTreeSet<String>>, problems: &mut Vec<String>) {
    loop {
        let importers: BTreeSet<String> = graph.keys().cloned().collect();
        let imported: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|room, targets| {
            targets.retain(|target| importers.contains(target));
            imported.contains(room) && !targets.is_empty()
        });
        if graph.len() == importers.len() {
            break;
        }
    }
    problems.extend(
        graph
            .iter()
            .map(|(room, to)| format!("cycle: `{room}` imports {to:?}")),
    );
}

fn reasons_for_unsafe(source: &Source, problems: &mut Vec<String>) {
    let lines: Vec<&str> = source.text.lines().collect();
    for (n, line) in source.code.lines().enumerate() {
        for (i, word) in line.match_indices("unsafe") {
            let (before, after) = (&line[..i], &line[i + word.len()..]);
            let whole = !is_word(before.chars().next_back()) && !is_word(after.chars().next());
            let signature = after.trim_start().trim_start_matches("extern").trim_start();
            let attribute_or_type = after.starts_with('(') || signature.starts_with("fn(");
            if !whole || attribute_or_type {
                continue;
            }
            if !UNSAFE_IN
                .iter()
                .any(|allowed| source.path.starts_with(allowed))
            {
                problems.push(format!(
                    "{}:{}: no `unsafe` in this file",
                    source.path,
                    n + 1
                ));
            }
            let is_item = signature.starts_with("fn ") || signature.starts_with("trait ");
            let note = if is_item { "# Safety" } else { "// SAFETY:" };
            // Up to the end of the statement or item before this one.
            let above = lines[..n].iter().rev().take_while(|line| {
                let line = line.trim();
                line.starts_with("//") || line.starts_with('#') || !line.ends_with([';', '}', '{'])
            });
            let mut comments = above.filter(|line| line.trim_start().starts_with("//"));
            if !comments.any(|line| line.contains(note)) {
                problems.push(format!(
                    "{}:{}: `unsafe` without `{note}`",
                    source.path,
                    n + 1
                ));
            }
        }
    }
}

/// The lengths of the functions.
fn sizes(source: &Source, problems: &mut Vec<String>, aims: &mut Vec<String>) -> Vec<usize> {
    let mut check = |what: &str, lines: usize, (gate, aim): (usize, usize)| {
        let list = if lines > gate {
            &mut *problems
        } else {
            &mut *aims
        };
        if lines > aim {
            let path = &source.path;
            list.push(format!(
                "{path}: {what} has {lines} lines (aim {aim}, gate {gate})"
            ));
        }
    };
    check("the file", source.text.lines().count(), FILE_LINES);
    let functions = functions(&source.code);
    for (name, lines) in &functions {
        check(&format!("`{name}`"), *lines, FUNCTION_LINES);
    }
    functions.into_iter().map(|(_, lines)| lines).collect()
}
