//! The tool for files: passes the process's arguments and streams to `ringd::utl`.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

use ringd::utl;

fn main() {
    let words: Vec<Vec<u8>> = env::args_os().skip(1).map(OsString::into_vec).collect();
    let mut output = BufWriter::new(io::stdout().lock());
    let io = utl::Io { output: &mut output, errors: &mut io::stderr().lock(), owns_stderr: true };
    exit(utl::run(&words, io));
}
