//! The tool for files: hands the process's words and streams to `ringd::utl`.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

use ringd::{ctl, utl};

fn main() {
    let words: Vec<Vec<u8>> = env::args_os().skip(1).map(OsString::into_vec).collect();
    let mut output = BufWriter::new(io::stdout().lock());
    let io = ctl::Io {
        input: Box::new(io::stdin()),
        output: &mut output,
        errors: &mut io::stderr().lock(),
        shares_streams: true,
        interrupt: Box::pin(std::future::pending()),
    };
    exit(utl::run(&words, io));
}
