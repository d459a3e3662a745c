//! Reads `src/` and holds it to the house plan: imports point downwards only, and the core stays pure.
//!
//! The floors below are the picture in `lib.rs`. What is `#[cfg(test)]` is exempt, files too; so are comments and strings.

use std::{fs, path::Path, path::PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const LINES_MAX: usize = 1000;

/// From the top down. A module may use what stands below it; modules on one line do not know each other.
const FLOORS: [&[&str]; 26] = [
    &["bin"],
    // Above ctl, whose flags and formats it shares.
    &["utl"],
    &["ctl", "load"],
    &["client"],
    &["server"],
    &["drive", "web"],
    &["services"],
    &["config", "meters"],
    &["frontend"],
    &["peer"],
    &["rpc"],
    &["os"],
    &["replica"],
    &["service"],
    &["consensus"],
    &["apply"],
    &["watch", "lease", "auth", "cluster"],
    &["mvcc"],
    &["snapshot"],
    &["backend"],
    &["pagefile"],
    &["wal"],
    &["proto"],
    &["metrics"],
    &["base"],
    // Beside the house: drives the core instead of the shell. Nobody uses it but its program.
    &["sim"],
];
const CORE: [&str; 14] = [
    "replica",
    "service",
    "consensus",
    "apply",
    "watch",
    "lease",
    "auth",
    "cluster",
    "mvcc",
    "snapshot",
    "backend",
    "pagefile",
    "wal",
    "sim",
];
const GROUND: [&str; 3] = ["proto", "metrics", "base"];
/// Ignorant of etcd: they know the ground, and each other downwards.
const IGNORANT: [&str; 2] = ["rpc", "os"];
/// What an ignorant module may know all the same: `os/mapping` vouches for the page file's map of its mapping, which is the one
/// unsafe promise between the two.
const KNOWN_ALL_THE_SAME: (&str, &str) = ("os", "pagefile");

/// What the core does without, with the reason a reader of the failure needs.
const BANNED_IN_CORE: [(&str, &str); 12] = [
    ("async", "the core is synchronous"),
    (".await", "the core is synchronous"),
    ("std::time", "time is an argument"),
    ("std::fs", "disk writes are values"),
    ("std::net", "messages are values"),
    ("std::thread", "the shell knows the cores"),
    ("glommio", "only os/ knows the kernel"),
    ("tokio", "the core is synchronous"),
    ("rand::rng", "randomness is an argument"),
    ("thread_rng", "randomness is an argument"),
    ("from_os_rng", "randomness is an argument"),
    ("std::collections::Hash", "its order differs from run to run; ahash or a BTreeMap"),
];
/// Crates with one wrapper each.
const WRAPPED: [(&str, &[&str]); 4] = [
    ("glommio::", &["os"]),
    ("memmap2::", &["os", "pagefile"]),
    ("raft::", &["consensus"]),
    ("h2::", &["rpc", "client"]),
];
/// What walks a hash map in its own order. `// hash order: why it cannot be seen` on the line permits it.
const WALKS: [&str; 7] =
    [".iter()", ".iter_mut()", ".keys()", ".values()", ".values_mut()", ".drain()", ".into_iter()"];

/// Imports point down.
pub fn imports_point_down() {
    let mut faults = Vec::new();
    for file in sources() {
        for used in crate_paths(&file.code) {
            if let Some(fault) = edge_fault(&file.module, &used) {
                faults.push(format!("{}: {fault}", file.name));
            }
        }
    }
    report(faults);
}

/// No time, disk, network, thread, randomness or hash order in the core.
pub fn core_is_pure() {
    let mut faults = Vec::new();
    for file in sources() {
        for (name, homes) in WRAPPED {
            if has_word(&file.code, name) && !homes.contains(&file.module.as_str()) {
                faults.push(format!("{}: {name} belongs in {homes:?}", file.name));
            }
        }
        if !CORE.contains(&file.module.as_str()) {
            continue;
        }
        let flat = flat_imports(&file.code);
        for (word, reason) in BANNED_IN_CORE {
            if has_word(&file.code, word) || has_word(&flat, word) {
                faults.push(format!("{}: {word}: {reason}", file.name));
            }
        }
        faults.extend(hash_walks(&file).into_iter().map(|line| format!("{}: hash order: {line}", file.name)));
    }
    report(faults);
}

/// Files a reader can hold in the head.
pub fn files_are_short() {
    let long = sources().into_iter().filter(|file| file.lines > LINES_MAX);
    report(long.map(|file| format!("{}: {} lines", file.name, file.lines)).collect());
}

/// The checks above find what they are for.
pub fn checks_find_faults() {
    assert!(edge_fault("mvcc", "service").is_some());
    assert!(edge_fault("service", "mvcc").is_none());
    assert!(edge_fault("watch", "lease").is_some());
    assert!(edge_fault("os", "wal").is_some());
    assert!(edge_fault("server", "sim").is_some());
    assert!(edge_fault("attic", "base").is_some());
    let code = without_comments_and_tests(
        "use crate::{a::X, b::{self, C}, d};\n// crate::e\nfn f() { crate::g::h(\"crate::i\") }\n#[cfg(test)]\nmod tests { use crate::j; }\nuse crate::k;",
    );
    assert_eq!(crate_paths(&code), ["a", "b", "d", "g", "k"]);
    assert!(has_word(&flat_imports("use std::{collections::BTreeMap, time::Duration};"), "std::time"));
    assert!(!has_word("let asynchronous = 1;", "async"));
    assert!(has_word("pub async fn f()", "async"));
    let file = SourceFile {
        code: "struct S { map: AHashMap<u8, u8> }\nfn f(s: &S) { s.map.values(); s.map.get(&1); }".into(),
        text: "struct S { map: AHashMap<u8, u8> }\nfn f(s: &S) { s.map.values(); s.map.get(&1); }".into(),
        ..SourceFile::default()
    };
    assert_eq!(hash_walks(&file).len(), 1);
    let file = SourceFile {
        name: "wal/mod.rs".into(),
        text: "#[cfg(test)]\nmod model;\nmod segment;\n#[cfg(test)]\nmod tests { mod inner; }".into(),
        ..SourceFile::default()
    };
    assert_eq!(test_modules(&file), ["wal/model"]);
}

#[derive(Default)]
struct SourceFile {
    /// Relative to `src/`.
    name: String,
    /// The first part of the path.
    module: String,
    lines: usize,
    text: String,
    /// Without comments, strings and tests; as many lines as `text`.
    code: String,
}

fn sources() -> Vec<SourceFile> {
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
fn test_modules(file: &SourceFile) -> Vec<String> {
    let path = file.name.trim_end_matches(".rs");
    let directory = match path.rsplit_once('/') {
        Some((directory, "mod")) => directory.to_owned() + "/",
        None if path == "lib" => String::new(),
        _ => path.to_owned() + "/",
    };
    let code = without_comments(&file.text);
    let attributed = code.split("#[cfg(test)]").skip(1);
    attributed
        .filter_map(|rest| rest.trim_start().trim_start_matches("pub ").strip_prefix("mod ")?.split_once(';'))
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

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is wrong with `from` using `to`.
fn edge_fault(from: &str, to: &str) -> Option<String> {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    if from == to {
        return None;
    }
    let (Some(above), Some(below)) = (floor(from), floor(to)) else {
        return Some(format!("{from} or {to} has no floor yet: give it one in layers.rs and in lib.rs"));
    };
    let allowed = match from {
        "sim" => CORE.contains(&to) || GROUND.contains(&to),
        _ if (from, to) == KNOWN_ALL_THE_SAME => true,
        _ if IGNORANT.contains(&from) => GROUND.contains(&to) || (IGNORANT.contains(&to) && above < below),
        _ => above < below && (to != "sim" || from == "bin"),
    };
    (!allowed).then(|| format!("{from} must not know {to}"))
}

/// The first part of every `crate::` path (in programs: `ringd::`), groups opened.
fn crate_paths(code: &str) -> Vec<String> {
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
fn flat_imports(code: &str) -> String {
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

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(position, _)| {
        let end = position + word.len();
        let ends = !word.ends_with(is_word) || word.ends_with("Hash") || !code[end..].starts_with(is_word);
        ends && (word.starts_with('.') || is_word_start(code, position))
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Does a path begin here, and not in the middle of a word or of a longer path?
fn is_word_start(code: &str, position: usize) -> bool {
    let before = &code[..position];
    let in_path = before.ends_with("::") && before.trim_end_matches("::").ends_with(is_word);
    !in_path && !before.ends_with(is_word)
}

/// Lines that walk a field or variable declared as a hash map.
fn hash_walks(file: &SourceFile) -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["HashMap", "HashSet"] {
        for (position, _) in file.code.match_indices(kind) {
            let before = file.code[..position].trim_end_matches(|letter: char| is_word(letter) || letter == ':');
            let before = before.trim_end().trim_end_matches([':', '=']).trim_end();
            let start = before.rfind(|letter: char| !is_word(letter)).map_or(0, |space| space + 1);
            if start < before.len() {
                names.push(before[start..].to_owned());
            }
        }
    }
    let lines = file.code.lines().zip(file.text.lines());
    lines
        .filter(|(code, text)| {
            let walks = |name: &String| {
                WALKS
                    .iter()
                    .any(|walk| has_word(code, &format!("{name}{walk}")) || code.contains(&format!(".{name}{walk}")))
                    || ["in &", "in &mut "].iter().any(|walk| {
                        has_word(code, &format!("{walk}{name} ")) || has_word(code, &format!("{walk}self.{name} "))
                    })
            };
            names.iter().any(walks) && !text.contains("// hash order:")
        })
        .map(|(_, text)| text.trim().to_owned())
        .collect()
}

/// Blanks out comments, strings, characters and `#[cfg(test)]` modules; keeps the line breaks.
fn without_comments_and_tests(text: &str) -> String {
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
