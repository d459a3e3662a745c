//! A whole state that another member sends: written beside the page file, checked, made durable, then told to the member.
//!
//! | what goes wrong | answer | what is left on disk |
//! |---|---|---|
//! | the message is none, or not of a state | 400 | nothing |
//! | the same member is sending one already | 500 | the other one |
//! | the connection breaks, the body is short, the disk is full, the file is no sound database | 500, if anybody listens | nothing |
//!
//! The file has its name only when it is whole and durable; until then `.part` follows it.

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, request::Parts};
use hyper::body::Incoming;
use prost::Message as _;

use super::{
    answers::{Answer, add_remote, answer, check, forbid, own_fields, refuse, wrong_method},
    bodies::{BodyError, Pieces},
    codec::{BadFrame, Decoder},
    headers::{self, FROM, id_text, parse_id},
    settings::Event,
    snapshot_sender::{Inflight, index_of},
    table::{Receiving, Table},
};
use crate::{
    base::{
        human_size::human_size,
        limits::{PEER_SNAPSHOT_MESSAGE_BYTES_MAX, PEER_SNAPSHOT_SLICE_BYTES},
        received_state::received_name,
    },
    metrics::Name,
    os::{
        self, clock,
        file::{self, FileError, PagedFile},
        mapping::Mapping,
        net::Peer as Address,
        offload::offload,
        random,
    },
    pagefile::PageFile,
    proto::raftpb::{Message, MessageType},
};

/// The sender of a request that was not read far enough to know it.
const UNKNOWN_SENDER: &str = "UNKNOWN_SNAPSHOT_SENDER";

/// Why there is no message in front of the database.
#[derive(Debug, thiserror::Error)]
enum HeadError {
    #[error("unexpected EOF")]
    End,
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    Frame(#[from] BadFrame),
}

/// Why a database was not saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error("another one of this member is being received")]
    Busy,
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no sound database: {0}")]
    Unsound(String),
}

/// `POST /raft/snapshot`.
pub(super) async fn receive(table: &Rc<Table>, remote: Address, parts: &Parts, body: Incoming) -> Answer {
    let failures = |from: &str| count(table, Name::NetworkSnapshotReceiveFailures, from);
    if parts.method != Method::POST {
        failures(UNKNOWN_SENDER);
        return wrong_method("POST");
    }
    let fields = own_fields(table);
    if let Some(answer) = check(table, &parts.headers, &fields) {
        failures(UNKNOWN_SENDER);
        return answer;
    }
    add_remote(table, parse_id(headers::text(&parts.headers, &FROM)), &parts.headers);
    let mut pieces = Pieces::new(body);
    let (message, rest) = match head(&mut pieces).await {
        Ok(head) => head,
        Err(error) => {
            tracing::warn!(local_member_id = local(table), %error, "failed to decode Raft message");
            count(table, Name::NetworkPeerReceivedFailuresTotal, &remote.to_string());
            failures("0");
            return refuse(StatusCode::BAD_REQUEST, &format!("failed to decode raft message ({error})"), fields);
        }
    };
    let from = id_text(message.from());
    if message.r#type() != MessageType::MsgSnap {
        tracing::warn!(
            local_member_id = local(table),
            remote_snapshot_sender_id = from,
            message_type = message.r#type().as_str_name(),
            "unexpected Raft message type"
        );
        failures(&from);
        return refuse(StatusCode::BAD_REQUEST, "wrong raft message type", fields);
    }
    // etcd says so after the database was received, which helps nobody.
    if let Err(refused) = table.reports.check(&message) {
        return forbid(&refused.to_string(), fields);
    }
    database(table, message, rest, pieces, fields).await
}

fn count(table: &Table, name: Name, label: &str) {
    table.settings.meters.engine.sheet.series(name, &[label]).add(1);
}

fn local(table: &Table) -> String {
    id_text(table.settings.member_id)
}

/// The message, and what has come of the database.
async fn head(pieces: &mut Pieces) -> Result<(Message, Bytes), HeadError> {
    let mut decoder = Decoder::of_messages(PEER_SNAPSHOT_MESSAGE_BYTES_MAX);
    loop {
        decoder.push(&pieces.next().await?.ok_or(HeadError::End)?);
        if let Some(message) = decoder.next_message()? {
            return Ok((message, decoder.into_rest()));
        }
    }
}

/// Saves the database and tells the member.
async fn database(table: &Rc<Table>, message: Message, rest: Bytes, pieces: Pieces, fields: HeaderMap) -> Answer {
    let started = clock::now();
    let (from, index, message_bytes) = (id_text(message.from()), index_of(&message), message.encoded_len() as u64);
    let series = |name| table.settings.meters.engine.sheet.series(name, &[&from]);
    tracing::info!(
        local_member_id = local(table),
        remote_snapshot_sender_id = from,
        incoming_snapshot_index = index,
        incoming_snapshot_message_size_bytes = message_bytes,
        incoming_snapshot_message_size = human_size(message_bytes),
        "receiving database snapshot"
    );
    let _inflight = Inflight::new(series(Name::NetworkSnapshotReceiveInflightsTotal));
    let saved = match Table::begin_receiving(table, message.from()) {
        Some(receiving) => save(table, index, &from, rest, pieces, receiving).await,
        None => Err(SaveError::Busy),
    };
    let bytes = match saved {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(
                local_member_id = local(table),
                remote_snapshot_sender_id = from,
                incoming_snapshot_index = index,
                %error,
                "failed to save incoming database snapshot"
            );
            series(Name::NetworkSnapshotReceiveFailures).add(1);
            let text = format!("failed to save KV snapshot ({error})");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, &text, fields);
        }
    };
    series(Name::NetworkPeerReceivedBytesTotal).add(message_bytes + bytes);
    tracing::info!(
        local_member_id = local(table),
        remote_snapshot_sender_id = from,
        incoming_snapshot_index = index,
        incoming_snapshot_size_bytes = bytes,
        incoming_snapshot_size = human_size(bytes),
        download_took = ?started.elapsed(),
        "received and saved database snapshot"
    );
    table.reports.say(Event::SnapshotReceived(message));
    series(Name::NetworkSnapshotReceiveSuccess).add(1);
    series(Name::NetworkSnapshotReceiveTotalDurationSeconds).observe(started.elapsed().as_secs_f64());
    answer(StatusCode::NO_CONTENT, "", fields)
}

/// A file that is removed unless it gets its name.
struct Part {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let path = self.path.clone();
        os::spawn_local(async move {
            // A start removes what this leaves.
            let _removed = offload("remover", move || std::fs::remove_file(path)).await;
        });
    }
}

/// Writes the database; durable under its name when this returns its length.
async fn save(
    table: &Table,
    index: u64,
    from: &str,
    rest: Bytes,
    pieces: Pieces,
    receiving: Receiving,
) -> Result<u64, SaveError> {
    let (directory, sheet) = (&table.settings.snap_dir, &table.settings.meters.engine.sheet);
    let started = clock::now();
    let name = directory.join(received_name(index));
    // Another attempt may begin before this one is removed, so each has a name of its own.
    let attempt = random::number();
    let part_name = format!("{}.{from}.{attempt:x}.part", received_name(index));
    let mut part = Part { path: directory.join(part_name), is_kept: false };
    let file = PagedFile::create(&part.path).await?;
    let length = write(&file, rest, pieces).await?;
    let written_at = clock::now();
    file.sync().await?;
    sheet.observe(Name::SnapDbFsyncDurationSeconds, written_at.elapsed().as_secs_f64());
    drop(file);
    let (written, directory) = (part.path.clone(), directory.to_owned());
    offload("snapshot", move || settle(&written, &name, &directory, length)).await??;
    part.is_kept = true;
    sheet.observe(Name::SnapDbSaveTotalDurationSeconds, started.elapsed().as_secs_f64());
    drop(receiving);
    Ok(length)
}

/// Writes what comes, in slices, and returns how much that was.
async fn write(file: &PagedFile, rest: Bytes, mut pieces: Pieces) -> Result<u64, SaveError> {
    let (mut slice, mut written) = (BytesMut::from(&rest[..]), 0);
    loop {
        let piece = pieces.next().await?;
        let is_end = piece.is_none();
        slice.extend_from_slice(&piece.unwrap_or_default());
        if slice.len() >= PEER_SNAPSHOT_SLICE_BYTES || (is_end && !slice.is_empty()) {
            let bytes = slice.to_vec();
            slice.clear();
            let length = bytes.len() as u64;
            file.write(bytes, written).await?;
            written += length;
        }
        if is_end {
            return Ok(written);
        }
    }
}

/// Checks every page and gives the file its name. One of that name that is there already is as good. Blocks.
fn settle(part: &Path, name: &Path, directory: &Path, length: u64) -> Result<(), SaveError> {
    let reserved = usize::try_from(length).unwrap_or(usize::MAX);
    if reserved == 0 {
        return Err(SaveError::Unsound("it is empty".to_owned()));
    }
    let mapping = Mapping::reserve(part, reserved)?;
    PageFile::open(mapping.page_map(), length).map_err(|error| SaveError::Unsound(error.to_string()))?;
    if name.exists() {
        std::fs::remove_file(part)?;
    } else {
        std::fs::rename(part, name)?;
    }
    Ok(file::sync_directory(directory)?)
}
