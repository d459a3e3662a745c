//! `snapshot save`: the database file of one member, under a temporary name until it is whole and synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::command::{Command, Group};
use super::go_format::io_error;
use super::progress::ByteProgress;
use super::session::{Exit, INTERRUPTED, Session};
use crate::client::{Call, Client, Error, method};
use crate::proto::etcdserverpb::SnapshotRequest;

const EXAMPLE: &str = "  # Save snapshot to a given file
  etcdctl snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  etcdctl snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  etcdctl --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  etcdctl --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  etcdctl snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db";

pub static COMMAND: Command = Command {
    name: "snapshot",
    arguments: "<subcommand>",
    short: "Manages etcd node snapshots",
    example: EXAMPLE,
    group: Some(Group::Maintenance),
    commands: &[&SAVE],
    ..Command::EMPTY
};

static SAVE: Command = Command {
    name: "save",
    arguments: "<filename>",
    short: "Stores an etcd node backend snapshot to a given file",
    example: EXAMPLE,
    run: Some(save),
    ..Command::EMPTY
};

/// The size of the checksum after the pages, and of a sector.
const CHECKSUM_BYTES: u64 = 32;
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("snapshot must be requested to one selected node, not multiple [{0}]")]
    Endpoints(String),
    #[error("could not open {path} (open {path}: {})", io_error(.error))]
    Open { path: String, error: io::Error },
    #[error("could not write snapshot: {}", io_error(.0))]
    Write(io::Error),
    #[error("could not write snapshot: {0}")]
    Stream(Error),
    #[error("sha256 checksum not found [bytes: {0}]")]
    Checksum(u64),
    #[error("could not fsync snapshot: {}", io_error(.0))]
    Sync(io::Error),
    #[error("could not rename {from} to {to} (rename {from} {to}: {})", io_error(.error))]
    Rename { from: String, to: String, error: io::Error },
    #[error("{0}")]
    Client(Error),
}

fn save(session: &mut Session) -> Result<(), Exit> {
    if session.arguments().len() != 1 {
        return Err(Exit::arguments("snapshot save expects one argument <filename>"));
    }
    let path = session.argument(0).into_owned();
    let options = session.settle()?;
    // A large database takes long, so there is a bound only if the flag was given.
    let call = if session.flags.given("command-timeout") { session.call() } else { Call::default() };
    let progress = ByteProgress::new(session.io.shares_streams, 0);
    let outcome = if options.endpoints.len() == 1 {
        session.wait(async {
            let client = Client::connect(options).await.map_err(Failure::Client)?;
            fetch(&client, &path, call, &progress).await
        })
    } else {
        Err(Failure::Endpoints(options.endpoints.join(" ")))
    };
    drop(progress);
    let version = outcome.map_err(|failure| Exit::new(INTERRUPTED, failure))?;
    writeln!(session.io.output, "Snapshot saved at {path}")?;
    if !version.is_empty() {
        writeln!(session.io.output, "Server version {version}")?;
    }
    Ok(())
}

/// Fetches into `path.part`, which is removed if anything fails; returns the storage version.
async fn fetch(client: &Client, path: &str, call: Call, progress: &ByteProgress) -> Result<String, Failure> {
    let part = format!("{path}.part");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    let mut file = opened.map_err(|error| Failure::Open { path: part.clone(), error })?;
    let outcome = match receive(client, &mut file, call, progress).await {
        Ok(version) => match fs::rename(&part, path) {
            Ok(()) => return Ok(version),
            Err(error) => Err(Failure::Rename { from: part.clone(), to: path.to_owned(), error }),
        },
        Err(failure) => Err(failure),
    };
    // The first failure is reported.
    let _removed = fs::remove_file(&part);
    outcome
}

async fn receive(client: &Client, file: &mut File, call: Call, progress: &ByteProgress) -> Result<String, Failure> {
    let mut stream =
        client.server_stream(&method::SNAPSHOT, &SnapshotRequest {}, call).await.map_err(Failure::Client)?;
    let mut version = String::new();
    let mut size = 0;
    while let Some(part) = stream.next().await.map_err(Failure::Stream)? {
        file.write_all(&part.blob).map_err(Failure::Write)?;
        size += part.blob.len() as u64;
        progress.set(size, part.remaining_bytes);
        if version.is_empty() {
            version = part.version;
        }
    }
    if size % SECTOR_BYTES != CHECKSUM_BYTES {
        return Err(Failure::Checksum(size));
    }
    file.sync_all().map_err(Failure::Sync)?;
    Ok(version)
}
