//! The command line as clap reads it, made to follow the rules of Go's flags.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

use super::{
    flags::{FLAGS, GROUPS, Kind, Rule},
    refused::{Refused, refuse},
};

const REST: &str = "Flags of etcd that are not listed here are taken with values that ask for what is so anyway. For other values they \
    are refused by name.";

/// What somebody typed.
pub(super) enum Typed {
    Flags(ArgMatches),
    Help(String),
    Version,
}

pub(super) fn read(arguments: impl IntoIterator<Item = String>) -> Result<Typed, Refused> {
    let matches = match command().try_get_matches_from(go_style(arguments)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Typed::Help(error.to_string())),
        Err(error) => return Err(refused_by_clap(&error)),
    };
    Ok(if matches.get_flag("version") { Typed::Version } else { Typed::Flags(matches) })
}

fn command() -> Command {
    let mut command = Command::new("ringd")
        .about("An etcd v3 server for bare-metal Linux")
        .after_help(REST)
        .disable_version_flag(true)
        .no_binary_name(true)
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print the version and exit"));
    for flag in FLAGS {
        if let Some((_, group)) = GROUPS.iter().find(|(first, _)| *first == flag.name) {
            command = command.next_help_heading(*group);
        }
        let mut arg = Arg::new(flag.name).long(flag.name).overrides_with(flag.name).help(flag.text);
        if flag.kind == Kind::Boolean {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        } else {
            arg = arg.allow_hyphen_values(true);
        }
        command = command.arg(arg.hide(flag.rule != Rule::Served));
    }
    command
}

/// Go takes `-name` for `--name`.
fn go_style(arguments: impl IntoIterator<Item = String>) -> Vec<OsString> {
    let doubled = |argument: String| match argument.strip_prefix('-') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_alphabetic()) && rest != "h" => {
            format!("--{rest}")
        }
        _ => argument,
    };
    arguments.into_iter().map(|argument| OsString::from(doubled(argument))).collect()
}

fn refused_by_clap(error: &clap::Error) -> Refused {
    use clap::error::{ContextKind, ContextValue};
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(found))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && !found.starts_with('-')
    {
        return refuse(1, format!("'{found}' is not a valid flag"));
    }
    refuse(2, error.to_string().trim_end().to_owned())
}
