//! Clients with leases: they grant one, attach a key, renew it for a while, and then revoke it or let it end.

use rand::Rng;

use super::{
    World,
    state::{Leasing, Op, Pending, Task},
};
use crate::{
    apply::request::Kind as RequestKind,
    base::refusal::Refusal,
    lease::Renewal,
    proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest, request_op},
    replica::lease_questions::LeaseAnswer,
    sim::{checkers::leases::key_of, story::Kind},
};

impl World {
    pub(super) fn use_lease(&mut self, client: usize) -> Result<(), String> {
        let Task::Lease(leasing) = self.clients[client].task else { unreachable!("only those have leases") };
        match leasing {
            Leasing::Idle => {
                let ttl_s = self.chance.clients.random_range(2..6);
                self.grant(client, ttl_s).map(|_| ())
            }
            Leasing::Granted { lease, is_attached: false, .. } => self.attach(client, lease),
            Leasing::Granted { next_us, .. } if self.now_us < next_us => Ok(()),
            Leasing::Granted { lease, renewals: 0, .. } => {
                self.clients[client].task = Task::Lease(Leasing::Idle);
                match self.chance.clients.random() {
                    true => self.revoke(client, lease),
                    false => Ok(()),
                }
            }
            Leasing::Granted { lease, .. } => self.renew(client, lease),
        }
    }

    /// Asks for a lease. Returns its id.
    pub(super) fn grant(&mut self, client: usize, ttl_s: i64) -> Result<i64, String> {
        let lease = self.id().cast_signed();
        let ttl_ms = (ttl_s.max(self.shortest_ttl_s())).unsigned_abs() * 1000;
        self.leases.on_grant(lease, ttl_ms, self.now_us, self.jumped_us);
        let request = LeaseGrantRequest { id: lease, ttl: ttl_s };
        if let Task::Lease(leasing) = &mut self.clients[client].task {
            *leasing = Leasing::Idle;
        }
        self.ask_any(client, Op::Grant { lease }, |id| Self::proposal(id, RequestKind::LeaseGrant, &request))?;
        Ok(lease)
    }

    fn shortest_ttl_s(&self) -> i64 {
        (3 * self.options.knobs.election_ms / 2).div_ceil(1000).cast_signed()
    }

    pub(super) fn on_granted(&mut self, client: usize, lease: i64) {
        let renewals = self.chance.clients.random_range(0..12);
        let now_us = self.now_us;
        match &mut self.clients[client].task {
            Task::Lease(leasing) => {
                let ttl_ms = 2000;
                *leasing = Leasing::Granted { lease, ttl_ms, is_attached: false, renewals, next_us: now_us };
            }
            Task::Lock(locking) => locking.lease = Some(lease),
            _ => {}
        }
    }

    fn attach(&mut self, client: usize, lease: i64) -> Result<(), String> {
        if let Task::Lease(Leasing::Granted { is_attached, .. }) = &mut self.clients[client].task {
            *is_attached = true;
        }
        let value = self.id().to_string().into();
        let put = PutRequest { key: key_of(lease), value, lease, ..PutRequest::default() };
        let part = RequestOp { request: Some(request_op::Request::RequestPut(put.clone())) };
        let request = TxnRequest { success: vec![part], ..TxnRequest::default() };
        let op = Op::Write { request, is_txn: false, register: None };
        self.ask_any(client, op, |id| Self::proposal(id, RequestKind::Put, &put))
    }

    /// Renews a lease where the client believes the leader to be.
    pub(super) fn renew(&mut self, client: usize, lease: i64) -> Result<(), String> {
        let Some((member, _)) = self.any_running() else { return Ok(()) };
        let leader = self.machines[&member].member.view().map_or(0, |view| view.raft.leader);
        let at = match self.machines.get(&leader) {
            Some(machine) if machine.member.is_running() => leader,
            _ => member,
        };
        self.ask(client, at, Op::Renew { lease }, |id| Self::renewal(id, lease))
    }

    pub(super) fn revoke(&mut self, client: usize, lease: i64) -> Result<(), String> {
        self.leases.on_revoke(lease);
        let request = LeaseRevokeRequest { id: lease };
        self.ask_any(client, Op::Revoke { lease }, |id| Self::proposal(id, RequestKind::LeaseRevoke, &request))
    }

    pub(super) fn on_renewal(&mut self, pending: &Pending, lease: i64, answer: &LeaseAnswer, is_awaited: bool) {
        let LeaseAnswer::Renewed { ttls, stopped } = answer else { return };
        let now_us = self.now_us;
        if !ttls.is_empty() {
            self.leases.on_renewed(lease, pending.called_us, pending.jumped_us);
            self.counts.lease_renewals += 1;
            self.note(Kind::Client, format!("lease {lease} is renewed at member {}", pending.member));
        }
        let is_over = matches!(stopped, Some(Renewal::Unknown | Renewal::Expired));
        match &mut self.clients[pending.client].task {
            Task::Lease(leasing) if is_awaited => match leasing {
                Leasing::Granted { lease: own, .. } if *own == lease && is_over => *leasing = Leasing::Idle,
                Leasing::Granted { lease: own, ttl_ms, renewals, next_us, .. } if *own == lease => {
                    *renewals = renewals.saturating_sub(1);
                    *next_us = now_us + *ttl_ms * 1000 / 4;
                }
                _ => {}
            },
            Task::Lock(locking) if is_awaited && is_over && locking.lease == Some(lease) => locking.give_up(),
            _ => {}
        }
    }

    /// A request was refused: a client whose lease is gone begins again.
    pub(super) fn on_refused(&mut self, client: usize, op: &Op, refusal: Refusal) -> Result<(), String> {
        let has_lost = refusal == Refusal::LeaseNotFound;
        match &mut self.clients[client].task {
            Task::Lease(leasing) if has_lost => *leasing = Leasing::Idle,
            Task::Lock(locking) if has_lost => locking.give_up(),
            Task::Lease(leasing) if matches!(op, Op::Write { .. }) => *leasing = Leasing::Idle,
            _ => {}
        }
        Ok(())
    }
}
