//! Proposals of one core: calls and tasks that wait until their entry is applied, and the checks before an entry is made.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;

use crate::{
    apply::request::{self, Kind},
    auth::Requester,
    base::refusal::Refusal,
    metrics::Name,
    os::{clock, notify::Ticket},
    replica::Request,
    rpc::{Body, Call, Reply, Responder, Status},
    services::{
        Services,
        credentials::Credentials,
        refuse,
        waiting::{Proposal, Waiter},
    },
};

impl Services {
    /// Proposes for a unary call what passed its checks; the entry's answer is the call's.
    pub(super) fn propose_if(
        &self,
        checked: Result<(), Status>,
        call: &Call,
        kind: Kind,
        message: &[u8],
        who: Credentials,
        responder: Responder,
    ) -> Option<Reply> {
        if let Err(status) = checked {
            if status.message != Refusal::NoSpace.text() {
                return Some(Err(status));
            }
            self.refuse_full(Waiter::Call(responder));
            return None;
        }
        let proposed = self.submit(kind, message, &who, Waiter::Call(responder), call.started);
        proposed.err().map(|refusal| Err(refuse(refusal)))
    }

    /// Proposes for a task, and waits until the entry was applied: the encoded response.
    ///
    /// # Errors
    /// It was refused, by consensus or when it was applied, or it took too long.
    pub async fn propose(&self, kind: Kind, message: &[u8]) -> Result<Bytes, Refusal> {
        self.propose_as(kind, message, &Credentials::Nobody).await
    }

    /// The same for a caller, whose rights are checked when the entry is applied.
    ///
    /// # Errors
    /// As [`Self::propose`]; or its token is not valid.
    pub(super) async fn propose_as(&self, kind: Kind, message: &[u8], who: &Credentials) -> Result<Bytes, Refusal> {
        let ticket = Rc::new(Ticket::default());
        self.submit(kind, message, who, Waiter::Task(Rc::clone(&ticket)), clock::now())?;
        ticket.outcome().await
    }

    fn submit(
        &self,
        kind: Kind,
        message: &[u8],
        who: &Credentials,
        waiter: Waiter,
        since: Instant,
    ) -> Result<(), Refusal> {
        let id = self.take_id();
        let data = match who {
            Credentials::Nobody => request::wrap(id, kind, message, Requester::NOBODY),
            who => request::wrap(id, kind, message, who.requester(&self.shared.view.load().auth)?),
        };
        if data.len() > self.shared.request_bytes_max {
            return Err(Refusal::RequestTooLarge);
        }
        self.proposals.borrow_mut().waiting.insert(id, Proposal { kind, waiter, since });
        self.meter().sheet.change(Name::ServerProposalsPending, 1);
        self.tell_engine(Request::Propose { id, data });
        Ok(())
    }

    pub(super) fn take_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(self.id_step));
        id
    }

    /// A proposal is over.
    pub(super) fn on_proposal(&self, id: u64, outcome: Result<Bytes, Refusal>) {
        let proposal = self.proposals.borrow_mut().waiting.remove(&id);
        let Some(proposal) = proposal else {
            if !self.end_change(id, &outcome) {
                self.on_alarm_raised(id);
            }
            return;
        };
        self.count_proposal(&proposal, clock::now(), outcome.as_ref().err().copied());
        match outcome {
            Err(Refusal::NoSpace) => self.refuse_full(proposal.waiter),
            Err(Refusal::Timeout) => proposal.waiter.end(Err(self.timed_out(proposal.since))),
            outcome => proposal.waiter.end(outcome),
        }
    }

    fn count_proposal(&self, proposal: &Proposal, now: Instant, refusal: Option<Refusal>) {
        let meter = self.meter();
        meter.sheet.change(Name::ServerProposalsPending, -1);
        if matches!(refusal, Some(Refusal::NoLeader | Refusal::ProposalDropped | Refusal::Timeout)) {
            meter.sheet.add(Name::ServerProposalsFailedTotal, 1);
        }
        meter.answered(proposal.kind.into(), refusal.is_none(), now.saturating_duration_since(proposal.since));
    }
}

impl Waiter {
    pub(super) fn end(self, outcome: Result<Bytes, Refusal>) {
        match self {
            Self::Call(responder) => responder.send(outcome.map(Body::Message).map_err(refuse)),
            Self::Task(ticket) => ticket.end(outcome),
        }
    }
}
