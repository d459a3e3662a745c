//! The Election service on one core.
//!
//! Campaign and Observe may wait for ever: they end with the call, or with the server.

use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use prost::Message;

use crate::{
    proto::v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
        ResignRequest, ResignResponse,
    },
    rpc::{Call, Code, Inbound, Outbound, Reply, Responder, Status},
    service::{
        election::{Candidate, MISSING_LEADER_KEY, NO_LEADER, NOT_LEADER, Need, Observer},
        queue,
    },
    services::{Services, credentials::Credentials, decode, encoded, lock::while_wanted, watch::Subscription},
};

impl Services {
    pub(super) fn campaign(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: CampaignRequest, responder| {
            front.lead(&who, &request, responder).await.and_then(|response| encoded(&response))
        })
    }

    pub(super) fn proclaim(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: ProclaimRequest, _| {
            front.show(&who, request).await.and_then(|response| encoded(&response))
        })
    }

    pub(super) fn resign(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: ResignRequest, _| {
            front.step_down(&who, request.leader).await.and_then(|response| encoded(&response))
        })
    }

    pub(super) fn leader(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: LeaderRequest, _| {
            front.find_leader(&who, &request.name).await.and_then(|response| encoded(&response))
        })
    }

    async fn lead(
        self: &Rc<Self>,
        who: &Credentials,
        request: &CampaignRequest,
        responder: &Responder,
    ) -> Result<CampaignResponse, Status> {
        let mut candidate = Candidate::new(&request.name, self.session(who, request.lease).await?);
        let joined = self.commit(who, &candidate.join(&request.value)).await?;
        if candidate.on_joined(&joined, &request.value)
            && let Err(status) = self.proclaim_as(who, &candidate, &request.value).await
        {
            // If this fails too, the lease ends the candidacy.
            let _kept = self.commit(who, &candidate.resign()).await;
            return Err(status);
        }
        if let Err(status) = while_wanted(responder, self.wait_for_turn(who, &candidate.next_before())).await {
            // Only who goes away leaves the queue; after an error etcd's candidate stays in it.
            if responder.is_canceled() {
                let _kept = self.commit(who, &candidate.resign()).await;
            }
            return Err(status);
        }
        Ok(CampaignResponse { header: joined.header, leader: Some(candidate.leader_key(&request.name)) })
    }

    async fn proclaim_as(
        &self,
        who: &Credentials,
        candidate: &Candidate,
        value: &Bytes,
    ) -> Result<ProclaimResponse, Status> {
        let response = self.commit(who, &candidate.proclaim(value)).await?;
        if response.succeeded {
            Ok(ProclaimResponse { header: response.header })
        } else {
            Err(Status::new(Code::Unknown, NOT_LEADER))
        }
    }

    async fn show(&self, who: &Credentials, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
        let candidate = self.resume(who, request.leader).await?;
        self.proclaim_as(who, &candidate, &request.value).await
    }

    async fn step_down(&self, who: &Credentials, leader: Option<LeaderKey>) -> Result<ResignResponse, Status> {
        let candidate = self.resume(who, leader).await?;
        // Whether the key was there makes no difference.
        let response = self.commit(who, &candidate.resign()).await?;
        Ok(ResignResponse { header: response.header })
    }

    /// The candidate that a leader key stands for. As in etcd, one without a lease gets one.
    async fn resume(&self, who: &Credentials, leader: Option<LeaderKey>) -> Result<Candidate, Status> {
        let leader = leader.ok_or_else(|| Status::new(Code::Unknown, MISSING_LEADER_KEY))?;
        let lease = self.session(who, leader.lease).await?;
        Ok(Candidate::resume(&LeaderKey { lease, ..leader }))
    }

    async fn find_leader(&self, who: &Credentials, name: &[u8]) -> Result<LeaderResponse, Status> {
        let response = self.read(who, &queue::first(&queue::prefix(name))).await?;
        match response.kvs.into_iter().next() {
            Some(leader) => Ok(LeaderResponse { header: response.header, kv: Some(leader) }),
            None => Err(Status::new(Code::Unknown, NO_LEADER)),
        }
    }

    /// As in etcd, the stream ends well when the store can no longer be read or followed.
    pub(super) async fn observe(
        self: &Rc<Self>,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        let request = decode::<LeaderRequest>(inbound.only().await?)?;
        let who = &self.identify_fully(call).await;
        let mut observer = Observer::new(&request.name);
        let mut shown: Vec<LeaderResponse> = Vec::new();
        let mut events: Option<Subscription> = None;
        loop {
            for leader in shown.drain(..) {
                outbound.send(leader.encode_to_vec().into()).await?;
            }
            let followed = async { Ok(self.follow(who, &mut observer, &mut events, &mut shown).await) };
            let closed = async { Err(outbound.closed().await) };
            if !future::or(followed, closed).await? {
                return Ok(());
            }
        }
    }

    /// One step of an observer; `false` if there is nothing to follow any more.
    async fn follow(
        self: &Rc<Self>,
        who: &Credentials,
        observer: &mut Observer,
        events: &mut Option<Subscription>,
        shown: &mut Vec<LeaderResponse>,
    ) -> bool {
        match observer.need() {
            Need::Read(request) => {
                *events = None;
                let Ok(response) = self.read(who, &request).await else {
                    return false;
                };
                shown.extend(observer.on_read(response));
            }
            Need::Events { key, range_end, from } => {
                let subscription = events.get_or_insert_with(|| self.subscribe(who, &key, &range_end, from));
                let Ok(next) = subscription.next().await else {
                    return false;
                };
                if observer.on_events(self.newest_header(), &next, shown) {
                    *events = None;
                }
            }
        }
        true
    }
}
