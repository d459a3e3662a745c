//! Values of flags: from the command line, the environment or a file, as text, number, duration or list.

use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::ArgMatches;

use super::{
    file,
    flags::{FLAGS, Flag, Kind, Rule, find},
    notice::Notice,
    refused::{Refused, refuse},
    well_formed::{go_boolean, go_integer},
};
use crate::base::{
    go_duration,
    go_url::{self, Url},
};

/// Flag values by name, where somebody gave one.
pub(super) struct Values {
    given: BTreeMap<&'static str, Given>,
    pub(super) notices: Vec<Notice>,
}

pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
}

/// Where a value came from: that decides the words of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    Environment,
    File,
}

const CONFIG_FILE: &str = "config-file";
const SPECIAL: &str = "ETCD_VERSION";

impl Values {
    /// Flags and then the environment, unless one of them names a configuration file: that counts alone.
    pub(super) fn read(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refused> {
        let mut values = Self { given: BTreeMap::new(), notices: Vec::new() };
        for flag in FLAGS {
            if let Some(text) = matches.get_one::<String>(flag.name) {
                values.give(flag, text.clone(), Source::CommandLine)?;
            }
        }
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let file = match values.text(CONFIG_FILE) {
            "" => environment.get("ETCD_CONFIG_FILE").map(String::as_str).unwrap_or_default(),
            path => path,
        };
        if file.is_empty() {
            values.add_environment(environment)?;
        } else {
            let file::Settings { given, ignored } = file::read(Path::new(file))?;
            values.notices = vec![Notice::ConfigurationFile { path: file.to_owned() }];
            values.notices.extend(ignored.into_iter().map(|key| Notice::EarlyKey { key }));
            values.given.clear();
            for (flag, text) in given {
                values.give(flag, text, Source::File)?;
            }
        }
        values.check_fixed()?;
        Ok(values)
    }

    /// An empty variable counts as unset. A variable beside its flag is refused, even an empty one.
    fn add_environment(&mut self, environment: BTreeMap<String, String>) -> Result<(), Refused> {
        let typed: Vec<String> = self.given.keys().filter_map(|name| find(name)).map(Flag::variable).collect();
        for (variable, value) in environment {
            if typed.contains(&variable) {
                let text = "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                            environment variable or disable flag))";
                return Err(refuse(1, format!("{text}: {variable}")));
            }
            if variable == SPECIAL && !value.is_empty() {
                self.notices.push(Notice::SpecialVariable { name: variable, value });
                continue;
            }
            match FLAGS.iter().find(|flag| flag.variable() == variable).filter(|_| !value.is_empty()) {
                Some(flag) => {
                    self.notices.push(Notice::VariableUsed { name: variable, value: value.clone() });
                    self.give(flag, value, Source::Environment)?;
                }
                None if variable.starts_with("ETCD_") => {
                    self.notices.push(Notice::UnknownVariable { text: format!("{variable}={value}") });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Takes a value that is well formed.
    fn give(&mut self, flag: &'static Flag, text: String, source: Source) -> Result<(), Refused> {
        if flag.rule != Rule::Forgotten {
            flag.kind.check(&text).map_err(|why| malformed(flag, &text, source, &why))?;
        }
        self.given.insert(flag.name, Given { text, source });
        Ok(())
    }

    fn check_fixed(&self) -> Result<(), Refused> {
        for (name, Given { text, source }) in &self.given {
            let Some(flag) = find(name) else { continue };
            let Rule::Fixed(others) = flag.rule else { continue };
            if !flag.kind.means_the_same(text, flag.default) && !others.contains(&text.as_str()) {
                let shown = match source {
                    Source::Environment => flag.variable(),
                    Source::CommandLine | Source::File => format!("--{name}"),
                };
                return Err(refuse(1, format!("{shown}={text}: {}", flag.text)));
            }
        }
        Ok(())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Whether it was given, and not in a file.
    pub(super) fn is_typed(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| given.source != Source::File)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        let Some(flag) = find(name) else { return "" };
        match self.given.get(name) {
            Some(given) if flag.kind != Kind::Urls || !given.text.is_empty() => &given.text,
            _ => flag.default,
        }
    }

    pub(super) fn number<T: TryFrom<i128>>(&self, name: &str) -> Result<T, Refused> {
        let number = go_integer(self.text(name)).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.invalid(name, "value out of range"))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Refused> {
        go_boolean(self.text(name)).ok_or_else(|| self.invalid(name, "parse error"))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Duration, Refused> {
        go_duration::parse(self.text(name)).map_err(|_| self.invalid(name, "parse error"))
    }

    pub(super) fn urls(&self, name: &str) -> Result<Vec<Url>, Refused> {
        match self.text(name) {
            "" => Ok(Vec::new()),
            text => go_url::parse_list(text).map_err(|why| self.invalid(name, &why.to_string())),
        }
    }

    /// The refusal of a flag's value.
    pub(super) fn invalid(&self, name: &str, why: &str) -> Refused {
        let source = self.given.get(name).map_or(Source::CommandLine, |given| given.source);
        match find(name) {
            Some(flag) => malformed(flag, self.text(name), source, why),
            None => refuse(1, why),
        }
    }
}

/// In the words of Go's flags, and with etcd's exit codes.
fn malformed(flag: &Flag, text: &str, source: Source, why: &str) -> Refused {
    match source {
        Source::CommandLine if flag.kind == Kind::Boolean => {
            refuse(2, format!("invalid boolean value {text:?} for -{}: {why}", flag.name))
        }
        Source::CommandLine => refuse(2, format!("invalid value {text:?} for flag -{}: {why}", flag.name)),
        Source::Environment => refuse(1, format!("invalid value {text:?} for {}: {why}", flag.variable())),
        Source::File => refuse(1, format!("invalid value {text:?} for {} in the configuration file: {why}", flag.name)),
    }
}
