//! Every `unsafe` of the repository is counted in a table of the book: one more, or one less, is a change that somebody
//! has looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the table is, from the root of the repository.
const TABLE: &str = "docs/src/unsafe.md";

/// What a file has of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// `unsafe { ... }`
    blocks: usize,
    /// Functions, traits, implementations, foreign blocks and attributes.
    others: usize,
}

/// The code of a Rust file, without what is not code: comments, and what is between quotes.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip(rest, code.chars().next_back());
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// How many bytes at the front of `text` are a comment or a literal; 0 for code. `before` is what stands before it.
fn skip(text: &str, before: Option<char>) -> usize {
    let until =
        |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return nested_comment(text);
    }
    if !before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
        let raw = text.trim_start_matches(['b', 'c']);
        let prefix = text.len() - raw.len();
        if let Some(hashes) = raw.strip_prefix('r').filter(|_| prefix < 2) {
            let count = hashes.len() - hashes.trim_start_matches('#').len();
            if hashes[count..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(count));
                return until(&end, prefix + 1 + count + 1);
            }
        }
    }
    match text.as_bytes() {
        [b'"', ..] => quoted(text, b'"'),
        [b'\'', b'\\', ..] => quoted(text, b'\''),
        // A lifetime has no second quote behind its first character.
        [b'\'', ..] => {
            let mut chars = text.char_indices().skip(2);
            chars.next().filter(|(_, end)| *end == '\'').map_or(0, |(at, _)| at + 1)
        }
        _ => 0,
    }
}

fn nested_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        (depth, at) = (depth + step.0, at + step.1);
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn count(text: &str) -> Count {
    let code = code(text);
    let mut count = Count::default();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    for (at, word) in code.match_indices("unsafe") {
        let behind = &code[at + word.len()..];
        if code[..at].ends_with(is_name) || behind.starts_with(is_name) {
            continue;
        }
        if behind.trim_start().starts_with('{') { count.blocks += 1 } else { count.others += 1 }
    }
    count
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below `dir`, but for what was built or fetched.
fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && name != "corpus" && !name.starts_with('.') {
                rust_files(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn counted() -> BTreeMap<String, Count> {
    let (root, mut files) = (root(), Vec::new());
    rust_files(&root, &mut files);
    assert!(files.len() > 100, "the sources are not where they were");
    let mut counts = BTreeMap::new();
    for file in files {
        let count = count(&fs::read_to_string(&file).unwrap());
        if count != Count::default() {
            counts.insert(file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), count);
        }
    }
    counts
}

/// The rows of the table: `| file | blocks | others | why |`.
fn written() -> BTreeMap<String, Count> {
    let text = fs::read_to_string(root().join(TABLE)).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let ["", file, blocks, others, why, ""] = cells[..] else { return None };
            let count = Count { blocks: blocks.parse().ok()?, others: others.parse().ok()? };
            assert!(!why.is_empty(), "{TABLE} does not say why {file} is unsafe");
            Some((file.trim_matches('`').to_owned(), count))
        })
        .collect()
}

#[test]
fn the_table_says_what_is_there() {
    let (counted, written) = (counted(), written());
    let mut wrong = String::new();
    for file in counted.keys().chain(written.keys().filter(|file| !counted.contains_key(*file))) {
        let (found, said) = (counted.get(file), written.get(file));
        if found != said {
            let row = found.map_or("no row".to_owned(), |Count { blocks, others }| {
                format!("| `{file}` | {blocks} | {others} | why |")
            });
            wrong.push_str(&format!(
                "\n  {file} has {found:?}, the table says {said:?}; it should have: {row}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{TABLE} does not say what is there. Can the new ones be avoided, and is each proved by a SAFETY comment? Then \
         write it down:{wrong}"
    );
}

#[test]
fn nothing_but_code_is_counted() {
    let text = r####"
        // unsafe {}
        /* unsafe { /* unsafe {} */ unsafe {} */
        #![expect(unsafe_code, reason = "unsafe { }")]
        let text = "\"unsafe {"; let raw = r#"" unsafe { "#; let bytes = br"unsafe {"; let c = c"unsafe {";
        let (a, b): (char, &'static str) = ('"', "unsafe {");
        let quote = '\''; let backslash = '\\';
        fn not_unsafe() {} // '
    "####;
    assert_eq!(count(text), Count::default());
}

#[test]
fn every_kind_is_counted() {
    let text = "unsafe fn a<'a>() { unsafe { b() } } unsafe impl X for Y {} #[unsafe(no_mangle)] extern \"C\" fn d() {}
        let x = unsafe{ *p }; unsafe // why
        { q() }; unsafe extern \"C\" {} let c = 'u'; unsafe { r() }";
    assert_eq!(count(text), Count { blocks: 4, others: 4 });
}
