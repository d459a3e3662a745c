//! `completion`: the script by which a shell completes ringutl's command lines: ringctl's script with another name.

use super::{Command, session::Session};
use crate::ctl::{completion::script, go_format::quote, session::Exit};

pub static COMMAND: Command = Command {
    name: "completion",
    arguments: "[bash|zsh|fish|powershell]",
    hides_flags: true,
    short: "Generate completion script",
    values: &["bash", "zsh", "fish", "powershell"],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let shell = session.one_argument()?;
    let Some(script) = script(shell.as_bytes()) else {
        let shell = quote(shell.as_bytes());
        return Err(session.misuse(&format!("invalid argument {shell} for \"etcdutl completion\"")));
    };
    session.io.output.write_all(script.replace("ringctl", "ringutl").as_bytes())?;
    Ok(())
}
