//! Integration tests: real processes, real sockets, stock clients; one binary.
//!
//! ```text
//!   layers        reads src/ and fails on an import that points up
//!   differential  the same traffic to ringd and etcd        wire      the same for what is below the messages
//!   clients       stock etcdctl and the etcd-client crate   crash     kill -9 under load
//!   bad_input     what no client would send                 startup   flags, ports, directories
//! ```
//!
//! Some compare with etcd or use its tools (`make reference` builds them). Without those they are reported as ignored,
//! never as passed; with `CI=true` they fail. That is why the harness is libtest-mimic: the one of Rust cannot say so at run time.

#![allow(clippy::unwrap_used)]

mod clients;
mod crash;
mod differential;
mod harness;
mod traffic;
mod wire;

use std::env;

use harness::reference;
use libtest_mimic::{Arguments, Trial};

fn main() {
    let tests = vec![
        with_reference("differential::kv_traffic_agrees", differential::kv_traffic_agrees),
        with_reference("differential::files_agree", differential::files_agree),
        with_reference("wire::transport_agrees", wire::transport_agrees),
        with_reference("wire::http1_agrees", wire::http1_agrees),
        with_reference("clients::etcdctl_prints_the_same", clients::etcdctl_prints_the_same),
        with_reference("clients::etcdctl_sees_a_healthy_endpoint", clients::etcdctl_sees_a_healthy_endpoint),
        test("clients::etcd_client_crate", clients::etcd_client_crate),
        test("crash::acknowledged_writes_survive", crash::acknowledged_writes_survive),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

fn test(name: &'static str, body: fn()) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}

/// A test that needs etcd and its tools.
fn with_reference(name: &'static str, body: fn()) -> Trial {
    let present = reference::etcd().is_some() && reference::tool("etcdctl").is_some();
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    if present {
        return test(name, body);
    }
    eprintln!("{name} skipped: no etcd to compare with; `make reference` builds it");
    test(name, || panic!("CI has to build the reference: make reference")).with_ignored_flag(!in_ci)
}
