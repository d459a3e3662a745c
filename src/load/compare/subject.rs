//! What is compared: the arguments of `ringbench compare`.

use std::path::PathBuf;

use clap::Args;

use super::super::AnyError;

/// What is compared, and how.
#[derive(Args, Clone, Debug)]
pub struct Comparison {
    /// A server: its name, its program, and flags for it. The first is what the others are compared with.
    #[arg(long = "server", value_name = "NAME=PROGRAM [FLAG]...", required = true)]
    pub(super) servers: Vec<String>,
    /// Members of each server's cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub(super) members: u16,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub(super) rounds: u16,
    /// Seconds of each measurement; a quarter more before it does not count.
    #[arg(long, default_value_t = 2.0)]
    pub(super) seconds: f64,
    /// How many rates are offered to each server.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(2..=20))]
    pub(super) rates: u16,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) conns: u16,
    /// Requests under way in the closed loop.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) clients: u32,
    #[arg(long, default_value_t = 10_000)]
    pub(super) key_space_size: u64,
    #[arg(long, default_value_t = 256)]
    pub(super) val_size: usize,
    /// Data of the servers is in a directory in it, which is removed at the end.
    #[arg(long, default_value = ".")]
    pub(super) directory: PathBuf,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "ringbench.html")]
    pub(super) out: PathBuf,
    /// No line for each measurement on standard error.
    #[arg(long)]
    pub(super) quiet: bool,
}

/// One server that is compared: a program with its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) flags: Vec<String>,
}

impl Subject {
    pub(super) fn parse(text: &str) -> Result<Self, AnyError> {
        let wrong = || format!("--server {text:?} is not NAME=PROGRAM [FLAG]...");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let mut words = rest.split_whitespace();
        let program = words.next().filter(|_| !name.trim().is_empty()).ok_or_else(wrong)?;
        Ok(Self { name: name.trim().to_owned(), program: program.into(), flags: words.map(str::to_owned).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_names_programs_and_flags() {
        let parsed = Subject::parse("log reads=bin/ringd --read-mode=log --cores 1").unwrap();
        let flags = ["--read-mode=log", "--cores", "1"].map(str::to_owned).to_vec();
        assert_eq!(parsed, Subject { name: "log reads".to_owned(), program: "bin/ringd".into(), flags });
        for wrong in ["", "ringd", "=ringd", "ringd=", "ringd= "] {
            assert!(Subject::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
