//! Command line clients, one process per command: stock etcdctl, and our ringctl in its place.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Stdio},
};

use super::reference;

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs one command against one endpoint; `input` is what a user would type.
pub fn etcdctl(endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    run(reference::tool("etcdctl").as_os_str(), endpoint, arguments, input)
}

/// The same with ringctl.
pub fn ringctl(endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    run(OsStr::new(env!("CARGO_BIN_EXE_ringctl")), endpoint, arguments, input)
}

fn run(program: &OsStr, endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    let mut child = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that reads nothing may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Printed {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
