//! Usage texts in the layout of cobra's default template, which etcdutl uses.

use crate::ctl::{
    help::{Line, flag_lines, full_name},
    tree::{Command, HELP_FLAG, Path},
};

/// The text of `--help`, also printed after a mistake.
pub fn usage<R>(path: &Path<R>) -> String {
    let help_of = format!("help for {}", path[path.len() - 1].name);
    write_usage(path, Some(&help_of))
}

/// The same before cobra has added `--help` to the flags, which it does when it parses a command line.
pub fn usage_before_parsing<R>(path: &Path<R>) -> String {
    write_usage(path, None)
}

fn write_usage<R>(path: &Path<R>, help_of: Option<&str>) -> String {
    let last = path[path.len() - 1];
    let name = full_name(path);
    let mut text = "Usage:".to_owned();
    if last.run.is_some() {
        let space = if last.arguments.is_empty() { "" } else { " " };
        let flags = if last.hides_flags { "" } else { " [flags]" };
        text.push_str(&format!("\n  {name}{space}{}{flags}", last.arguments));
    }
    if !last.commands.is_empty() {
        text.push_str(&format!("\n  {name} [command]\n\nAvailable Commands:{}", commands(last)));
    }
    let mut own: Vec<Line> = last.flags.iter().chain(last.shared_flags).map(Line::new).collect();
    own.extend(help_of.map(|help| Line { flag: &HELP_FLAG, help }));
    text.push_str(&format!("\n\nFlags:\n{}", flag_lines(own).trim_end()));
    let above: Vec<Line> =
        path[..path.len() - 1].iter().flat_map(|command| command.shared_flags).map(Line::new).collect();
    if !above.is_empty() {
        text.push_str(&format!("\n\nGlobal Flags:\n{}", flag_lines(above).trim_end()));
    }
    if !last.commands.is_empty() {
        text.push_str(&format!("\n\nUse \"{name} [command] --help\" for more information about a command."));
    }
    text.push('\n');
    text
}

fn commands<R>(of: &Command<R>) -> String {
    let mut commands = of.commands.to_vec();
    commands.sort_by_key(|command| command.name);
    commands.iter().map(|command| format!("\n  {:<11} {}", command.name, command.short)).collect()
}
