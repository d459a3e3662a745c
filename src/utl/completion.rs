//! `completion`: a script that teaches a shell our commands and flags.

use std::fmt::Write as _;

use super::{Command, ROOT, session::Session};
use crate::ctl::{command::Flag, go_format::quote, session::Exit};

const SHELLS: [&str; 4] = ["bash", "zsh", "fish", "powershell"];
const PROGRAM: &str = "ringutl";

pub static COMMAND: Command = Command {
    name: "completion",
    arguments: "[bash|zsh|fish|powershell]",
    short: "Generate completion script",
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let shell = session.one_argument()?;
    if !SHELLS.contains(&shell.as_str()) {
        let shell = quote(shell.as_bytes());
        return Err(session.misuse(&format!("invalid argument {shell} for \"etcdutl completion\"")));
    }
    let script = match shell.as_str() {
        "bash" => bash(),
        "zsh" => format!("#compdef {PROGRAM}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash()),
        "fish" => fish(),
        _ => powershell(),
    };
    session.io.output.write_all(script.as_bytes())?;
    Ok(())
}

/// Each command with the words that lead to it and the words that may follow.
fn choices() -> Vec<(String, Vec<String>)> {
    let mut choices = vec![(String::new(), words(&ROOT))];
    for command in ROOT.commands {
        choices.push((command.name.to_owned(), words(command)));
        for below in command.commands {
            choices.push((format!("{} {}", command.name, below.name), words(below)));
        }
    }
    choices
}

fn words(command: &Command) -> Vec<String> {
    let commands = command.commands.iter().map(|command| command.name.to_owned());
    let shells = if command.name == COMMAND.name { &SHELLS[..] } else { &[] };
    let own = command.flags.iter().chain(ROOT.shared_flags).map(|flag: &Flag| format!("--{}", flag.name));
    let help = std::iter::once("--help".to_owned());
    commands.chain(shells.iter().map(|shell| (*shell).to_owned())).chain(own).chain(help).collect()
}

fn bash() -> String {
    let mut text = format!(
        "_{PROGRAM}() {{\n  local path=\"\" word choices\n  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    \
         case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" ;; esac\n  done\n  case \"$path\" in\n"
    );
    for (path, words) in choices() {
        writeln!(text, "    \"{path}\") choices=\"{}\" ;;", words.join(" ")).expect("a String takes everything");
    }
    text.push_str("    *) choices=\"\" ;;\n  esac\n  COMPREPLY=($(compgen -W \"$choices\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n");
    text + &format!("complete -o default -F _{PROGRAM} {PROGRAM}\n")
}

fn fish() -> String {
    let mut text = String::new();
    for (path, words) in choices() {
        let condition = match path.rsplit(' ').next() {
            Some("") | None => "__fish_use_subcommand".to_owned(),
            Some(last) => format!("__fish_seen_subcommand_from {last}"),
        };
        writeln!(text, "complete -c {PROGRAM} -n '{condition}' -a '{}'", words.join(" "))
            .expect("a String takes everything");
    }
    text
}

fn powershell() -> String {
    let mut text =
        format!("Register-ArgumentCompleter -Native -CommandName '{PROGRAM}' -ScriptBlock {{\n  param($word, $line)\n");
    text.push_str("  $path = ($line.CommandElements | Select-Object -Skip 1 | Where-Object { \"$_\" -notlike '-*' -and \"$_\" -ne $word }) -join ' '\n");
    text.push_str("  $choices = switch ($path) {\n");
    for (path, words) in choices() {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        writeln!(text, "    '{path}' {{ {} }}", words.join(", ")).expect("a String takes everything");
    }
    text.push_str("  }\n  $choices | Where-Object { $_ -like \"$word*\" } | ForEach-Object { $_ }\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_every_command_and_flag() {
        for script in [bash(), fish(), powershell()] {
            for word in ["defrag", "restore", "--bump-revision", "--rev", "--timeout", "powershell"] {
                assert!(script.contains(word), "{word} in\n{script}");
            }
        }
    }
}
