//! Compiles `proto/` into Rust messages without a system `protoc`.

use std::{env, error::Error, path::PathBuf};

const FILES: &[&str] = &[
    "etcdserverpb/rpc.proto",
    "etcdserverpb/raft_internal.proto",
    "mvccpb/kv.proto",
    "authpb/auth.proto",
    "membershippb/membership.proto",
    "leasepb/lease.proto",
    "v3lockpb/v3lock.proto",
    "v3electionpb/v3election.proto",
    "raftpb/raft.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    prost_build::Config::new()
        // Values and keys are shared slices of the receive buffer, never copies.
        .bytes(["."])
        .out_dir(&out)
        .include_file("messages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
