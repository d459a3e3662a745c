//! The server.

use std::process::exit;

use ringd::{
    config::{Config, Invocation},
    server::{self, log},
};

/// Preloaded into one build in turns with glibc's own, at 16 x 16 requests: 13 % less CPU for a put, 7 % for a read.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let config = match Config::parse(std::env::args().skip(1), std::env::vars()) {
        Ok(Invocation::Serve(config)) => config,
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            return;
        }
        Err(refused) => {
            eprintln!("{}", refused.text);
            exit(refused.exit);
        }
    };
    log::install(config.log_level, config.log_json);
    let Err(error) = server::serve(*config);
    tracing::error!(error = %error, "the server cannot start");
    eprintln!("ringd: {error}");
    exit(1);
}
