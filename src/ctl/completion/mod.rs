//! `completion`: the script that teaches a shell to complete ringctl's command lines.
//!
//! The scripts know nothing of the commands: they ask `__complete` (`complete.rs`), so they never grow old. etcdctl's are longer
//! and its own; the answers to `__complete` are the same.

use super::command::{Command, Group};
use super::go_format::quote;
use super::help;
use super::session::{ERROR, Exit, Session};

const SCRIPTS: [(&str, &str); 4] = [
    ("bash", include_str!("ringctl.bash")),
    ("zsh", include_str!("ringctl.zsh")),
    ("fish", include_str!("ringctl.fish")),
    ("powershell", include_str!("ringctl.ps1")),
];

pub static COMMAND: Command = Command {
    name: "completion",
    arguments: "[bash|zsh|fish|powershell]",
    hides_flags: true,
    short: "Generate completion script",
    long: "To load completions:

Bash:

  $ source <(etcdctl completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ etcdctl completion bash > /etc/bash_completion.d/etcdctl
  # macOS:
  $ etcdctl completion bash > /usr/local/etc/bash_completion.d/etcdctl

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo \"autoload -U compinit; compinit\" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ etcdctl completion zsh > \"${fpath[1]}/_etcdctl\"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ etcdctl completion fish | source

  # To load completions for each session, execute once:
  $ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PowerShell:

  PS> etcdctl completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> etcdctl completion powershell > etcdctl.ps1
  # and source this file from your PowerShell profile.
",
    group: Some(Group::Utility),
    values: &["bash", "zsh", "fish", "powershell"],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let mistake = match session.arguments() {
        [shell] => match SCRIPTS.iter().find(|(name, _)| name.as_bytes() == shell) {
            Some((_, script)) => {
                session.io.output.write_all(script.as_bytes())?;
                return Ok(());
            }
            None => format!("invalid argument {} for \"etcdctl completion\"", quote(shell)),
        },
        arguments => format!("accepts 1 arg(s), received {}", arguments.len()),
    };
    writeln!(session.io.errors, "Error: {mistake}\n{}", help::usage(&session.path))?;
    Err(Exit::silent(ERROR))
}
