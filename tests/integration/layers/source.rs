//! `src/` as text: its files without comments, strings and tests, and the paths named in them.

use std::{fs, path::Path, path::PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

#[derive(Default)]
pub struct SourceFile {
    /// Relative to `src/`.
    pub name: String,
    /// The first part of the path.
    pub module: String,
    pub lines: usize,
    pub text: String,
    /// Without comments, strings and tests; as many lines as `text`.
    pub code: String,
}

pub fn sources() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(Path::new(SOURCE), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(SOURCE).expect("below src").display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let module = name.split('/').next().expect("a path has parts").trim_end_matches(".rs").to_owned();
        SourceFile { module, lines: text.lines().count(), code: without_comments_and_tests(&text), name, text }
    };
    let files: Vec<SourceFile> = paths.into_iter().map(read).collect();
    let exempt: Vec<String> = files.iter().flat_map(test_modules).collect();
    let house = |file: &SourceFile| {
        let of_tests = |path: &String| file.name == format!("{path}.rs") || file.name.starts_with(&format!("{path}/"));
        file.name != "lib.rs" && !exempt.iter().any(of_tests)
    };
    files.into_iter().filter(house).collect()
}

/// The paths, without an ending, of the modules that a file declares for tests only.
pub fn test_modules(file: &SourceFile) -> Vec<String> {
    let path = file.name.trim_end_matches(".rs");
    let directory = match path.rsplit_once('/') {
        Some((directory, "mod")) => directory.to_owned() + "/",
        None if path == "lib" => String::new(),
        _ => path.to_owned() + "/",
    };
    let code = without_comments(&file.text);
    let attributed = code.split("#[cfg(test)]").skip(1);
    attributed
        .filter_map(|rest| {
            rest.trim_start()
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .strip_prefix("mod ")?
                .split_once(';')
        })
        .filter(|(name, _)| name.chars().all(is_word))
        .map(|(name, _)| format!("{directory}{name}"))
        .collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The first part of every `crate::` path (in programs: `ringd::`), groups opened.
pub fn crate_paths(code: &str) -> Vec<String> {
    let flat = flat_imports(code);
    let mut found = Vec::new();
    for root in ["crate::", "ringd::"] {
        for (position, _) in flat.match_indices(root) {
            if is_word_start(&flat, position) {
                let rest = &flat[position + root.len()..];
                let end = rest.find(|letter: char| !is_word(letter)).unwrap_or(rest.len());
                found.push(rest[..end].to_owned());
            }
        }
    }
    found.retain(|name| !name.is_empty() && name.starts_with(|letter: char| letter.is_lowercase()));
    found.sort();
    found.dedup();
    found
}

/// The code with `a::{b, c::{d, e}}` written out as `a::b a::c::d a::c::e`, one level after the other.
pub fn flat_imports(code: &str) -> String {
    let mut text: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(open) = text.rfind("::{") {
        let Some(length) = text[open..].find('}') else { break };
        let start = text[..open].rfind(|letter: char| !is_word(letter) && letter != ':').map_or(0, |space| space + 1);
        let prefix = text[start..open].to_owned();
        let inner = text[open + 3..open + length].to_owned();
        let written: Vec<String> = inner.split(',').map(|item| format!("{prefix}::{}", item.trim())).collect();
        // Inside another group the items must stay items of that group.
        text.replace_range(start..=open + length, &written.join(", "));
    }
    text
}

pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(position, _)| {
        let end = position + word.len();
        let ends = !word.ends_with(is_word) || word.ends_with("Hash") || !code[end..].starts_with(is_word);
        ends && (word.starts_with('.') || is_word_start(code, position))
    })
}

pub fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Does a path begin here, and not in the middle of a word or of a longer path?
fn is_word_start(code: &str, position: usize) -> bool {
    let before = &code[..position];
    let in_path = before.ends_with("::") && before.trim_end_matches("::").ends_with(is_word);
    !in_path && !before.ends_with(is_word)
}

/// Blanks out comments, strings, characters and `#[cfg(test)]` modules; keeps the line breaks.
pub fn without_comments_and_tests(text: &str) -> String {
    let mut code = without_comments(text);
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = item_end(&code, start + "#[cfg(test)]".len());
        let blank: String = code[start..end].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// The end of the item that begins after `start`: a semicolon before any brace, or the brace that closes it.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (offset, letter) in code[start..].char_indices() {
        match letter {
            ';' if depth == 0 => return start + offset + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return start + offset + 1;
                }
            }
            _ => (),
        }
    }
    code.len()
}

fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = skipped_length(rest, code.chars().next_back());
        if length == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        }
        code.extend(rest[..length].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

/// How many bytes of a comment, a string or a character begin here; 0 if it is code.
fn skipped_length(rest: &str, before: Option<char>) -> usize {
    let until =
        |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |position| from + position + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    let raw = rest.strip_prefix('r').filter(|_| !before.is_some_and(|letter| is_word(letter) && letter != 'b'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    // A character, not a lifetime: it closes after one character or an escape.
    let mut letters = rest.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('\''), Some('\\'), _) => quoted_length(rest, '\''),
        (Some('\''), Some(inner), Some('\'')) => 2 + inner.len_utf8(),
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return position + 1,
            _ => (),
        }
    }
    rest.len()
}
