//! The Cluster service on one core.
//!
//! | call | waits for |
//! |---|---|
//! | MemberAdd, MemberRemove, MemberUpdate | their conf change |
//! | MemberPromote | what is committed, on the leader, then the conf change; elsewhere the leader's answer over HTTP |
//! | MemberList | a confirmed read, if it is linearizable |
//!
//! A change ends within the request timeout. etcd's ends with the call's deadline only.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::{
    apply::View,
    base::{limits, refusal::Refusal},
    cluster::{change::Change, membership::Member},
    metrics::Name,
    os::{self, clock, notify::Ticket},
    peer::client::Response,
    proto::etcdserverpb::{
        self, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberPromoteRequest, MemberPromoteResponse,
        MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    },
    replica::{Request, Standing},
    rpc::{Call, Reply, Responder},
    service::{
        members::{self, Links},
        status,
    },
    services::{
        Services,
        credentials::Credentials,
        decode, encoded,
        peers::PeerRequest,
        refuse,
        waiting::{Outcome, Work},
    },
};

/// etcd's words for the outcomes of a promotion that the page of it tells, and what they stand for.
pub const PROMOTE_REFUSALS: [(Refusal, StatusCode, &str); 3] = [
    (Refusal::MemberNotFound, StatusCode::NOT_FOUND, "membership: ID not found"),
    (Refusal::MemberNotLearner, StatusCode::PRECONDITION_FAILED, "membership: can only promote a learner member"),
    (
        Refusal::LearnerNotReady,
        StatusCode::PRECONDITION_FAILED,
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
];

impl Services {
    pub(super) fn member_list(
        &self,
        call: &Call,
        who: Credentials,
        view: &View,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        match decode::<MemberListRequest>(message) {
            Ok(MemberListRequest { linearizable: true }) => {
                self.join_round(Work::MemberList { who, responder }, call.started);
                None
            }
            Ok(_) => {
                let checked = who.check_identity(&view.auth).map_err(refuse);
                Some(checked.and_then(|()| encoded(&status::member_list(view))))
            }
            Err(status) => Some(Err(status)),
        }
    }

    pub(super) fn member_add(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: MemberAddRequest, _| {
            let unix_seconds = i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX);
            let member = members::added(&request.peer_ur_ls, request.is_learner, unix_seconds).map_err(refuse)?;
            who.check_root(&front.shared.view.load().auth).map_err(refuse)?;
            let answered = status::member(&member);
            let change = Change::Add { votes: !member.is_learner, member };
            front.reconfigure(&change).await.map_err(refuse)?;
            let list = status::member_list(&front.shared.view.load());
            encoded(&MemberAddResponse { header: list.header, member: Some(answered), members: list.members })
        })
    }

    pub(super) fn member_remove(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, request: MemberRemoveRequest, _| {
            front.reconfigure(&Change::Remove { id: request.id }).await.map_err(refuse)?;
            let list = status::member_list(&front.shared.view.load());
            encoded(&MemberRemoveResponse { header: list.header, members: list.members })
        })
    }

    pub(super) fn member_update(
        self: &Rc<Self>,
        who: Credentials,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: MemberUpdateRequest, _| {
            members::check_urls(&request.peer_ur_ls).map_err(refuse)?;
            who.check_root(&front.shared.view.load().auth).map_err(refuse)?;
            let change = Change::Update { id: request.id, peer_urls: request.peer_ur_ls };
            front.reconfigure(&change).await.map_err(refuse)?;
            let list = status::member_list(&front.shared.view.load());
            encoded(&MemberUpdateResponse { header: list.header, members: list.members })
        })
    }

    pub(super) fn member_promote(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, request: MemberPromoteRequest, _| {
            let promoted = front.promote(request.id).await.map_err(refuse)?;
            let members: Vec<etcdserverpb::Member> = promoted.iter().map(status::member).collect();
            let header = status::member_list(&front.shared.view.load()).header;
            encoded(&MemberPromoteResponse { header, members })
        })
    }

    /// Makes a voter of a learner, here or at the leader: the members afterwards.
    ///
    /// # Errors
    /// It is no learner, it has not caught up, or the change is refused.
    pub async fn promote(&self, id: u64) -> Result<Vec<Member>, Refusal> {
        let promoted = self.promote_here(id).await;
        self.count_promotion(promoted);
        match promoted {
            Ok(()) => Ok(self.shared.view.load().membership.members().cloned().collect()),
            Err(Refusal::NotLeader) => self.promote_at_leader(id).await,
            Err(refusal) => Err(refusal),
        }
    }

    /// Counts what this member decides as the leader.
    fn count_promotion(&self, promoted: Result<(), Refusal>) {
        let sheet = &self.meter().sheet;
        match promoted {
            Ok(()) => sheet.add(Name::ServerLearnerPromoteSuccesses, 1),
            Err(Refusal::NotLeader) => {}
            Err(refusal) => {
                let known = PROMOTE_REFUSALS.iter().find(|known| known.0 == refusal);
                let reason = known.map_or(refusal.text(), |known| known.2);
                sheet.series(Name::ServerLearnerPromoteFailures, &[reason]).add(1);
            }
        }
    }

    async fn promote_here(&self, id: u64) -> Result<(), Refusal> {
        let followers = self.settled().await?.followers;
        let local_id = self.shared.view.load().membership.local_id;
        let matched = |id| followers.iter().find(|follower| follower.id == id).map(|follower| follower.matched);
        let leader_matched = matched(local_id).ok_or(Refusal::NotLeader)?;
        members::check_ready(matched(id), leader_matched).inspect_err(|error| {
            tracing::error!(
                learner_match = matched(id),
                leader_match = leader_matched,
                %error,
                "rejecting promote learner: learner is not ready"
            );
        })?;
        self.reconfigure(&Change::Promote { id }).await
    }

    async fn promote_at_leader(&self, id: u64) -> Result<Vec<Member>, Refusal> {
        let until = clock::now() + self.shared.request_timeout;
        let path = format!("/members/promote/{id}");
        while let Some(timeout) = until.checked_duration_since(clock::now()).filter(|left| !left.is_zero()) {
            let leader = self.wait_leader(until).await?;
            let request =
                PeerRequest { method: Method::POST, path: &path, content_type: None, body: Bytes::new(), timeout };
            let answer = self.ask_member(&leader, &request).await;
            if let Some(outcome) = answer.as_ref().and_then(promoted) {
                return outcome;
            }
            os::sleep(std::time::Duration::from_millis(limits::FORWARD_PAUSE_MS)).await;
        }
        Err(Refusal::Timeout)
    }

    /// Changes the members, and waits until the change is applied here.
    ///
    /// # Errors
    /// It could lose the quorum, it is not valid, or it took too long.
    async fn reconfigure(&self, change: &Change) -> Result<(), Refusal> {
        self.check_strictly(change)?;
        let (id, ticket) = self.begin_change();
        let change = change.to_conf_change(id);
        let (kind, node_id) = (change.r#type().as_str_name(), format!("{:x}", change.node_id()));
        self.tell_engine(Request::ChangeMembers { id, change });
        let began = clock::now();
        let outcome = match ticket.outcome().await {
            Err(Refusal::Timeout) => Err(self.timed_out(began)),
            outcome => outcome.map(drop),
        };
        if outcome.is_ok() {
            tracing::info!(
                raft_conf_change = kind,
                raft_conf_change_node_id = node_id,
                "applied a configuration change through raft"
            );
        }
        outcome
    }

    fn check_strictly(&self, change: &Change) -> Result<(), Refusal> {
        if !self.shared.cluster.strict_reconfiguration {
            return Ok(());
        }
        let steady = std::time::Duration::from_millis(limits::CONNECTED_MS_MIN);
        let now = clock::now();
        let links = Links {
            is_connected: &|id| self.connected_since(id).is_some(),
            is_steady: &|id| {
                self.connected_since(id).is_some_and(|since| now.saturating_duration_since(since) > steady)
            },
        };
        members::check_strictly(&self.shared.view.load().membership, change, &links).inspect_err(|error| {
            tracing::warn!(
                requested_member_id = format!("{:x}", change.id()),
                %error,
                "rejecting member request; the change could lose the quorum"
            );
        })
    }

    /// Something that the engine answers as it answers a proposal.
    pub(super) fn begin_change(&self) -> (u64, Rc<Outcome<Bytes>>) {
        let (id, ticket) = (self.take_id(), Rc::new(Ticket::default()));
        self.members.changing.borrow_mut().insert(id, Rc::clone(&ticket));
        (id, ticket)
    }

    /// Whether this was the answer to one of those.
    pub(super) fn end_change(&self, id: u64, outcome: &Result<Bytes, Refusal>) -> bool {
        let ticket = self.members.changing.borrow_mut().remove(&id);
        if let Some(ticket) = &ticket {
            ticket.end(outcome.clone());
        }
        ticket.is_some()
    }

    /// Waits until everything is applied here that this member knows to be committed: then where it stands.
    ///
    /// # Errors
    /// It took more than a second.
    pub async fn settled(&self) -> Result<Standing, Refusal> {
        let (id, ticket) = (self.take_id(), Rc::new(Ticket::default()));
        self.members.settling.borrow_mut().insert(id, Rc::clone(&ticket));
        self.tell_engine(Request::Settle { id });
        ticket.outcome().await
    }

    pub(super) fn on_settled(&self, id: u64, outcome: Result<Standing, Refusal>) {
        let ticket = self.members.settling.borrow_mut().remove(&id);
        if let Some(ticket) = ticket {
            ticket.end(outcome);
        }
    }

    /// Hands leadership to the voter that is connected for the longest time, before this member stops. Nothing happens on a member
    /// that does not lead, or that is the only voter.
    ///
    /// # Errors
    /// No voter is connected, or the transfer took too long.
    pub async fn hand_over_leadership(&self) -> Result<(), Refusal> {
        let (local_id, leader, voters) = {
            let view = self.shared.view.load();
            let voters = view.membership.members().filter(|member| !member.is_learner);
            (view.membership.local_id, view.raft.leader, voters.map(|member| member.id).collect::<Vec<_>>())
        };
        let ids = |text: &str| {
            let (local, current) = (format!("{local_id:x}"), format!("{leader:x}"));
            tracing::info!(local_member_id = local, current_leader_member_id = current, "{text}");
        };
        if leader != local_id {
            ids("skipped leadership transfer; local server is not leader");
            return Ok(());
        }
        if voters.len() < 2 {
            ids("skipped leadership transfer for single voting member cluster");
            return Ok(());
        }
        let connected = voters.iter().filter_map(|id| Some((self.connected_since(*id)?, *id)));
        let (_, to) = connected.min().ok_or(Refusal::Unhealthy)?;
        let moved = os::timeout(self.shared.request_timeout, self.transfer_leadership(to)).await;
        moved.unwrap_or(Err(Refusal::TimeoutLeaderTransfer))
    }

    /// Hands leadership to a voter, and waits until it leads.
    ///
    /// # Errors
    /// It is no voter, or it took too long.
    pub(super) async fn transfer_leadership(&self, to: u64) -> Result<(), Refusal> {
        let (local_id, leader) = {
            let view = self.shared.view.load();
            let target = view.membership.member(to).filter(|member| !member.is_learner);
            target.ok_or(Refusal::BadLeaderTransferee)?;
            (view.membership.local_id, view.raft.leader)
        };
        let began: Instant = clock::now();
        let of = |id: u64| format!("{id:x}");
        tracing::info!(
            local_member_id = of(local_id),
            current_leader_member_id = of(leader),
            transferee_member_id = of(to),
            "leadership transfer starting"
        );
        let (id, ticket) = self.begin_change();
        self.tell_engine(Request::TransferLeader { id, to });
        ticket.outcome().await?;
        tracing::info!(
            local_member_id = of(local_id),
            old_leader_member_id = of(leader),
            new_leader_member_id = of(to),
            took = ?began.elapsed(),
            "leadership transfer finished"
        );
        Ok(())
    }
}

/// What the leader says of a promotion; nothing if it is to be asked again.
fn promoted(response: &Response) -> Option<Result<Vec<Member>, Refusal>> {
    let says = |text: &str| String::from_utf8_lossy(&response.body).contains(text);
    match response.status {
        StatusCode::OK => serde_json::from_slice(&response.body).ok().map(Ok),
        StatusCode::NOT_FOUND => Some(Err(Refusal::MemberNotFound)),
        status => {
            PROMOTE_REFUSALS.iter().find(|(_, code, text)| *code == status && says(text)).map(|found| Err(found.0))
        }
    }
}
