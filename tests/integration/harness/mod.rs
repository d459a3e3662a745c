//! What the tests stand on: real server processes, a plain gRPC client, stock etcdctl, the reference programs.
//!
//! ```text
//!   test ──┬── server     starts ringd or etcd in a directory, waits for its log line, stops or kills it
//!          ├── child      a child process and its log
//!          ├── grpc       any request, also a wrong one, and everything the answer is made of
//!          ├── frames     HTTP/2 without a library, frame by frame
//!          ├── http1      a plain client of pages and of the gateway, which shows chunks
//!          ├── stream     a gRPC call that goes on in both directions
//!          ├── pair       ringd and etcd side by side, asked the same
//!          ├── cluster    several members, ringd and etcd in any mix
//!          ├── collector  takes the spans of distributed tracing
//!          ├── proxy      the network between them, with faults
//!          ├── authority  certificates for members, and a client that shows them
//!          ├── load       clients that keep a history while a test breaks things
//!          ├── history    could one machine have shown them that?
//!          ├── watching   a watch stream, and what its watchers were told
//!          ├── etcdctl    a stock client that no one here wrote, for one command or for as long as it is wanted
//!          ├── printed    what such clients print, without what differs between servers
//!          ├── masked     answers without what follows from the start of a server
//!          └── reference  where etcd, etcdctl, etcdutl and bbolt are, and what to do without them
//! ```
//!
//! 1. Nothing sleeps to wait for something: a start waits for a log line or the end of the process, a request for its answer.
//! 2. No port and no directory is fixed. Directories lie under `target/`, because `/tmp` often has no O_DIRECT.
//! 3. Time limits are guards against hanging for ever; no test asserts how long something took.
//! 4. Randomness starts from a printed seed; `RINGD_SEED` replays it.

pub mod authority;
pub mod child;
pub mod cluster;
pub mod collector;
pub mod etcdctl;
pub mod frames;
pub mod grpc;
pub mod history;
pub mod http1;
pub mod load;
pub mod masked;
pub mod namespaces;
pub mod pair;
pub mod printed;
pub mod proxy;
pub mod reference;
pub mod server;
pub mod stream;
pub mod watching;

use std::{env, fmt::Display, future::Future, process, str::FromStr, thread};

use tokio::signal::unix::{SignalKind, signal};

/// Runs an asynchronous test on a runtime of its own, on the calling thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(test)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs epoll and a pipe")
}

/// A shell lets what it starts in the background ignore SIGINT. Children inherit that, and an etcdctl that a test interrupts would go on
/// for ever; a signal that is handled they do not inherit.
pub fn let_children_be_interrupted() {
    let runtime = runtime();
    let mut interrupts = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt()).expect("SIGINT can be handled")
    };
    thread::spawn(move || {
        runtime.block_on(interrupts.recv());
        process::exit(130)
    });
}

/// The seed of a random test: `RINGD_SEED`, or the given one. Printed, so that a failure can be replayed.
pub fn seed(test: &str, default: u64) -> u64 {
    let seed = setting("RINGD_SEED", default);
    eprintln!("{test}: RINGD_SEED={seed}");
    seed
}

/// A number from the environment that makes a test longer or shorter.
pub fn setting<T: FromStr + Display>(variable: &str, default: T) -> T {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}
