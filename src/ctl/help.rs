//! Usage and help texts, laid out as cobra does.

use std::fmt::Write;

use super::tree::{Command, Flag, Group, HELP_FLAG, Kind};

const GROUPS: [(Group, &str); 5] = [
    (Group::KeyValue, "Key-value commands"),
    (Group::Maintenance, "Cluster maintenance commands"),
    (Group::Concurrency, "Concurrency commands"),
    (Group::Authentication, "Authentication commands"),
    (Group::Utility, "Utility commands"),
];

const OPTIONS_PROMPT: &str =
    "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n";

/// The text of `--help`.
pub fn help<R>(path: &[&'static Command<R>]) -> String {
    let last = path[path.len() - 1];
    let text = if last.long.is_empty() { last.short } else { last.long };
    format!("{}\n\n{}{OPTIONS_PROMPT}", text.trim_end(), usage(path))
}

/// The usage, also printed after a mistake in the flags.
pub fn usage<R>(path: &[&'static Command<R>]) -> String {
    let mut text = "Usage:".to_owned();
    write_usage(&mut text, path).expect("a String takes everything");
    text
}

fn write_usage<R>(text: &mut String, path: &[&'static Command<R>]) -> std::fmt::Result {
    let last = path[path.len() - 1];
    let full_name = full_name(path);
    if last.run.is_some() {
        let space = if last.arguments.is_empty() { "" } else { " " };
        let flags = if last.hides_flags { "" } else { " [flags]" };
        write!(text, "\n  {full_name}{space}{}{flags}", last.arguments)?;
    }
    if !last.commands.is_empty() {
        write!(text, "\n  {full_name} [command]")?;
    }
    if !last.example.is_empty() {
        write!(text, "\n\nExamples:\n{}", last.example)?;
    }
    write_commands(text, path)?;

    let help_of = format!("help for {}", last.name);
    let is_root = path.len() == 1;
    let mut local: Vec<Line> = last.flags.iter().map(Line::new).collect();
    if !is_root {
        local.extend(last.shared_flags.iter().map(Line::new));
        local.push(Line { flag: &HELP_FLAG, help: &help_of });
        write!(text, "\n\nFlags:\n{}", flag_lines(local).trim_end())?;
    }
    // The flags of the root are hidden: `options` lists them.
    let above: Vec<Line> =
        path.iter().skip(1).rev().skip(1).flat_map(|command| command.shared_flags).map(Line::new).collect();
    if !above.is_empty() {
        write!(text, "\n\nGlobal Flags:\n{}", flag_lines(above).trim_end())?;
    }
    if !last.commands.is_empty() {
        write!(text, "\n\nUse \"{full_name} [command] --help\" for more information about a command.")?;
    }
    writeln!(text)
}

/// Names of commands are padded to this width at least, as cobra does.
const NAME_WIDTH_MIN: usize = 11;

fn write_commands<R>(text: &mut String, path: &[&'static Command<R>]) -> std::fmt::Result {
    let last = path[path.len() - 1];
    let mut commands = last.commands.to_vec();
    commands.sort_by_key(|command| command.name);
    if commands.is_empty() {
        return Ok(());
    }
    if path.len() > 1 {
        write!(text, "\n\nAvailable Commands:")?;
        let width = commands.iter().map(|command| command.name.len()).max().unwrap_or_default().max(NAME_WIDTH_MIN);
        for command in commands {
            write!(text, "\n  {:<width$} {}", command.name, command.short)?;
        }
        return Ok(());
    }
    for (group, title) in GROUPS {
        write!(text, "\n\n{title}")?;
        for command in commands.iter().filter(|command| command.group == Some(group)) {
            write!(text, "\n  {:<NAME_WIDTH_MIN$} {}", command.name, command.short)?;
        }
    }
    Ok(())
}

/// The words of a command on the command line.
pub fn full_name<R>(path: &[&'static Command<R>]) -> String {
    path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// One line per flag, sorted, descriptions aligned.
pub fn flags_text(flags: &'static [Flag]) -> String {
    flag_lines(flags.iter().map(Line::new).collect())
}

pub struct Line<'a> {
    pub flag: &'a Flag,
    pub help: &'a str,
}

impl<'a> Line<'a> {
    pub fn new(flag: &'a Flag) -> Self {
        Self { flag, help: flag.help }
    }
}

/// One line per flag, sorted, descriptions aligned.
pub fn flag_lines(mut lines: Vec<Line>) -> String {
    lines.sort_by_key(|line| line.flag.name);
    let lines: Vec<(String, String)> = lines.into_iter().map(columns).collect();
    let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    lines.into_iter().map(|(left, right)| format!("{left:<width$}   {right}\n")).collect()
}

fn columns(line: Line) -> (String, String) {
    let flag = line.flag;
    let mut left = match flag.letter {
        Some(letter) => format!("  -{letter}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    // A name in backquotes stands for the value of the flag.
    let quoted = line.help.split('`').nth(1);
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Int => "int",
        Kind::Uint => "uint",
        Kind::Text => "string",
        Kind::List => "strings",
        Kind::Duration => "duration",
    };
    let kind = quoted.unwrap_or(kind);
    if !kind.is_empty() {
        left = format!("{left} {kind}");
    }
    let mut right = line.help.replacen('`', "", 2);
    match (flag.kind, flag.default) {
        (_, "" | "0" | "false") if flag.kind != Kind::Text || flag.default.is_empty() => {}
        (Kind::Text, default) => right = format!("{right} (default \"{default}\")"),
        (Kind::List, default) => right = format!("{right} (default [{default}])"),
        (_, default) => right = format!("{right} (default {default})"),
    }
    (left, right)
}
