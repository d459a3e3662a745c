//! Values of flags: from the command line or the environment, as text, number, duration or list.

use std::{collections::BTreeMap, time::Duration};

use clap::ArgMatches;

use super::{
    Refused,
    flags::{FLAGS, NOT_SERVED},
    invalid, refuse,
};
use crate::base::go_duration;

/// Flag values by name, and which of them somebody set.
pub(super) struct Values {
    set: BTreeMap<&'static str, String>,
}

impl Values {
    pub(super) fn read(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refused> {
        let mut set: BTreeMap<&'static str, String> = BTreeMap::new();
        for flag in FLAGS {
            if let Some(value) = matches.get_one::<String>(flag.name) {
                set.insert(flag.name, value.clone());
            }
        }
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix("ETCD_") else { continue };
            let name = rest.to_ascii_lowercase().replace('_', "-");
            if NOT_SERVED.contains(&name.as_str()) {
                return Err(refuse(
                    1,
                    format!("{variable} is set, but this version of ringd does not serve --{name} yet"),
                ));
            }
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                if !matches!(rest, "UNSUPPORTED_ARCH" | "VERSION" | "VERIFY" | "CLIENT_DEBUG") {
                    eprintln!("warning: unrecognized environment variable {variable}={value}");
                }
                continue;
            };
            if set.contains_key(flag.name) {
                let text = "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                            environment variable or disable flag))";
                return Err(refuse(1, format!("{text}: {variable}")));
            }
            set.insert(flag.name, value);
        }
        Ok(Self { set })
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        if let Some(value) = self.set.get(name) {
            return value;
        }
        FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default)
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Refused> {
        let text = self.text(name);
        text.parse().map_err(|_| invalid(name, text, "a number is expected"))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Refused> {
        let text = self.text(name);
        go_boolean(text).ok_or_else(|| invalid(name, text, "true or false is expected"))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Duration, Refused> {
        let text = self.text(name);
        go_duration::parse(text).map_err(|_| invalid(name, text, "a duration like 100ms, 5s or 2h45m is expected"))
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn one_of<'a>(&self, name: &str, choices: &[&'a str]) -> Result<&'a str, Refused> {
        let text = self.text(name);
        let found = choices.iter().find(|choice| **choice == text);
        found.copied().ok_or_else(|| invalid(name, text, &format!("one of {} is expected", choices.join(", "))))
    }
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn go_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
