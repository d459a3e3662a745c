//! Circles of imports between the files of one module.
//!
//! File A depends on file B of the same module when the code of A names an item that is written in B, by a path:
//! `super::b::Item`, `crate::module::b::Item`, `b::Item` in the parent that declares `mod b`, or `super::Item` for an
//! item of the parent itself. Three things are no dependencies:
//!
//! - the declaration `mod b;`,
//! - a re-export that the file itself does not use, `pub use b::Item` (also `pub(super)` and `pub(crate)`): a path through it leads
//!   to the file of the item,
//! - a method call, since a method needs no path; the type that has it was named somewhere.
//!
//! So a `mod.rs` may declare and re-export children that know each other. It may also use its children, or its children may use
//! it, but not both. Tests are exempt, as everywhere in this check.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{SourceFile, flat_imports, is_word};

/// One item of a `use` statement.
struct Import {
    is_public: bool,
    /// The name by which the file knows it.
    name: String,
    /// From the root of the crate.
    path: Vec<String>,
}

struct Parsed {
    imports: Vec<Import>,
    /// Paths in the code outside of `use` statements, from the root of the crate.
    paths: Vec<Vec<String>>,
    /// The words in that code.
    words: BTreeSet<String>,
}

type Files<'a> = BTreeMap<Vec<String>, &'a SourceFile>;

/// One shortest circle for each group of files that depend on each other, as `a.rs -> b.rs -> a.rs`.
pub fn find(files: &[SourceFile]) -> Vec<String> {
    let by_path: Files = files.iter().map(|file| (module_path(&file.name), file)).collect();
    let parsed: BTreeMap<_, _> = by_path.iter().map(|(path, file)| (path, parse(path, file, &by_path))).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, file) in &by_path {
        let parsed_file = &parsed[path];
        let is_used = |import: &&Import| !import.is_public || parsed_file.words.contains(&import.name);
        let imported = parsed_file.imports.iter().filter(is_used).map(|import| &import.path);
        for used in imported.chain(&parsed_file.paths) {
            let target = home_of(used, &by_path, &parsed).and_then(|home| by_path.get(&home));
            if let Some(target) = target.filter(|target| target.module == file.module && target.name != file.name) {
                edges.entry(&file.name).or_default().insert(&target.name);
            }
        }
    }
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for start in edges.keys() {
        let Some(circle) = shortest_circle(start, &edges) else { continue };
        if circle.iter().all(|name| !seen.contains(name)) {
            circles.push(circle.join(" -> "));
        }
        seen.extend(circle);
    }
    circles
}

/// `mvcc/mod.rs` is `[mvcc]`, `mvcc/range.rs` is `[mvcc, range]`.
fn module_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    path.pop_if(|last| last == "mod");
    path
}

fn parse(own: &[String], file: &SourceFile, files: &Files) -> Parsed {
    let flat = flat_imports(&file.code);
    let mut parsed = Parsed { imports: Vec::new(), paths: Vec::new(), words: BTreeSet::new() };
    for statement in flat.split(';') {
        let start = statement.rfind(['{', '}', ']']).map_or(0, |brace| brace + 1);
        let (before, last) = statement.split_at(start);
        let (visibility, items) = match last.trim().strip_prefix("use ") {
            Some(items) => ("", items),
            None => last.trim().split_once(" use ").unwrap_or(("none", "")),
        };
        if visibility.starts_with("pub") || visibility.is_empty() {
            // A group written over several lines ends with a comma, after which nothing is imported.
            let items = items.split(',').filter(|item| !item.ends_with("::"));
            parsed.imports.extend(items.filter_map(|item| {
                let (path, alias) = item.trim().split_once(" as ").unwrap_or((item.trim(), ""));
                let path = absolute(path.split("::"), own, files)?;
                let name = if alias.is_empty() { path.last()?.clone() } else { alias.to_owned() };
                Some(Import { is_public: !visibility.is_empty(), name, path })
            }));
            parsed.add_code(before, own, files);
        } else {
            parsed.add_code(statement, own, files);
        }
    }
    parsed
}

impl Parsed {
    /// Records every word, and every path of more than one part.
    fn add_code(&mut self, code: &str, own: &[String], files: &Files) {
        for path in code.split(|letter: char| !is_word(letter) && letter != ':') {
            let parts = path.split(':').filter(|part| !part.is_empty());
            self.words.extend(parts.map(str::to_owned));
            let path = path.trim_matches(':');
            if path.contains("::") {
                self.paths.extend(absolute(path.split("::"), own, files));
            }
        }
    }
}

/// The path from the root of the crate, or nothing if it begins with neither a module nor a keyword.
fn absolute<'a>(parts: impl Iterator<Item = &'a str>, own: &[String], files: &Files) -> Option<Vec<String>> {
    let mut parts = parts.filter(|part| !part.is_empty()).peekable();
    let mut path = own.to_vec();
    match *parts.peek()? {
        "crate" | "ringd" => path.clear(),
        "self" => (),
        "super" => {
            while parts.next_if(|part| *part == "super").is_some() {
                path.pop();
            }
            path.extend(parts.map(str::to_owned));
            return Some(path);
        }
        child => {
            path.push(child.to_owned());
            if !files.contains_key(&path) {
                return None;
            }
            path.pop();
            path.extend(parts.map(str::to_owned));
            return Some(path);
        }
    }
    path.extend(parts.skip(1).filter(|part| *part != "self").map(str::to_owned));
    Some(path)
}

/// The file in which the item at `path` is written: imports and re-exports on the way are followed.
fn home_of(path: &[String], files: &Files, parsed: &BTreeMap<&Vec<String>, Parsed>) -> Option<Vec<String>> {
    let mut path = path.to_vec();
    // A chain of re-exports longer than this is a circle itself, which the compiler refuses.
    for _ in 0..16 {
        let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
        let file = path[..length].to_vec();
        let Some(item) = path.get(length) else { return Some(file) };
        let Some(import) = parsed[&file].imports.iter().find(|import| import.name == *item) else { return Some(file) };
        path = [&import.path[..], &path[length + 1..]].concat();
    }
    None
}

fn shortest_circle<'a>(start: &'a str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut visited = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way[way.len() - 1];
        for next in edges.get(last).into_iter().flatten() {
            if *next == start {
                return Some([&way[..], &[start]].concat());
            }
            if visited.insert(*next) {
                ways.push_back([&way[..], &[*next]].concat());
            }
        }
    }
    None
}
