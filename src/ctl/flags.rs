//! Values of flags: parsing as Go's pflag does, with its text for each mistake.

use std::time::Duration;

use super::go_format::{self, quote};
use super::tree::{Command, Flag, Kind, flags};

/// The flags of one command line with their values, and its arguments.
pub struct Flags {
    entries: Vec<Entry>,
    pub arguments: Vec<Vec<u8>>,
    /// How many arguments stood before `--`.
    pub separator: Option<usize>,
}

struct Entry {
    flag: &'static Flag,
    value: Value,
    /// Given on the command line or in the environment.
    given: bool,
}

enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    List(Vec<String>),
    Duration(Duration),
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(formatter),
            Self::Int(value) => value.fmt(formatter),
            Self::Uint(value) => value.fmt(formatter),
            Self::Text(value) => value.fmt(formatter),
            Self::List(values) => write!(formatter, "[{}]", values.join(",")),
            Self::Duration(value) => go_format::duration(*value).fmt(formatter),
        }
    }
}

impl Flags {
    /// Parses the words after the commands of `path`.
    pub fn parse<R>(path: &[&'static Command<R>], words: &[Vec<u8>]) -> Result<Self, String> {
        let entries = flags(path).map(Entry::new).collect();
        let mut parsed = Self { entries, arguments: Vec::new(), separator: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_slice() {
                b"--" => {
                    parsed.separator = Some(parsed.arguments.len());
                    parsed.arguments.extend(words.cloned());
                    break;
                }
                [b'-', b'-', ..] => parsed.parse_long(word, &mut words)?,
                [b'-', _, ..] => parsed.parse_letters(&word[1..], &mut words)?,
                _ => parsed.arguments.push(word.clone()),
            }
        }
        Ok(parsed)
    }

    fn parse_long<'a>(&mut self, word: &[u8], words: &mut impl Iterator<Item = &'a Vec<u8>>) -> Result<(), String> {
        let text = String::from_utf8_lossy(word);
        let body = &text[2..];
        if body.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {text}"));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(at) = self.entries.iter().position(|entry| entry.flag.name == name) else {
            return Err(format!("unknown flag: --{name}"));
        };
        let value = match value {
            Some(value) => value,
            None if self.entries[at].flag.kind == Kind::Bool => "true".to_owned(),
            None => next_text(words).ok_or_else(|| format!("flag needs an argument: --{name}"))?,
        };
        self.set_at(at, &value)
    }

    fn parse_letters<'a>(
        &mut self,
        letters: &[u8],
        words: &mut impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), String> {
        let all = String::from_utf8_lossy(letters).into_owned();
        let mut rest = letters;
        while let Some((&letter, tail)) = rest.split_first() {
            let letter = letter as char;
            let group = String::from_utf8_lossy(rest).into_owned();
            let Some(at) = self.entries.iter().position(|entry| entry.flag.letter == Some(letter)) else {
                return Err(format!("unknown shorthand flag: {} in -{group}", go_format::quote_char(letter)));
            };
            let value = match tail {
                [b'=', value @ ..] if !value.is_empty() => String::from_utf8_lossy(value).into_owned(),
                _ if self.entries[at].flag.kind == Kind::Bool => {
                    self.set_at(at, "true")?;
                    rest = tail;
                    continue;
                }
                [] => next_text(words)
                    .ok_or_else(|| format!("flag needs an argument: {} in -{all}", go_format::quote_char(letter)))?,
                value => String::from_utf8_lossy(value).into_owned(),
            };
            return self.set_at(at, &value);
        }
        Ok(())
    }

    fn set_at(&mut self, at: usize, text: &str) -> Result<(), String> {
        let entry = &mut self.entries[at];
        let flag = entry.flag;
        entry.set(text).map_err(|cause| {
            let name = match flag.letter {
                Some(letter) => format!("-{letter}, --{}", flag.name),
                None => format!("--{}", flag.name),
            };
            format!("invalid argument {} for {} flag: {cause}", quote(text.as_bytes()), quote(name.as_bytes()))
        })
    }

    /// Sets a flag from the environment; a value that does not parse is ignored, as etcdctl does.
    pub fn set_from_environment(&mut self, name: &str, text: &str) {
        if let Some(at) = self.entries.iter().position(|entry| entry.flag.name == name) {
            let _ignored = self.set_at(at, text);
        }
    }

    /// The flags that commands of `path` share, with their values as Go prints them.
    pub fn shared<R>(&self, path: &[&'static Command<R>]) -> impl Iterator<Item = (&'static str, String)> {
        let names: Vec<&str> = path.iter().flat_map(|command| command.shared_flags).map(|flag| flag.name).collect();
        let shared = self.entries.iter().filter(move |entry| names.contains(&entry.flag.name));
        shared.map(|entry| (entry.flag.name, entry.value.to_string()))
    }

    /// Whether the flag was set, on the command line or in the environment.
    pub fn given(&self, name: &str) -> bool {
        self.entry(name).given
    }

    pub fn bool(&self, name: &str) -> bool {
        matches!(self.entry(name).value, Value::Bool(true))
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.entry(name).value {
            Value::Int(value) => value,
            _ => unreachable!("--{name} is no number"),
        }
    }

    pub fn uint(&self, name: &str) -> u64 {
        match self.entry(name).value {
            Value::Uint(value) => value,
            _ => unreachable!("--{name} is no unsigned number"),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        match &self.entry(name).value {
            Value::Text(value) => value,
            _ => unreachable!("--{name} is no text"),
        }
    }

    pub fn list(&self, name: &str) -> &[String] {
        match &self.entry(name).value {
            Value::List(value) => value,
            _ => unreachable!("--{name} is no list"),
        }
    }

    pub fn duration(&self, name: &str) -> Duration {
        match self.entry(name).value {
            Value::Duration(value) => value,
            _ => unreachable!("--{name} is no duration"),
        }
    }

    fn entry(&self, name: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.flag.name == name).expect("commands ask for the flags of their table")
    }
}

impl Entry {
    fn new(flag: &'static Flag) -> Self {
        let value = parse_value(flag.kind, flag.default).expect("defaults of the tables parse");
        Self { flag, value, given: false }
    }

    fn set(&mut self, text: &str) -> Result<(), String> {
        let value = parse_value(self.flag.kind, text)?;
        match (&mut self.value, value) {
            // The first value of a list replaces the default; later ones are appended.
            (Value::List(old), Value::List(new)) if self.given => old.extend(new),
            (old, new) => *old = new,
        }
        self.given = true;
        Ok(())
    }
}

fn parse_value(kind: Kind, text: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::Bool => Value::Bool(go_format::parse_bool(text)?),
        Kind::Int => Value::Int(go_format::parse_int(text.as_bytes(), 0)?),
        Kind::Uint => Value::Uint(go_format::parse_uint(text.as_bytes(), 0)?),
        Kind::Text => Value::Text(text.to_owned()),
        Kind::List if text.is_empty() => Value::List(Vec::new()),
        Kind::List => Value::List(text.split(',').map(str::to_owned).collect()),
        Kind::Duration => Value::Duration(go_format::parse_duration(text)?),
    })
}

fn next_text<'a>(words: &mut impl Iterator<Item = &'a Vec<u8>>) -> Option<String> {
    words.next().map(|word| String::from_utf8_lossy(word).into_owned())
}
