//! The Lease service on one core.
//!
//! | call | waits for |
//! |---|---|
//! | LeaseGrant, LeaseRevoke | their entry of the log |
//! | LeaseKeepAlive | nothing, for a lease that is there; else see [`Services::keep_alive`]; elsewhere the leader |
//! | LeaseTimeToLive | a confirmed read, then the engine; elsewhere the leader |
//! | LeaseLeases | the engine, a slice at a time |

use std::{
    collections::BTreeSet,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::future;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use crate::{
    apply::{View, alarms::LEASE_COST, request::Kind},
    auth::Access,
    base::{limits, refusal::Refusal},
    lease::Renewal,
    metrics::Name,
    os::{
        self, clock,
        notify::{Notify, Ticket},
    },
    proto::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
        LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
    },
    replica::{
        Request,
        lease_questions::{Asker, LeaseAnswer, LeaseQuestion},
    },
    rpc::{Body, Call, Code, Inbound, Messages, Outbound, Producer, Reply, Responder, Status},
    services::{
        Services,
        credentials::Credentials,
        decode, refuse,
        spans::{self, Renewed},
    },
};

/// The repeated field of a LeaseLeasesResponse.
const LEASES_FIELD: u32 = 2;

impl Services {
    pub(super) fn lease_grant(
        &self,
        call: &Call,
        who: Credentials,
        view: &View,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        if let Err(refusal) = self.check_quota(view, LEASE_COST) {
            return Some(Err(refuse(refusal)));
        }
        let mut request = match decode::<LeaseGrantRequest>(message) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        while request.id == 0 {
            // Chosen here and written into the entry, so that all members agree. Only positive ones, as etcd.
            request.id = (self.take_id() & i64::MAX.cast_unsigned()).cast_signed();
        }
        spans::enter(call, &request);
        if let Err(refusal) = who.check_identity(&view.auth) {
            return Some(Err(refuse(refusal)));
        }
        self.propose_if(Ok(()), call, Kind::LeaseGrant, &request.encode_to_vec(), who, responder)
    }

    pub(super) fn lease_revoke(
        &self,
        call: &Call,
        who: Credentials,
        message: &Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let checked = decode::<LeaseRevokeRequest>(message.clone()).map(|request| spans::enter(call, &request));
        self.propose_if(checked, call, Kind::LeaseRevoke, message, who, responder)
    }

    pub(super) fn lease_time_to_live(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let since = call.started;
        self.answer_later(message, responder, async move |front, request: LeaseTimeToLiveRequest, _| {
            if !request.keys {
                return front.find_time_to_live(&request, since).await.map(Body::Message).map_err(refuse);
            }
            let revision = front.check_lease(&who, request.id, Access::Read).await.map_err(refuse)?;
            let found = front.find_time_to_live(&request, since).await.map_err(refuse)?;
            // The keys may have been found after the right to read them was taken away.
            front.check_unchanged(revision).map_err(refuse)?;
            Ok(Body::Message(found))
        })
    }

    /// Whether a caller may read, or write, every key of a lease: then the revision of users and roles before the question.
    async fn check_lease(&self, who: &Credentials, id: i64, access: Access) -> Result<u64, Refusal> {
        let (revision, asker) = {
            let view = self.shared.view.load();
            let auth = &view.auth;
            who.check_identity(auth)?;
            if who.check_root(auth).is_ok() {
                return Ok(auth.revision());
            }
            (auth.revision(), Asker::from(who.requester(auth)?))
        };
        match self.ask(LeaseQuestion::Check { id, asker, access }).await {
            LeaseAnswer::Checked(outcome) => outcome.map(|()| revision),
            _ => unreachable!("the answer to a check"),
        }
    }

    fn check_unchanged(&self, revision: u64) -> Result<(), Refusal> {
        let view = self.shared.view.load();
        let is_old = view.auth.is_enabled() && view.auth.revision() != revision;
        if is_old { Err(Refusal::AuthOldRevision) } else { Ok(()) }
    }

    async fn find_time_to_live(&self, request: &LeaseTimeToLiveRequest, since: Instant) -> Result<Bytes, Refusal> {
        loop {
            if !self.leads()
                && let Some(found) = self.time_to_live_at_leader(request, since).await?
            {
                let response = LeaseTimeToLiveResponse { header: Some(self.header()), ..found };
                return Ok(response.encode_to_vec().into());
            }
            self.confirmed(since).await?;
            let question = LeaseQuestion::TimeToLive { id: request.id, with_keys: request.keys };
            match self.ask(question).await {
                LeaseAnswer::TimeToLive(found) => {
                    let mut response = LeaseTimeToLiveResponse {
                        header: Some(self.header()),
                        id: request.id,
                        ttl: -1,
                        ..LeaseTimeToLiveResponse::default()
                    };
                    let mut keys = Bytes::new();
                    if let Some((found, encoded)) = found {
                        (response.ttl, response.granted_ttl, keys) = (found.remaining_s, found.granted_s, encoded);
                    }
                    let mut out = BytesMut::with_capacity(response.encoded_len() + keys.len());
                    response.encode_raw(&mut out);
                    out.extend_from_slice(&keys);
                    return Ok(out.freeze());
                }
                _ => self.wait_for_primary(since).await?,
            }
        }
    }

    /// Waits a little for this member to lead.
    async fn wait_for_primary(&self, since: Instant) -> Result<(), Refusal> {
        if self.is_late(clock::now(), since) {
            return Err(self.nobody_leads());
        }
        os::sleep(Duration::from_millis(limits::KEEP_ALIVE_PAUSE_MS)).await;
        Ok(())
    }

    fn nobody_leads(&self) -> Refusal {
        if self.shared.view.load().raft.leader == 0 { Refusal::NoLeader } else { Refusal::Timeout }
    }

    pub(super) fn lease_leases(
        self: &Rc<Self>,
        who: Credentials,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, _: LeaseLeasesRequest, _| {
            front.list_leases(&who).await.map(|list| Body::Large(Box::new(list))).map_err(refuse)
        })
    }

    /// All leases, if the caller may read every key of each.
    async fn list_leases(&self, who: &Credentials) -> Result<LeaseList, Refusal> {
        let (revision, asker) = {
            let view = self.shared.view.load();
            let auth = &view.auth;
            who.check_identity(auth)?;
            let is_free = who.check_root(auth).is_ok();
            let asker = if is_free { None } else { Some(Asker::from(who.requester(auth)?)) };
            (auth.revision(), asker)
        };
        let mut leases = BTreeSet::new();
        let mut behind = None;
        loop {
            let slice = match self.ask(LeaseQuestion::List { behind, asker: asker.clone() }).await {
                LeaseAnswer::Listed(slice) => slice,
                LeaseAnswer::Checked(Err(refusal)) => return Err(refusal),
                _ => break,
            };
            behind = slice.last().map(|(_, id)| *id);
            let is_last = slice.len() < limits::LEASES_PER_SLICE;
            leases.extend(slice);
            if is_last {
                break;
            }
            os::yield_now().await;
        }
        if asker.is_some() {
            self.check_unchanged(revision)?;
        }
        Ok(LeaseList::new(self.header(), leases))
    }

    /// Renews leases for a client, without an entry of the log. Answers come in the order of the requests.
    ///
    /// | the lease | |
    /// |---|---|
    /// | is there | renewed at once: its TTL |
    /// | is not there | asked again behind a confirmed read, since its grant may be on its way: then TTL 0 |
    /// | has run out | asked again until it is revoked: TTL 0 |
    /// | is led by another member | renewed there, see `lease_forward` |
    /// | is led by nobody yet | asked again until the request timeout |
    ///
    /// Without `FastLeaseKeepAlive` a renewal first waits until what is committed is applied.
    pub(super) async fn keep_alive(
        &self,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        let stop = Rc::new(Notify::default());
        let key = self.leases.borrow_mut().streams.insert(Rc::clone(&stop));
        let stopped = async {
            stop.wait().await;
            Err(refuse(Refusal::Stopped))
        };
        let result = future::or(stopped, self.keep_alive_until_end(call, inbound, outbound)).await;
        self.leases.borrow_mut().streams.remove(key);
        result
    }

    /// The server stops: ends all streams of keepalives.
    pub(super) fn stop_keep_alives(&self) {
        self.leases.borrow().streams.iter().for_each(|(_, stop)| stop.notify());
    }

    async fn keep_alive_until_end(
        &self,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        let mut ids = Vec::new();
        loop {
            let end = self.next_renewals(inbound, &mut ids).await;
            let (allowed, refusal) = self.check_renewals(call, &ids).await;
            let renewing: Vec<_> = ids[..allowed].iter().filter_map(|id| spans::step(call, &Renewed(*id))).collect();
            self.renew_all(&ids[..allowed], outbound).await?;
            drop(renewing);
            if let Some(refusal) = refusal {
                return Err(refuse(refusal));
            }
            if let Some(end) = end {
                return end;
            }
            ids.clear();
        }
    }

    /// How many of these leases the caller may renew, in order, and why no more.
    async fn check_renewals(&self, call: &Call, ids: &[i64]) -> (usize, Option<Refusal>) {
        if ids.is_empty() || !self.shared.view.load().auth.is_enabled() {
            return (ids.len(), None);
        }
        let who = self.identify_fully(call).await;
        for (at, id) in ids.iter().enumerate() {
            let checked = self.check_lease(&who, *id, Access::Write).await;
            if let Err(refusal) = checked.and_then(|revision| self.check_unchanged(revision)) {
                return (at, Some(refusal));
            }
        }
        (ids.len(), None)
    }

    /// Takes what has come, at least one request, and says how the stream ended if it did.
    async fn next_renewals(&self, inbound: &mut Inbound, ids: &mut Vec<i64>) -> Option<Result<(), Status>> {
        let end = poll_fn(|context| poll_renewals(inbound, context, ids)).await;
        if let Some(Err(status)) = &end
            && !matches!(status.code, Code::Canceled | Code::DeadlineExceeded)
        {
            let failures =
                self.meter().sheet.series(Name::NetworkServerStreamFailuresTotal, &["lease-keepalive", "receive"]);
            failures.add(1);
        }
        end
    }

    async fn renew_all(&self, ids: &[i64], outbound: &mut Outbound) -> Result<(), Status> {
        let mut waiting = Waiting::new();
        let mut rest = ids;
        if !rest.is_empty() && !self.shared.cluster.fast_keep_alive && self.leads() {
            self.settled().await.map_err(refuse)?;
        }
        while let Some(first) = rest.first() {
            if !self.leads() {
                let header = self.header();
                if let Some(ttl) = self.renew_elsewhere(*first, outbound).await? {
                    outbound.send_all(encode_renewed(&header, rest, &[ttl])).await?;
                    rest = &rest[1..];
                    waiting = Waiting::new();
                    continue;
                }
            }
            // Made before the renewal: a client never sees it succeed at a revision at which the lease was gone.
            let header = self.header();
            let answer = self.ask(LeaseQuestion::Renew { ids: rest.to_vec() }).await;
            let LeaseAnswer::Renewed { ttls, stopped } = answer else {
                unreachable!("the answer to a renewal");
            };
            let renewed = ttls.len();
            outbound.send_all(encode_renewed(&header, rest, &ttls)).await?;
            rest = &rest[renewed..];
            if renewed > 0 {
                waiting = Waiting { is_confirmed: waiting.is_confirmed, ..Waiting::new() };
            }
            match stopped {
                None => {}
                Some(Renewal::Unknown) if waiting.is_confirmed => {
                    outbound.send_all(encode_renewed(&header, rest, &[0])).await?;
                    rest = &rest[1..];
                }
                Some(Renewal::Unknown | Renewal::Unsure) => {
                    self.confirmed(clock::now()).await.map_err(refuse)?;
                    waiting.is_confirmed = true;
                }
                Some(Renewal::NotPrimary) if self.is_late(clock::now(), waiting.since) => {
                    return Err(refuse(self.nobody_leads()));
                }
                Some(Renewal::NotPrimary | Renewal::Expired) => waiting.pause(outbound).await?,
                Some(Renewal::Renewed { .. }) => unreachable!("what was renewed does not stop"),
            }
        }
        Ok(())
    }

    /// Renews a lease at the leader, for as long as the client is there.
    async fn renew_elsewhere(&self, id: i64, outbound: &mut Outbound) -> Result<Option<i64>, Status> {
        let closed = async { Err(outbound.closed().await) };
        let renewed = async { self.renew_at_leader(id).await.map_err(refuse) };
        future::or(closed, renewed).await
    }

    fn header(&self) -> ResponseHeader {
        let view = self.shared.view.load();
        view.header(view.kv.revision())
    }

    /// Asks the engine. It answers in its next turn.
    pub(super) async fn ask(&self, question: LeaseQuestion) -> LeaseAnswer {
        let ticket = Rc::new(Ticket::default());
        {
            let questions = &mut *self.leases.borrow_mut();
            let number = questions.next;
            questions.next += 1;
            questions.asked.push((number, question));
            questions.waiting.insert(number, Rc::clone(&ticket));
        }
        self.outgoing.notify();
        ticket.outcome().await
    }

    /// The questions of this turn.
    pub(super) fn take_questions(&self) -> Option<Request> {
        let questions = std::mem::take(&mut self.leases.borrow_mut().asked);
        Some(questions).filter(|questions| !questions.is_empty()).map(|questions| Request::Leases { questions })
    }

    pub(super) fn on_lease_answers(&self, answers: Vec<(u64, LeaseAnswer)>) {
        for (number, answer) in answers {
            let ticket = self.leases.borrow_mut().waiting.remove(&number);
            if let Some(ticket) = ticket {
                ticket.end(answer);
            }
        }
    }
}

/// What a keepalive that cannot be answered yet has behind it.
struct Waiting {
    since: Instant,
    pause_ms: u64,
    /// Everything that was committed when the requests came has been applied.
    is_confirmed: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { since: clock::now(), pause_ms: limits::KEEP_ALIVE_PAUSE_MS, is_confirmed: false }
    }

    async fn pause(&mut self, outbound: &mut Outbound) -> Result<(), Status> {
        let pause = Duration::from_millis(self.pause_ms);
        self.pause_ms = (2 * self.pause_ms).min(limits::KEEP_ALIVE_PAUSE_MS_MAX);
        match os::timeout(pause, outbound.closed()).await {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}

/// Collects the ids of requests in `ids`, and is ready as soon as there is one: `None` while more may follow, else how the stream ended.
fn poll_renewals(
    inbound: &mut Inbound,
    context: &mut Context<'_>,
    ids: &mut Vec<i64>,
) -> Poll<Option<Result<(), Status>>> {
    while ids.len() < limits::KEEP_ALIVES_PER_BATCH {
        let message = match inbound.poll_next(context) {
            Poll::Pending if ids.is_empty() => return Poll::Pending,
            Poll::Pending => break,
            Poll::Ready(Ok(Some(message))) => message,
            Poll::Ready(Ok(None)) => return Poll::Ready(Some(Ok(()))),
            Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
        };
        match decode::<LeaseKeepAliveRequest>(message) {
            Ok(request) => ids.push(request.id),
            Err(status) => return Poll::Ready(Some(Err(status))),
        }
    }
    Poll::Ready(None)
}

/// An answer for each TTL.
fn encode_renewed(header: &ResponseHeader, ids: &[i64], ttls: &[i64]) -> Messages {
    let mut messages = Messages::default();
    let mut encoded = BytesMut::new();
    for (id, ttl) in ids.iter().zip(ttls) {
        encoded.clear();
        LeaseKeepAliveResponse { header: Some(*header), id: *id, ttl: *ttl }.encode_raw(&mut encoded);
        messages.push(&encoded, Bytes::new());
    }
    messages
}

/// A LeaseLeasesResponse that is encoded while the client reads: the soonest to end first.
struct LeaseList {
    /// Encoded, not asked for.
    piece: BytesMut,
    leases: BTreeSet<(u64, i64)>,
    length: u64,
}

impl LeaseList {
    fn new(header: ResponseHeader, leases: BTreeSet<(u64, i64)>) -> Self {
        let head = LeaseLeasesResponse { header: Some(header), leases: Vec::new() };
        let piece = BytesMut::from(&head.encode_to_vec()[..]);
        let statuses: u64 = leases.iter().map(|(_, id)| encoded_len(LeaseStatus { id: *id }) as u64).sum();
        Self { length: piece.len() as u64 + statuses, piece, leases }
    }
}

fn encoded_len(status: LeaseStatus) -> usize {
    let length = status.encoded_len();
    key_len(LEASES_FIELD) + encoded_len_varint(length as u64) + length
}

impl Producer for LeaseList {
    fn length(&self) -> u64 {
        self.length
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        while self.piece.len() < room
            && let Some((_, id)) = self.leases.pop_first()
        {
            let status = LeaseStatus { id };
            encode_key(LEASES_FIELD, WireType::LengthDelimited, &mut self.piece);
            encode_varint(status.encoded_len() as u64, &mut self.piece);
            status.encode_raw(&mut self.piece);
        }
        out.put(self.piece.split_to(room.min(self.piece.len())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_pieces_is_the_message_ordered_by_deadline() {
        let leases = [(7, -1), (2, 300), (7, i64::MAX), (2, 5)];
        let header = ResponseHeader { revision: 9, ..ResponseHeader::default() };
        for room in [1, 3, 1000] {
            let mut list = LeaseList::new(header, leases.into());
            let mut out = BytesMut::new();
            while (out.len() as u64) < list.length() {
                let before = out.len();
                list.fill(&mut out, room);
                assert!((1..=room).contains(&(out.len() - before)));
            }
            let ids = [5, 300, -1, i64::MAX];
            let leases = ids.map(|id| LeaseStatus { id }).to_vec();
            assert_eq!(out, LeaseLeasesResponse { header: Some(header), leases }.encode_to_vec());
        }
    }
}
