//! The KV service on one core.

use std::{rc::Rc, time::Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    apply::{View, alarms, permission, request::Kind, txn},
    auth::{Access, Auth, Requester},
    base::{limits, refusal::Refusal},
    os::{self, clock, stop},
    proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest},
    rpc::{Body, Call, Inbound, Outbound, Producer, Reply, Responder, Status},
    service::{
        check,
        kv::{self, RangeAnswer, RangeJob, ReadStop},
        range_stream::RangeStreamJob,
    },
    services::{
        Services,
        credentials::Credentials,
        decode, ended, refuse,
        request_log::Reading,
        spans::{self, Streamed},
        waiting::Work,
    },
};

impl Services {
    pub(super) fn range(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        view: &View,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let request = match decode::<RangeRequest>(message) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        if let Err(refusal) = check::range(&request) {
            return Some(Err(refuse(refusal)));
        }
        spans::enter(call, &request);
        if request.serializable {
            if let Err(refusal) = may_range(view, &who, &request) {
                return Some(Err(refuse(refusal)));
            }
            let reading = Reading { called: call.started, began: clock::now() };
            return match start_range(view, &request) {
                Started::Answered(reply) => {
                    reading.count_range(self, &request, &reply);
                    Some(reply)
                }
                Started::Measuring(job) => {
                    os::spawn_local(measure_on(Rc::clone(self), reading, request, job, responder));
                    None
                }
            };
        }
        self.join_round(Work::Range { request, who, responder }, call.started);
        None
    }

    pub(super) fn put(
        &self,
        call: &Call,
        who: Credentials,
        view: &View,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let checked = decode::<PutRequest>(message.clone()).and_then(|request| {
            self.check_quota(view, alarms::put_cost(&request)).map_err(refuse)?;
            check::put(&request).map_err(refuse)?;
            spans::enter(call, &request);
            Ok(())
        });
        self.propose_if(checked, call, Kind::Put, &message, who, responder)
    }

    pub(super) fn delete_range(
        &self,
        call: &Call,
        who: Credentials,
        message: &Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let checked = decode::<DeleteRangeRequest>(message.clone()).and_then(|request| {
            check::delete_range(&request).map_err(refuse)?;
            spans::enter(call, &request);
            Ok(())
        });
        self.propose_if(checked, call, Kind::DeleteRange, message, who, responder)
    }

    pub(super) fn txn(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        view: &View,
        message: &Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let request = match decode::<TxnRequest>(message.clone()) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        let checked = self
            .check_quota(view, alarms::txn_cost(&request))
            .and_then(|()| check::txn(&request, self.shared.txn_ops_max))
            .map_err(refuse);
        if checked.is_ok() {
            spans::enter(call, &request);
        }
        if checked.is_err() || !txn::is_read_only(&request) {
            return self.propose_if(checked, call, Kind::Txn, message, who, responder);
        }
        if txn::is_serializable(&request) {
            return Some(self.read_txn(view, &request, &who, call.started));
        }
        self.join_round(Work::Txn { request, who, responder }, call.started);
        None
    }

    pub(super) fn compact(
        &self,
        call: &Call,
        who: Credentials,
        message: &Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let checked = decode::<CompactionRequest>(message.clone()).map(|request| spans::enter(call, &request));
        self.propose_if(checked, call, Kind::Compaction, message, who, responder)
    }

    pub(super) fn read_txn(&self, view: &View, request: &TxnRequest, who: &Credentials, called: Instant) -> Reply {
        let check = |auth: &Auth, who: Requester<'_>| permission::check_reading_txn(auth, who, request);
        who.check_read(view, check).map_err(refuse)?;
        let reading = Reading { called, began: clock::now() };
        let reply = kv::read_txn(view, request).map(Body::Message).map_err(ended);
        reading.count_txn(self, request, &reply);
        reply
    }

    pub(super) async fn range_stream(
        &self,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        let request = decode::<RangeRequest>(inbound.only().await?)?;
        check::range_stream(&request).map_err(refuse)?;
        spans::enter(call, &Streamed(&request));
        if !request.serializable {
            self.confirmed(call.started).await.map_err(refuse)?;
        }
        let who = self.identify_fully(call).await;
        let auth_revision = {
            let view = self.shared.view.load();
            may_range(&view, &who, &request).map_err(refuse)?;
            view.auth.revision()
        };
        let mut job = RangeStreamJob::new(request, self.shared.request_bytes_max);
        loop {
            let piece = {
                let view = self.shared.view.load();
                // Each piece is from a newer view: what was allowed at the begin may not be any more.
                if view.auth.is_enabled() && view.auth.revision() != auth_revision {
                    return Err(refuse(Refusal::AuthOldRevision));
                }
                job.next(&view).map_err(ended)?
            };
            if let Some(message) = piece.message {
                outbound.send(message).await?;
            }
            if piece.last {
                return Ok(());
            }
            os::yield_now().await;
        }
    }
}

/// Whether a range may be answered from `view`.
pub(super) fn may_range(view: &View, who: &Credentials, request: &RangeRequest) -> Result<(), Refusal> {
    who.check_read(view, |auth, who| auth.check(who, &request.key, &request.range_end, Access::Read))
}

pub(super) enum Started {
    Answered(Reply),
    Measuring(Box<RangeJob>),
}

/// Answers a small range at once; what is left of a larger one goes to a task of its own.
pub(super) fn start_range(view: &View, request: &RangeRequest) -> Started {
    let started = kv::range(view, request).and_then(|answer| match answer {
        RangeAnswer::Whole(bytes) => Ok(Started::Answered(Ok(Body::Message(bytes)))),
        RangeAnswer::Job(mut job) => Ok(match job.measure(limits::RANGE_KEYS_PER_SLICE)? {
            true => Started::Answered(body(job)),
            false => Started::Measuring(job),
        }),
    });
    started.unwrap_or_else(|stop| Started::Answered(Err(ended(stop))))
}

/// Goes on measuring between the turns of others.
pub(super) async fn measure_on(
    front: Rc<Services>,
    reading: Reading,
    request: RangeRequest,
    mut job: Box<RangeJob>,
    responder: Responder,
) {
    let reply = loop {
        os::yield_now().await;
        if responder.is_canceled() {
            return;
        }
        match job.measure(limits::RANGE_KEYS_PER_SLICE) {
            Ok(true) => break body(job),
            Ok(false) => {}
            Err(stop) => break Err(ended(stop)),
        }
    };
    reading.count_range(&front, &request, &reply);
    responder.send(reply);
}

fn body(job: Box<RangeJob>) -> Reply {
    if job.length() <= limits::WHOLE_ANSWER_BYTES_MAX {
        return job.whole().map(Body::Message).map_err(ended);
    }
    Ok(Body::Large(Box::new(LargeRange(job))))
}

/// A range that is encoded while the client reads.
struct LargeRange(Box<RangeJob>);

impl Producer for LargeRange {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        if let Err(ReadStop::Failed(text)) = self.0.fill(out, room) {
            stop::fatal(&text);
        }
    }
}
