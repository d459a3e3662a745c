//! A whole state that another member sends: written beside the page file, checked, made durable, then told to the member.
//!
//! | what goes wrong | answer | what is left on disk |
//! |---|---|---|
//! | the message is none, or not of a state | 400 | nothing |
//! | the same member is sending one already | 500 | the other one |
//! | the connection breaks, the body is short, the disk is full, the file is no sound database | 500, if anybody listens | nothing |

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use hyper::body::Incoming;
use prost::Message as _;

use super::{
    answers::{Answer, add_remote, answer, check, forbid, own_fields, refuse, wrong_method},
    bodies::{BodyError, Pieces},
    codec::{BadFrame, Decoder},
    headers::{self, FROM, id_text, parse_id},
    image_client::{Asking, FetchError, fetch},
    received_file::{KeepError, ReceivedFile},
    settings::Event,
    snapshot_offer::{self, Source},
    snapshot_sender::{Inflight, index_of},
    table::{Receiving, Table},
};
use crate::{
    base::{human_size::human_size, limits::PEER_SNAPSHOT_MESSAGE_BYTES_MAX},
    metrics::Name,
    os::{clock, net::Peer as Address},
    proto::raftpb::{Message, MessageType, SnapshotMetadata},
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
    Keep(#[from] KeepError),
    #[error("nobody has it")]
    NoSource,
    #[error("{0}")]
    Fetch(FetchError),
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
    let way = match snapshot_offer::read(&parts.headers) {
        Some(sources) => Way::Fetched(sources),
        None => Way::Body(rest, pieces),
    };
    database(table, message, way, fields).await
}

/// How a database comes.
enum Way {
    /// After the message.
    Body(Bytes, Pieces),
    /// This member fetches it from one of these.
    Fetched(Vec<Source>),
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
async fn database(table: &Rc<Table>, mut message: Message, way: Way, fields: HeaderMap) -> Answer {
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
        Some(receiving) => save(table, &mut message, &from, way, receiving).await,
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

/// Writes the database; durable under its name when this returns its length. A fetched one may go further than the message said.
async fn save(
    table: &Table,
    message: &mut Message,
    from: &str,
    way: Way,
    receiving: Receiving,
) -> Result<u64, SaveError> {
    let (directory, sheet) = (&table.settings.snap_dir, &table.settings.meters.engine.sheet);
    let started = clock::now();
    let length = match way {
        Way::Body(rest, pieces) => {
            let mut file = ReceivedFile::create(directory, index_of(message), from).await?;
            write(&mut file, rest, pieces).await?;
            let written_at = clock::now();
            let length = file.sync().await?;
            sheet.observe(Name::SnapDbFsyncDurationSeconds, written_at.elapsed().as_secs_f64());
            file.keep().await?;
            length
        }
        Way::Fetched(sources) => {
            let (mark, length) = fetch_from(table, &sources, index_of(message)).await?;
            message.snapshot.get_or_insert_default().metadata = Some(mark);
            length
        }
    };
    sheet.observe(Name::SnapDbSaveTotalDurationSeconds, started.elapsed().as_secs_f64());
    drop(receiving);
    Ok(length)
}

/// Fetches a database from the first of these that gives it.
async fn fetch_from(table: &Table, sources: &[Source], index_min: u64) -> Result<(SnapshotMetadata, u64), SaveError> {
    let asking = Asking {
        cluster_id: table.settings.cluster_id,
        member_id: table.settings.member_id,
        advertised: table.settings.advertised.clone(),
        secrets: table.settings.tls.clone(),
        dial_timeout: table.settings.dial_timeout(),
    };
    let mut last = SaveError::NoSource;
    for source in sources {
        let remote_peer_id = id_text(source.id);
        match fetch(&asking, &source.urls, index_min, &table.settings.snap_dir).await {
            Ok((mark, length)) => {
                tracing::info!(remote_peer_id, snapshot_index = mark.index(), "fetched database snapshot");
                return Ok((mark, length));
            }
            Err(error) => {
                tracing::warn!(remote_peer_id, %error, "failed to fetch database snapshot");
                last = SaveError::Fetch(error);
            }
        }
    }
    Err(last)
}

/// Writes what comes.
async fn write(file: &mut ReceivedFile, rest: Bytes, mut pieces: Pieces) -> Result<(), SaveError> {
    file.take(&rest).await?;
    while let Some(piece) = pieces.next().await? {
        file.take(&piece).await?;
    }
    Ok(())
}
