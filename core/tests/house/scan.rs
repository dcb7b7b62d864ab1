//! Reads Rust source as text: what is code, which paths it names, where its functions end.
//!
//! Does not know: the rules; types, macros or names brought in by `use`.

/// A source file without the tests at its end.
pub(crate) struct Source {
    /// From the root of the checkout, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// With comments, strings and character literals blanked; lines stay lines.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].starts_with("#[cfg(") && pair[0].contains("test") && pair[1].starts_with("mod ")
        });
        let text = lines[..tests.unwrap_or(lines.len())].join("\n");
        Self {
            path: path.to_owned(),
            code: blank(&text),
            text,
        }
    }

    /// `net::poller::epoll` for `core/src/net/poller/epoll.rs`; none outside the core.
    pub(crate) fn module(&self) -> Option<String> {
        let name = self.path.strip_prefix("core/src/")?.strip_suffix(".rs")?;
        let name = name.strip_suffix("/mod").unwrap_or(name);
        Some(if name == "lib" {
            String::new()
        } else {
            name.replace('/', "::")
        })
    }
}

pub(crate) fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (String::with_capacity(text.len()), 0);
    while i < chars.len() {
        let end = literal_end(&chars, i).min(chars.len());
        if end == i {
            out.push(chars[i]);
        }
        out.extend(
            chars[i..end]
                .iter()
                .map(|&c| if c == '\n' { '\n' } else { ' ' }),
        );
        i = end.max(i + 1);
    }
    out
}

/// Where the comment or literal that starts at `i` ends; `i` when none does.
fn literal_end(chars: &[char], i: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let after = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..chars.len()).find(|&j| chars[j..].starts_with(&end));
        found.map_or(chars.len(), |j| j + end.len())
    };
    let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
    let prefixed = i > 0 && is_word(Some(at(i - 1))) && !matches!(at(i - 1), 'b' | 'c');
    match at(i) {
        '/' if at(i + 1) == '/' => (i..chars.len())
            .find(|&j| at(j) == '\n')
            .unwrap_or(chars.len()),
        '/' if at(i + 1) == '*' => after(i + 2, "*/"),
        'r' if at(i + 1 + hashes) == '"' && !prefixed => {
            after(i + 2 + hashes, &format!("\"{}", "#".repeat(hashes)))
        }
        '"' => {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            j + 1
        }
        '\'' if at(i + 1) == '\\' => after(i + 3, "'"),
        '\'' if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
}

/// All paths of two segments or more, those of `use` trees written out.
pub(crate) fn paths(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), String::new());
    for part in code.split_inclusive(';') {
        let starts = part.match_indices("use ").map(|(i, _)| i);
        let at = starts
            .filter(|&i| !is_word(part[..i].chars().next_back()))
            .last();
        let (before, tree) = part.split_at(at.unwrap_or(part.len()));
        rest.push_str(before);
        if let Some(tree) = tree.strip_prefix("use ") {
            expand("", tree.trim_end_matches(';'), &mut found);
        }
    }
    let outside = |c: char| !is_word(Some(c)) && c != ':' && c != '#';
    found.extend(rest.split(outside).map(str::to_owned));
    found.retain(|path| path.contains("::"));
    found.iter().map(|path| path.replace("r#", "")).collect()
}

fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        return found.push(format!("{prefix}{}", name.trim()));
    };
    let prefix = format!("{prefix}{}", head.trim());
    let (mut depth, mut start) = (0, 0);
    for (i, c) in inner.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if (c == ',' && depth == 0) || (c == '}' && depth < 0) {
            if !inner[start..i].trim().is_empty() {
                expand(&prefix, &inner[start..i], found);
            }
            start = i + 1;
        }
    }
}

/// The name of each function that has a body, and its lines.
pub(crate) fn functions(code: &str) -> Vec<(String, usize)> {
    let starts = code.match_indices("fn ").map(|(i, _)| i);
    let starts = starts.filter(|&i| !is_word(code[..i].chars().next_back()));
    starts.filter_map(|i| function(&code[i..])).collect()
}

fn function(code: &str) -> Option<(String, usize)> {
    let name = code[3..]
        .split(|c| !is_word(Some(c)))
        .next()
        .unwrap_or_default();
    let (mut depth, mut in_body) = (0, false);
    for (i, c) in code.char_indices() {
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        in_body |= c == '{' && depth == 1;
        if in_body && depth == 0 {
            return Some((name.to_owned(), code[..i].lines().count()));
        }
        if depth < 0 || (depth == 0 && c == ';') {
            return None;
        }
    }
    None
}
