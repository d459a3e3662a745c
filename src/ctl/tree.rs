//! Commands and flags as data, and the selection of a command by a command line: the rules of Go's cobra library, which
//! etcdctl and etcdutl are built with. clap has other rules: no unique prefixes, other texts for mistakes, other places for flags,
//! usage text on stdout.

/// The group of a command in the help of the whole program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    KeyValue,
    Maintenance,
    Concurrency,
    Authentication,
    Utility,
}

/// One command, with the commands below it. `R` is the function that carries it out; each program has its own.
pub struct Command<R: 'static> {
    pub name: &'static str,
    /// The text after the name in the usage line.
    pub arguments: &'static str,
    /// The usage line does not mention flags.
    pub hides_flags: bool,
    /// Values of the first argument, for completion.
    pub values: &'static [&'static str],
    pub short: &'static str,
    /// Text of the help; the short one if empty.
    pub long: &'static str,
    pub example: &'static str,
    pub group: Option<Group>,
    /// Flags of this command alone.
    pub flags: &'static [Flag],
    /// Flags of this command and of those below it.
    pub shared_flags: &'static [Flag],
    pub commands: &'static [&'static Command<R>],
    /// `None`: the help is shown.
    pub run: Option<R>,
}

impl<R> Command<R> {
    /// A command with nothing in it, to be filled with `..Command::EMPTY`.
    pub const EMPTY: Self = Self {
        name: "",
        arguments: "",
        hides_flags: false,
        values: &[],
        short: "",
        long: "",
        example: "",
        group: None,
        flags: &[],
        shared_flags: &[],
        commands: &[],
        run: None,
    };
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub letter: Option<char>,
    pub kind: Kind,
    /// As on the command line.
    pub default: &'static str,
    pub help: &'static str,
    /// Its values, for completion.
    pub values: &'static [&'static str],
}

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Uint,
    Text,
    /// Comma separated, may be given several times.
    List,
    Duration,
}

impl Flag {
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self { name, letter: None, kind, default, help, values: &[] }
    }

    pub const fn bool(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Bool, "false", help)
    }

    pub const fn int(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Int, "0", help)
    }

    pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, default, help)
    }

    pub const fn values(self, values: &'static [&'static str]) -> Self {
        Self { values, ..self }
    }

    pub const fn letter(self, letter: char) -> Self {
        Self { letter: Some(letter), ..self }
    }
}

/// `--help` of every command.
pub const HELP_FLAG: Flag = Flag::bool("help", "").letter('h');

/// The commands from the root to the one that a command line names.
pub type Path<R> = Vec<&'static Command<R>>;

/// A parsed command line: the commands it names, and the words left for the last of them.
pub struct Found<R: 'static> {
    pub path: Path<R>,
    pub rest: Vec<Vec<u8>>,
}

/// Follows the words of the command line down the tree.
pub fn find<R>(root: &'static Command<R>, line: &[Vec<u8>]) -> Found<R> {
    let mut path = vec![root];
    let mut rest = line.to_vec();
    while let Some((at, word)) = first_word(&rest, &path) {
        let Some(next) = below(path[path.len() - 1], &word) else {
            break;
        };
        rest.remove(at);
        path.push(next);
    }
    Found { path, rest }
}

/// The first argument that is neither flag nor value of a flag.
fn first_word<R>(line: &[Vec<u8>], path: &[&'static Command<R>]) -> Option<(usize, Vec<u8>)> {
    let mut at = 0;
    while at < line.len() {
        let word = &line[at];
        if word == b"--" {
            return None;
        }
        if takes_next_word(word, path) {
            at += 1;
        } else if !word.starts_with(b"-") && !word.is_empty() {
            return Some((at, word.clone()));
        }
        at += 1;
    }
    None
}

fn takes_next_word<R>(word: &[u8], path: &[&'static Command<R>]) -> bool {
    if word.contains(&b'=') {
        return false;
    }
    if let Some(name) = word.strip_prefix(b"--") {
        return flags(path).find(|flag| flag.name.as_bytes() == name).is_none_or(|flag| flag.kind != Kind::Bool);
    }
    let &[b'-', letter] = word else {
        return false;
    };
    flags(path).find(|flag| flag.letter == Some(letter as char)).is_none_or(|flag| flag.kind != Kind::Bool)
}

/// Every flag that the last command of `path` understands.
pub fn flags<R>(path: &[&'static Command<R>]) -> impl Iterator<Item = &'static Flag> {
    let last = path.last().map_or(&[][..], |command| command.flags);
    let shared = path.iter().flat_map(|command| command.shared_flags);
    last.iter().chain(shared).chain(std::iter::once(&HELP_FLAG))
}

/// The command below `parent` of this name, or the only one whose name starts so.
fn below<R>(parent: &'static Command<R>, word: &[u8]) -> Option<&'static Command<R>> {
    let exact = parent.commands.iter().find(|command| command.name.as_bytes() == word);
    if let Some(command) = exact {
        return Some(command);
    }
    let mut starting = parent.commands.iter().filter(|command| command.name.as_bytes().starts_with(word));
    match (starting.next(), starting.next()) {
        (Some(command), None) => Some(command),
        _ => None,
    }
}

/// Commands similar to `word`: few edits away, or starting with it.
pub fn suggestions<R>(parent: &Command<R>, word: &str) -> Vec<&'static str> {
    const DISTANCE_MAX: usize = 2;
    let word = word.to_lowercase();
    let close = |name: &str| name.starts_with(&word) || distance(&word, name) <= DISTANCE_MAX;
    parent.commands.iter().map(|command| command.name).filter(|name| close(name)).collect()
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, left_char) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != *right_char);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        assert_eq!(distance("gett", "get"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
