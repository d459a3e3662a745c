//! `__complete`: candidates for the next word of a command line, for the shells' scripts. Rules and format are those of Go's cobra
//! library.
//!
//! ```text
//!   words of the line, the last one unfinished
//!   ──▶ value of a flag:  its known values                                     directive 0
//!   ──▶ begins with "-":  flags not given yet, long and short                  directive 4
//!   ──▶ else:             commands below, values of the first argument         directive 4, or 0 if there is no such list
//! ```
//!
//! One candidate per line, a tab before its description, then `:directive`: 4 for candidates only, 0 for files too.

use std::io::Write;

use super::exit::{ERROR, Exit};
use super::flags::Flags;
use super::tree::{Command, Flag, Kind, Path, find, flags};

/// The commands that the scripts call, and whether they want descriptions.
const REQUESTS: [(&[u8], bool); 2] = [(b"__complete", true), (b"__completeNoDesc", false)];

const USAGE: &str = "__complete [command-line]

Aliases:
  __complete, __completeNoDesc

Flags:
  -h, --help   help for __complete
";

/// The streams for candidates and for errors.
pub struct Streams<'a> {
    pub output: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
}

/// The program whose lines are completed.
pub struct Program<R: 'static> {
    pub root: &'static Command<R>,
    /// The flags of the root are no candidates below it.
    pub hides_root_flags: bool,
}

/// Answers a line that asks for completions; `None` for any other.
pub fn answer<R>(program: Program<R>, words: &[Vec<u8>], io: Streams) -> Option<Result<(), Exit>> {
    let (first, line) = words.split_first()?;
    let (_, describes) = REQUESTS.into_iter().find(|(name, _)| name == first)?;
    Some(write_answer(program, line, describes, io))
}

fn write_answer<R>(program: Program<R>, line: &[Vec<u8>], describes: bool, io: Streams) -> Result<(), Exit> {
    let Some((last, before)) = line.split_last() else {
        let name = program.root.name;
        writeln!(io.errors, "Error: requires at least 1 arg(s), only received 0\nUsage:\n  {name} {USAGE}")?;
        return Err(Exit::silent(ERROR));
    };
    let found = complete(program, before, &String::from_utf8_lossy(last));
    if let Some(mistake) = &found.mistake {
        writeln!(io.errors, "[Debug] [Error] {mistake}")?;
    }
    for (word, description) in &found.candidates {
        let description = description.lines().next().unwrap_or_default();
        let text = if describes { format!("{word}\t{description}") } else { word.clone() };
        writeln!(io.output, "{}", text.trim())?;
    }
    let (number, name) = match found.lists_all {
        true => (4, "ShellCompDirectiveNoFileComp"),
        false => (0, "ShellCompDirectiveDefault"),
    };
    writeln!(io.output, ":{number}")?;
    writeln!(io.errors, "Completion ended with directive: {name}")?;
    Ok(())
}

#[derive(Default)]
struct Found {
    candidates: Vec<(String, String)>,
    /// No other word may follow.
    lists_all: bool,
    mistake: Option<String>,
}

fn complete<R>(program: Program<R>, before: &[Vec<u8>], last: &str) -> Found {
    let super::tree::Found { path, mut rest } = find(program.root, before);
    let command = path[path.len() - 1];
    if path.len() == 1 && Flags::parse(&path, &rest).is_ok_and(|parsed| !parsed.arguments.is_empty()) {
        let words: Vec<_> = before.iter().map(|word| String::from_utf8_lossy(word)).collect();
        return mistake(format!("unable to find a command for arguments: [{}]", words.join(" ")));
    }
    let separated = rest.iter().any(|word| word == b"--");
    let flag = value_flag(&path, &rest, last);
    if matches!(flag, Ok(Some(_))) && !last.contains('=') {
        // The last word is a flag whose value is being completed.
        rest.pop();
    }
    let parsed = match Flags::parse(&path, &rest) {
        Ok(parsed) => parsed,
        Err(text) => {
            let words: Vec<_> = rest.iter().map(|word| String::from_utf8_lossy(word)).collect();
            return mistake(format!("Error while parsing flags from args [{}]: {text}", words.join(" ")));
        }
    };
    let flag = match flag {
        Ok(flag) => flag,
        Err(text) if !separated => return mistake(text),
        Err(_) => None,
    };
    if parsed.bool("help") {
        return Found { lists_all: true, ..Found::default() };
    }
    match flag.filter(|_| !separated) {
        Some(flag) => Found { candidates: plain(flag.values.iter().copied()), ..Found::default() },
        None if last.starts_with('-') && !last.contains('=') && !separated => Found {
            candidates: flag_names(&path, program.hides_root_flags, &parsed, last),
            lists_all: true,
            mistake: None,
        },
        None => first_words(program.root, command, &parsed, last),
    }
}

fn mistake(text: String) -> Found {
    Found { mistake: Some(text), ..Found::default() }
}

/// The flag whose value the last word is.
fn value_flag<R>(path: &Path<R>, rest: &[Vec<u8>], last: &str) -> Result<Option<&'static Flag>, String> {
    let (word, has_value) = match last.split_once('=') {
        Some((word, _)) if last.starts_with('-') => (word.to_owned(), true),
        _ if last.starts_with('-') => return Ok(None),
        _ => match rest.last().map(|word| String::from_utf8_lossy(word).into_owned()) {
            Some(word) if word.starts_with('-') && word.len() > 1 && word != "--" && !word.contains('=') => {
                (word, false)
            }
            _ => return Ok(None),
        },
    };
    let name = word.strip_prefix("--").map(str::to_owned);
    let letter = word.chars().last();
    let known = flags(path).find(|flag| match &name {
        Some(name) => flag.name == name,
        None => flag.letter.is_some() && flag.letter == letter,
    });
    let Some(flag) = known else {
        let name = name.unwrap_or_else(|| letter.map(String::from).unwrap_or_default());
        let command = path[path.len() - 1].name;
        return Err(format!("Subcommand '{command}' does not support flag '{name}'"));
    };
    // A boolean flag takes a value only after =.
    Ok(Some(flag).filter(|flag| has_value || flag.kind != Kind::Bool))
}

/// Flags that may still be given: those of the commands above, then the command's own.
fn flag_names<R>(path: &Path<R>, hides_root_flags: bool, parsed: &Flags, last: &str) -> Vec<(String, String)> {
    let own = path.len() - 1;
    let above: Vec<&Flag> =
        path[..own].iter().skip(usize::from(hides_root_flags)).flat_map(|command| command.shared_flags).collect();
    let mut below: Vec<&Flag> = path[own].flags.iter().collect();
    if own > 0 || !hides_root_flags {
        below.extend(path[own].shared_flags);
        below.push(&super::tree::HELP_FLAG);
    }
    let mut names = Vec::new();
    for mut group in [above, below] {
        group.sort_by_key(|flag| flag.name);
        for flag in group.into_iter().filter(|flag| !parsed.given(flag.name) || flag.kind == Kind::List) {
            let help = if flag.name == "help" { format!("help for {}", path[own].name) } else { flag.help.to_owned() };
            let short = flag.letter.map(|letter| format!("-{letter}"));
            let long = format!("--{}", flag.name);
            names.extend(
                std::iter::once(long)
                    .chain(short)
                    .filter(|name| name.starts_with(last))
                    .map(|name| (name, help.clone())),
            );
        }
    }
    names
}

/// Commands below, or values of the first argument.
fn first_words<R>(root: &'static Command<R>, command: &'static Command<R>, parsed: &Flags, last: &str) -> Found {
    let mut found = Found::default();
    let mut parent = command;
    let mut is_first = parsed.arguments.is_empty();
    if command.name == "help" {
        // `help` takes the names of commands.
        let super::tree::Found { path, rest } = find(root, &parsed.arguments);
        parent = path[path.len() - 1];
        is_first = rest.is_empty();
        found.lists_all = true;
    }
    let has_own_flag = command.flags.iter().any(|flag| parsed.given(flag.name));
    if is_first && !has_own_flag && !parent.commands.is_empty() {
        found.lists_all = true;
        let mut below: Vec<_> = parent.commands.iter().filter(|below| below.name.starts_with(last)).collect();
        below.sort_by_key(|below| below.name);
        found.candidates = below.into_iter().map(|below| (below.name.to_owned(), below.short.to_owned())).collect();
    }
    if is_first && !command.values.is_empty() {
        found.lists_all = true;
        found.candidates.extend(plain(command.values.iter().copied().filter(|value| value.starts_with(last))));
    }
    found
}

fn plain(words: impl Iterator<Item = &'static str>) -> Vec<(String, String)> {
    words.map(|word| (word.to_owned(), String::new())).collect()
}
