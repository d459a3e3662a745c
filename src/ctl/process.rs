//! Commands that `watch` and `lock` start, and Go's texts about their end.

use std::process::{ExitStatus, Stdio};

use std::os::unix::process::ExitStatusExt;

use tokio::process::Command;

use super::go_format::{io_error, quote};
use super::session::{Exit, Session};

/// The failure of a command.
pub struct Failure {
    pub text: String,
    /// Its exit status; 255 if a signal ended it, `None` if it did not start.
    pub code: Option<i32>,
}

/// Runs `words` with additional variables until it ends. Its output goes to the streams of this process, or is copied at its end if
/// the streams are buffers.
pub fn run(session: &mut Session, words: &[String], variables: &[(&str, String)]) -> Result<Result<(), Failure>, Exit> {
    session.io.output.flush()?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    let shares_streams = session.io.shares_streams;
    let outcome = session.wait(async {
        if shares_streams {
            return command.status().await.map(|status| (status, Vec::new(), Vec::new()));
        }
        command.output().await.map(|output| (output.status, output.stdout, output.stderr))
    });
    let (status, output, errors) = match outcome {
        Ok(ended) => ended,
        Err(error) if words[0].contains('/') => {
            return Ok(Err(Failure { text: format!("fork/exec {}: {}", words[0], io_error(&error)), code: None }));
        }
        Err(_) => {
            let text = format!("exec: {}: executable file not found in $PATH", quote(words[0].as_bytes()));
            return Ok(Err(Failure { text, code: None }));
        }
    };
    session.io.output.write_all(&output)?;
    session.io.output.flush()?;
    session.io.errors.write_all(&errors)?;
    if status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(Failure { text: status_text(status), code: Some(status.code().unwrap_or(255)) }))
}

fn status_text(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let core = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {}{core}", signal_text(signal))
}

fn signal_text(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
