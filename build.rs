//! Compiles `proto/` into Rust messages, and into descriptors for the JSON gateway, without a system `protoc`; `proto/kubernetes` into
//! descriptors alone.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use protox::Compiler;

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

/// Messages for other servers than ringd: they have no place among the descriptors of the gateway.
const OF_OTHERS: &str = "opentelemetry/trace.proto";

/// Files that describe messages, and have none of their own for the wire.
const DESCRIBING: &str = "google/";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The bytes keep the options of methods, which the typed set drops.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    compiler.open_file(OF_OTHERS)?;
    let mut messages = compiler.file_descriptor_set();
    messages.file.retain(|file| !file.name().starts_with(DESCRIBING));
    prost_build::Config::new()
        // Values and keys are shared slices of the receive buffer, never copies.
        .bytes(["."])
        .out_dir(&out)
        .include_file("messages.rs")
        .compile_fds(messages)?;
    describe_kubernetes(&out)
}

/// The messages of Kubernetes as descriptors alone, without a Rust type for each.
fn describe_kubernetes(out: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto/kubernetes");
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    files.sort_unstable();
    let mut compiler = Compiler::new([root])?;
    compiler.include_imports(true).open_files(files)?;
    fs::write(out.join("kubernetes.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
