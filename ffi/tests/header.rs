//! `include/wsabi.h` is what cbindgen makes of the source; with `WSABI_BLESS=1` it is written anew.

use std::path::Path;

/// Leaves out what cbindgen copies from Rust's documentation and C has no use for, and puts
/// negative numbers in parentheses, so that they can stand in any expression.
fn made_for_c(header: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut in_safety = false;
    for line in header.lines() {
        let text = line.trim();
        if text == "* # Safety" {
            in_safety = true;
            while lines.last().is_some_and(|last| last.trim() == "*") {
                lines.pop();
            }
        }
        in_safety &= text.starts_with('*') && text != "*/";
        if in_safety {
            continue;
        }
        let define = line
            .strip_prefix("#define ")
            .and_then(|rest| rest.split_once(' '));
        lines.push(match define {
            Some((name, value)) if value.starts_with('-') => format!("#define {name} ({value})"),
            _ => line.to_owned(),
        });
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_committed_header_is_current() {
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        cbindgen::Config::from_file(ffi.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_crate(ffi)
        .with_config(config)
        .generate()
        .expect("the source has a header")
        .write(&mut made);
    let made = made_for_c(&String::from_utf8(made).expect("a header is text"));
    let path = ffi.join("../include/wsabi.h");
    if std::env::var_os("WSABI_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, made).expect("the header can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/wsabi.h is not what the source makes: run `make header`"
    );
}
