//! The Maintenance service on one core: everything of it that is not an alarm or a look at the view.
//!
//! | method | waits for | its cost to others |
//! |---|---|---|
//! | Hash | a flush, then its own core's slices | 512 records at a time |
//! | HashKV | its own core's slices | 512 records at a time |
//! | Snapshot | a flush, then the client | one message of 32 kB in memory; see below |
//! | Defragment | the engine's core | the page file's ordinary commits |
//! | MoveLeader | the new leader, for an election timeout at most | proposals wait for the new leader |
//!
//! A snapshot is the image of one commit, which holds everything acknowledged before the call. It is read from the mapped file as
//! the client takes it, so a slow client costs one stream's send buffer and nobody's time; but as long as it reads, the pages of
//! that commit are not reused, and the file may grow by what is rewritten meanwhile. That is inherent in handing out one state.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    backend::DatabaseHash,
    base::{human_size::human_size, limits, refusal::Refusal},
    metrics::Name,
    mvcc::HashReader,
    os::{self, clock, notify::Ticket, stop},
    pagefile::ReadTxn,
    proto::etcdserverpb::{
        DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
        MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    },
    replica::{Chore, Request},
    rpc::{Call, Inbound, Outbound, Reply, Responder, Status},
    services::{Services, decode, encoded, refuse},
};

impl Services {
    pub(super) fn hash(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, _: HashRequest, responder| {
            front.hash_database(responder).await
        })
    }

    async fn hash_database(&self, responder: &Responder) -> Reply {
        let started = clock::now();
        self.chore(Chore::Flush).await.map_err(refuse)?;
        let (mut hash, header) = {
            let view = self.shared.view.load();
            (DatabaseHash::new(view.kv.records().pages().clone()), view.header(view.kv.revision()))
        };
        loop {
            let step = hash.step(limits::HASH_RECORDS_PER_SLICE);
            if let Some(hash) = step.unwrap_or_else(|error| stop::fatal(&error.to_string())) {
                self.meter().sheet.observe(Name::MvccHashDurationSeconds, started.elapsed().as_secs_f64());
                return encoded(&HashResponse { header: Some(header), hash });
            }
            os::yield_now().await;
            if responder.is_canceled() {
                return Err(Status::canceled());
            }
        }
    }

    pub(super) fn hash_kv(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, request: HashKvRequest, responder| {
            let view = front.shared.view.load().kv.clone();
            let reader = HashReader::new(view, request.revision).map_err(|why| refuse(why.into()))?;
            let hashed = front.hash_history(reader, || !responder.is_canceled()).await;
            hashed.ok_or_else(Status::canceled).and_then(|response| encoded(&response))
        })
    }

    /// The hash of the history up to a revision, 0 for the newest.
    ///
    /// # Errors
    /// The revision is compacted, or has not come.
    pub async fn hash_up_to(&self, revision: i64) -> Result<HashKvResponse, Refusal> {
        let view = self.shared.view.load().kv.clone();
        let reader = HashReader::new(view, revision).map_err(Refusal::from)?;
        Ok(self.hash_history(reader, || true).await.expect("wanted to the end"))
    }

    /// Hashes in slices, for as long as it is wanted.
    async fn hash_history(&self, mut reader: HashReader, is_wanted: impl Fn() -> bool) -> Option<HashKvResponse> {
        let started = clock::now();
        loop {
            let step = reader.step(limits::HASH_RECORDS_PER_SLICE);
            if let Some(found) = step.unwrap_or_else(|error| stop::fatal(&error.to_string())) {
                self.meter().sheet.observe(Name::MvccHashRevDurationSeconds, started.elapsed().as_secs_f64());
                return Some(HashKvResponse {
                    header: Some(self.shared.view.load().header(found.current_revision)),
                    hash: found.hash.hash,
                    compact_revision: found.hash.compact_revision,
                    hash_revision: found.hash.revision,
                });
            }
            os::yield_now().await;
            if !is_wanted() {
                return None;
            }
        }
    }

    pub(super) fn defragment(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, _: DefragmentRequest, _| {
            tracing::info!("starting defragment");
            let _counted = front.begin_defragmentation();
            let done = front.chore(Chore::Defragment).await;
            match &done {
                Ok(()) => tracing::info!("finished defragment"),
                Err(error) => tracing::warn!(%error, "failed to defragment"),
            }
            done.map_err(refuse).and_then(|()| encoded(&DefragmentResponse::default()))
        })
    }

    pub(super) async fn snapshot(
        &self,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        decode::<SnapshotRequest>(inbound.only().await?)?;
        let who = self.identify_fully(call).await;
        who.check_root(&self.shared.view.load().auth).map_err(refuse)?;
        let started = clock::now();
        self.chore(Chore::Flush).await.map_err(refuse)?;
        let (pages, version) = {
            let view = self.shared.view.load();
            (view.kv.records().pages().clone(), view.storage_version.clone().unwrap_or_default())
        };
        let (total, size) = (pages.size_bytes(), human_size(pages.size_bytes()));
        tracing::info!(total_bytes = total, size, storage_version = version, "sending database snapshot to client");
        send_image(&pages, &version, outbound).await?;
        let took = started.elapsed();
        tracing::info!(
            total_bytes = total,
            size,
            ?took,
            storage_version = version,
            "successfully sent database snapshot to client"
        );
        self.meter().sheet.observe(Name::DiskBackendSnapshotDurationSeconds, took.as_secs_f64());
        Ok(())
    }

    /// A transfer to this member itself is done before it begins.
    pub(super) fn move_leader(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, request: MoveLeaderRequest, _| {
            if !front.leads() {
                return Err(refuse(Refusal::NotLeader));
            }
            front.transfer_leadership(request.target_id).await.map_err(refuse)?;
            encoded(&MoveLeaderResponse::default())
        })
    }

    /// Asks the engine's core for a chore and waits until it is done.
    ///
    /// # Errors
    /// Too many are under way.
    pub(super) async fn chore(&self, chore: Chore) -> Result<(), Refusal> {
        let (id, ticket) = (self.take_id(), Rc::new(Ticket::default()));
        {
            let waiting = &mut *self.maintenance.waiting.borrow_mut();
            if waiting.len() >= limits::CHORES_PER_CORE_MAX {
                return Err(Refusal::TooManyRequests);
            }
            waiting.push((id, Rc::clone(&ticket)));
        }
        self.tell_engine(Request::Chore { id, chore });
        ticket.outcome().await;
        Ok(())
    }

    pub(super) fn on_chore_done(&self, id: u64) {
        let waiting = &mut *self.maintenance.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|(other, _)| *other == id) {
            waiting.swap_remove(at).1.end(());
        }
    }
}

/// The image in pieces, then its SHA-256.
async fn send_image(pages: &ReadTxn, version: &str, outbound: &mut Outbound) -> Result<(), Status> {
    let (total, mut sent) = (pages.size_bytes(), 0);
    let mut digest = Sha256::new();
    while sent < total {
        let mut blob = Vec::with_capacity(limits::SNAPSHOT_BLOB_BYTES);
        pages.copy_image(sent, limits::SNAPSHOT_BLOB_BYTES, &mut blob);
        digest.update(&blob);
        sent += blob.len() as u64;
        outbound.send(message(total - sent, blob, version)).await?;
        os::yield_now().await;
    }
    let checksum = digest.finalize().to_vec();
    tracing::info!(total_bytes = total, checksum_size = checksum.len(), "sending database sha256 checksum to client");
    outbound.send(message(0, checksum, version)).await
}

fn message(remaining_bytes: u64, blob: Vec<u8>, version: &str) -> Bytes {
    let response = SnapshotResponse { header: None, remaining_bytes, blob: blob.into(), version: version.to_owned() };
    response.encode_to_vec().into()
}
