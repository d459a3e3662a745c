//! The command line client: passes the process's arguments, environment and streams to `ringd::ctl`.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

use ringd::ctl;

fn main() {
    let words: Vec<Vec<u8>> = env::args_os().skip(1).map(OsString::into_vec).collect();
    let text = |value: OsString| value.to_string_lossy().into_owned();
    let environment = env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let mut output = BufWriter::new(io::stdout().lock());
    let io = ctl::Io {
        input: Box::new(io::stdin()),
        output: &mut output,
        errors: &mut io::stderr().lock(),
        shares_streams: true,
        interrupt: Box::pin(ctl::signals()),
    };
    exit(ctl::run(&words, environment, io));
}
