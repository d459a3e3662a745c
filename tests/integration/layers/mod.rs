//! Reads `src/` and holds it to the house plan: every import between modules is in one table, imports point downwards only, the
//! files of a module form no circles, and the core stays pure.
//!
//! What is `#[cfg(test)]` is exempt, files too; so are comments and strings.

use std::collections::BTreeSet;

mod circles;
mod source;

use source::{
    SourceFile, crate_paths, flat_imports, has_word, is_word, sources, test_modules, without_comments_and_tests,
};

const LINES_MAX: usize = 1000;

/// What each module may import, from the top down: a module imports only modules that stand below it, so there are no circles.
/// The page of `lib.rs` shows the same table.
const TABLE: [(&str, &[&str]); 35] = [
    // Beside the house: drives the core instead of the shell. Only its program uses it.
    (
        "sim",
        &[
            "replica",
            "service",
            "consensus",
            "apply",
            "watch",
            "lease",
            "auth",
            "cluster",
            "mvcc",
            "pagefile",
            "wal",
            "proto",
            "base",
        ],
    ),
    ("bin", &["utl", "ctl", "load", "client", "server", "config"]),
    // Above ctl, whose flags and formats it shares.
    (
        "utl",
        &[
            "ctl",
            "server",
            "os",
            "consensus",
            "apply",
            "lease",
            "cluster",
            "mvcc",
            "snapshot",
            "backend",
            "pagefile",
            "wal",
            "proto",
            "base",
        ],
    ),
    ("ctl", &["client", "service", "os", "proto", "base"]),
    ("load", &["client", "proto"]),
    (
        "server",
        &[
            "otlp",
            "drive",
            "web",
            "gateway",
            "services",
            "peer",
            "meters",
            "config",
            "frontend",
            "rpc",
            "spans",
            "os",
            "replica",
            "consensus",
            "apply",
            "lease",
            "cluster",
            "pagefile",
            "wal",
            "proto",
            "base",
        ],
    ),
    ("otlp", &["client", "spans", "os", "proto", "base"]),
    ("client", &["service", "proto", "base"]),
    (
        "drive",
        &[
            "services", "peer", "meters", "os", "replica", "service", "apply", "watch", "auth", "cluster", "mvcc",
            "pagefile", "wal", "proto", "metrics", "base",
        ],
    ),
    ("web", &["gateway", "services", "frontend", "os", "service", "apply", "cluster", "proto", "metrics", "base"]),
    ("gateway", &["services", "frontend", "rpc", "os", "proto", "base"]),
    (
        "services",
        &[
            "peer", "meters", "rpc", "spans", "os", "replica", "service", "apply", "watch", "lease", "auth", "cluster",
            "mvcc", "backend", "pagefile", "proto", "metrics", "base",
        ],
    ),
    ("peer", &["meters", "frontend", "rpc", "os", "pagefile", "proto", "metrics", "base"]),
    ("meters", &["rpc", "apply", "metrics", "base"]),
    ("config", &["os", "service", "cluster", "base"]),
    ("frontend", &["rpc", "os", "base"]),
    ("rpc", &["spans", "os", "base"]),
    ("spans", &["base"]),
    ("os", &["pagefile", "base"]),
    (
        "replica",
        &["consensus", "apply", "watch", "lease", "auth", "mvcc", "backend", "pagefile", "wal", "proto", "base"],
    ),
    ("service", &["apply", "auth", "cluster", "mvcc", "pagefile", "proto", "base"]),
    ("consensus", &["proto", "base"]),
    ("apply", &["lease", "auth", "cluster", "mvcc", "backend", "pagefile", "proto", "base"]),
    ("watch", &["mvcc", "proto", "base"]),
    ("lease", &["mvcc", "proto", "base"]),
    ("auth", &["backend", "pagefile", "proto", "base"]),
    ("cluster", &["proto", "base"]),
    ("mvcc", &["backend", "pagefile", "proto", "base"]),
    ("snapshot", &["pagefile", "base"]),
    ("backend", &["pagefile", "base"]),
    ("pagefile", &["base"]),
    ("wal", &["base"]),
    ("proto", &[]),
    ("metrics", &[]),
    ("base", &[]),
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
const IGNORANT: [&str; 3] = ["rpc", "spans", "os"];
/// The one exception for an ignorant module: `os/mapping` makes the page file's map of its mapping, which is the one unsafe contract
/// between the two.
const KNOWN_ALL_THE_SAME: (&str, &str) = ("os", "pagefile");

/// Words that must not occur in the core, with the reason.
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
const WRAPPED: [(&str, &[&str]); 5] = [
    ("glommio::", &["os"]),
    ("memmap2::", &["os", "pagefile"]),
    ("raft::", &["consensus"]),
    // The ground has what both ends share.
    ("rustls::", &["os", "client", "base"]),
    ("h2::", &["rpc", "client"]),
];
/// Methods that walk a hash map in its own order. `// hash order: why it cannot be seen` on the line permits them.
const WALKS: [&str; 7] =
    [".iter()", ".iter_mut()", ".keys()", ".values()", ".values_mut()", ".drain()", ".into_iter()"];

/// Every import is in the table, and every row of the table is imported.
pub fn imports_are_in_the_table() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources() {
        for import in crate_paths(&file.code).into_iter().filter(|import| *import != file.module) {
            faults.extend(edge_fault(&file.module, &import).map(|fault| format!("{}: {fault}", file.name)));
            used.insert((file.module.clone(), import));
        }
    }
    for (module, allowed) in TABLE {
        let unused = allowed.iter().filter(|import| !used.contains(&(module.to_owned(), (**import).to_owned())));
        faults.extend(
            unused.map(|import| format!("{module} may import {import} and does not: take it out of the table")),
        );
    }
    report(faults);
}

/// The table keeps the house plan: down only, and the core and the ground know nothing of the shell.
pub fn table_keeps_the_plan() {
    let mut faults = Vec::new();
    for (module, allowed) in TABLE.into_iter() {
        let broken = allowed.iter().filter_map(|import| plan_fault(module, import));
        faults.extend(broken);
    }
    report(faults);
    let page = include_str!("../../../src/lib.rs");
    let shown = shown_table();
    assert!(page.contains(&shown), "lib.rs shall show the table as it is:\n{shown}");
}

/// No circles between the files of a module.
pub fn files_form_no_circles() {
    report(circles::find(&sources()));
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

/// Files have a bounded length.
pub fn files_are_short() {
    let long = sources().into_iter().filter(|file| file.lines > LINES_MAX);
    report(long.map(|file| format!("{}: {} lines", file.name, file.lines)).collect());
}

/// The checks above detect faults.
pub fn checks_find_faults() {
    assert!(edge_fault("mvcc", "service").is_some());
    assert!(edge_fault("service", "mvcc").is_none());
    assert!(edge_fault("watch", "lease").is_some());
    assert!(edge_fault("os", "wal").is_some());
    assert!(edge_fault("server", "sim").is_some());
    assert!(edge_fault("attic", "base").is_some());
    assert!(plan_fault("mvcc", "service").is_some());
    assert!(plan_fault("service", "mvcc").is_none());
    assert!(plan_fault("rpc", "wal").is_some());
    assert!(plan_fault("server", "sim").is_some());
    check_circles();
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

/// A parent and a child that use each other are a circle; declarations and re-exports are not.
fn check_circles() {
    let circles_of = |files: &[(&str, &str)]| {
        let file = |(name, code): &(&str, &str)| SourceFile {
            name: (*name).to_owned(),
            module: "m".to_owned(),
            code: without_comments_and_tests(code),
            ..SourceFile::default()
        };
        circles::find(&files.iter().map(file).collect::<Vec<_>>())
    };
    let reexports = ("m/mod.rs", "mod a; mod b; pub use self::{a::A, b::B,};");
    let siblings = [reexports, ("m/a.rs", "use super::B; pub struct A(B);"), ("m/b.rs", "pub struct B;")];
    assert_eq!(circles_of(&siblings), [""; 0]);
    let circle = [reexports, siblings[1], ("m/b.rs", "pub struct B; fn f() { crate::m::a::g() }")];
    assert_eq!(circles_of(&circle), ["m/a.rs -> m/b.rs -> m/a.rs"]);
    let parent =
        [("m/mod.rs", "mod a; pub use a::A; pub struct P { a: A }"), ("m/a.rs", "use super::P; pub struct A;")];
    assert_eq!(circles_of(&parent), ["m/a.rs -> m/mod.rs -> m/a.rs"]);
    let nested = [
        ("m/a/mod.rs", "mod c; fn f() { c::g() }"),
        ("m/a/c.rs", "use super::super::b as x;"),
        ("m/b.rs", "use crate::m::a;"),
    ];
    assert_eq!(circles_of(&nested), ["m/a/c.rs -> m/b.rs -> m/a/mod.rs -> m/a/c.rs"]);
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The fault of `from` importing `to`, if it is one.
fn edge_fault(from: &str, to: &str) -> Option<String> {
    if position(from).is_none() || position(to).is_none() {
        return Some(format!("{from} or {to} has no row in the table of the layer test and of lib.rs"));
    }
    let rows = TABLE.into_iter().filter(|(module, _)| *module == from);
    let is_allowed = rows.flat_map(|(_, allowed)| allowed).any(|allowed| *allowed == to);
    (!is_allowed).then(|| format!("{from} must not import {to}: the table does not have it"))
}

/// The fault of a row of the table that lets `from` import `to`, if it is one.
fn plan_fault(from: &str, to: &str) -> Option<String> {
    let points_down = position(from)? < position(to).unwrap_or(0);
    let is_fit = match from {
        "sim" => CORE.contains(&to) || GROUND.contains(&to),
        _ if (from, to) == KNOWN_ALL_THE_SAME => true,
        _ if IGNORANT.contains(&from) => GROUND.contains(&to) || IGNORANT.contains(&to),
        _ if CORE.contains(&from) => CORE.contains(&to) || GROUND.contains(&to),
        _ if GROUND.contains(&from) => GROUND.contains(&to),
        _ => to != "sim" || from == "bin",
    };
    (!points_down || !is_fit).then(|| format!("the table lets {from} import {to}, against the house plan"))
}

fn position(module: &str) -> Option<usize> {
    TABLE.iter().position(|(name, _)| *name == module)
}

/// The table as the page of `lib.rs` shows it.
fn shown_table() -> String {
    let row = |(module, allowed): &(&str, &[&str])| {
        format!("//! {module:<9} | {}", allowed.join(" ")).trim_end().to_owned() + "\n"
    };
    TABLE.iter().map(row).collect()
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
