//! Clients: each asks for one thing at a time, and gives up after a time of its own.

use bytes::Bytes;
use prost::Message;
use rand::{Rng, seq::IndexedRandom};

use super::{
    World,
    state::{Client, Event, Leasing, LockState, Locking, Op, Pending, Task},
};
use crate::{
    apply::request::{self, Kind as RequestKind},
    auth::Requester,
    base::refusal::Refusal,
    proto::etcdserverpb::{CompactionResponse, DeleteRangeResponse, LeaseRevokeResponse, PutResponse, TxnResponse},
    replica::{
        Answer, Input, Request,
        lease_questions::{LeaseAnswer, LeaseQuestion},
    },
    sim::{checkers::transaction, story::Kind},
};

const GIVE_UP_US: std::ops::Range<u64> = 200_000..9_000_000;

/// An answer, as far as it concerns clients.
pub(super) enum Reply {
    Applied(Bytes),
    Confirmed,
    Lease(LeaseAnswer),
    Done,
    Refused(Refusal),
}

impl World {
    pub(super) fn add_clients(&mut self) {
        let load = self.options.load;
        let mut tasks: Vec<Task> = Vec::new();
        tasks.extend((0..load.registers).map(|_| Task::Register));
        tasks.extend((0..load.writers).map(|_| Task::Writer));
        for _ in 0..load.watchers {
            tasks.push(Task::Watcher(self.new_watching()));
        }
        tasks.extend((0..load.leases).map(|_| Task::Lease(Leasing::Idle)));
        let lock = || Locking { lease: None, contender: None, state: LockState::Apart, next_us: 0 };
        tasks.extend((0..load.locks).map(|_| Task::Lock(lock())));
        tasks.extend(load.operator.then_some(Task::Operator));
        tasks.extend(load.members.then_some(Task::Members));
        tasks.extend((0..load.readers).map(|_| Task::Reader(None)));
        for (client, task) in tasks.into_iter().enumerate() {
            self.clients.push(Client { task, waits_for: None, gives_up_us: 0 });
            self.soon(2_000_000, Event::Client { client });
        }
    }

    pub(super) fn on_client(&mut self, client: usize) -> Result<(), String> {
        let pace_us = self.options.load.pace_us;
        self.soon(2 * pace_us, Event::Client { client });
        let now_us = self.now_us;
        let state = &mut self.clients[client];
        if state.waits_for.is_some() && now_us >= state.gives_up_us {
            state.waits_for = None;
        }
        if state.waits_for.is_some() {
            return Ok(());
        }
        match &state.task {
            Task::Watcher(_) => self.watch(client),
            _ if self.is_quiet => Ok(()),
            Task::Register => self.use_register(client),
            Task::Writer => self.use_keys(client),
            Task::Lease(_) => self.use_lease(client),
            Task::Lock(_) => self.use_lock(client),
            Task::Reader(_) => self.read_long(client),
            Task::Operator => self.operate(client),
            Task::Members => self.change_members(client),
        }
    }

    /// A member that runs, for a client.
    pub(super) fn any_running(&mut self) -> Option<(u64, u64)> {
        let running = self.all_running();
        running.choose(&mut self.chance.clients).copied()
    }

    // Calls.

    /// Asks any member.
    pub(super) fn ask_any(
        &mut self,
        client: usize,
        op: Op,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<(), String> {
        match self.any_running() {
            Some((member, _)) => self.ask(client, member, op, request),
            None => Ok(()),
        }
    }

    /// Asks a member; `request` gets the id.
    pub(super) fn ask(
        &mut self,
        client: usize,
        member: u64,
        op: Op,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<(), String> {
        let id = self.id();
        let request = request(id);
        self.gives_up_at(client, id);
        if let Op::Write { register: Some(at), .. } | Op::Read { register: Some(at), .. } = op {
            self.ticks += 1;
            self.registers[at].called = self.ticks;
        }
        let epoch = self.machines[&member].member.epoch;
        let pending = Pending {
            client,
            member,
            epoch,
            called_us: self.now_us,
            jumped_us: self.jumped_us,
            floor: self.order.floor(),
            op,
        };
        self.describe_call(id, &pending);
        self.pending.insert(id, pending);
        // A member that stands still gets it later.
        let input = Input::Request { core: 0, request };
        if self.machines[&member].paused_until_us > self.now_us {
            self.at(0, Event::Step { member, epoch, input: Box::new(input) });
            return Ok(());
        }
        self.step(member, epoch, input)?;
        self.turn_soon(member);
        Ok(())
    }

    fn gives_up_at(&mut self, client: usize, id: u64) {
        let after_us = self.chance.clients.random_range(GIVE_UP_US);
        let gives_up_us = self.now_us + after_us;
        let client = &mut self.clients[client];
        (client.waits_for, client.gives_up_us) = (Some(id), gives_up_us);
    }

    fn describe_call(&mut self, id: u64, pending: &Pending) {
        let what = match &pending.op {
            Op::Write { request, .. } => transaction::described(request),
            Op::Read { range, .. } => format!("read {}", range.key.escape_ascii()),
            Op::Grant { lease } => format!("grant lease {lease}"),
            Op::Renew { lease } => format!("renew lease {lease}"),
            Op::Revoke { lease } => format!("revoke lease {lease}"),
            Op::Compact => "compact".to_owned(),
            Op::Chore => "flush or defragment".to_owned(),
            Op::Other => "operate".to_owned(),
        };
        self.note(Kind::Client, format!("#{id} client {} at member {}: {what}", pending.client, pending.member));
    }

    /// A proposal of a request.
    pub(super) fn proposal(id: u64, kind: RequestKind, message: &impl Message) -> Request {
        Request::Propose { id, data: request::wrap(id, kind, &message.encode_to_vec(), Requester::NOBODY) }
    }

    pub(super) fn renewal(id: u64, lease: i64) -> Request {
        Request::Leases { questions: vec![(id, LeaseQuestion::Renew { ids: vec![lease] })] }
    }

    // Answers.

    pub(super) fn on_answer(&mut self, member: u64, epoch: u64, answer: Answer) -> Result<(), String> {
        let replies = match answer {
            Answer::Proposal { id, outcome: Ok(response) } => vec![(id, Reply::Applied(response))],
            Answer::Proposal { id, outcome: Err(refusal) } => vec![(id, Reply::Refused(refusal))],
            Answer::ReadConfirmed { context } => vec![(context, Reply::Confirmed)],
            Answer::ReadFailed { context, error } => vec![(context, Reply::Refused(error))],
            Answer::ChoreDone { id } => vec![(id, Reply::Done)],
            Answer::Leases { answers } => answers.into_iter().map(|(id, answer)| (id, Reply::Lease(answer))).collect(),
            Answer::Settled { .. } | Answer::Changes(_) | Answer::ChangesLost => Vec::new(),
        };
        for (id, reply) in replies {
            let is_its = |pending: &Pending| pending.member == member && pending.epoch == epoch;
            if self.pending.get(&id).is_some_and(is_its) {
                let pending = self.pending.remove(&id).expect("looked at above");
                self.on_reply(id, pending, reply)?;
            }
        }
        Ok(())
    }

    fn on_reply(&mut self, id: u64, pending: Pending, reply: Reply) -> Result<(), String> {
        let client = pending.client;
        // What comes after the client has given up is checked all the same: the client could have waited.
        let is_awaited = self.clients[client].waits_for == Some(id);
        if is_awaited {
            self.clients[client].waits_for = None;
        }
        if let Reply::Refused(refusal) = reply {
            self.counts.refused += 1;
            self.note(Kind::Client, format!("#{id} refused: {}", refusal.text()));
            return if is_awaited { self.on_refused(client, &pending.op, refusal) } else { Ok(()) };
        }
        match (&pending.op, reply) {
            (Op::Write { request, is_txn, register }, Reply::Applied(response)) => {
                let (revision, answer) = match *is_txn {
                    true => {
                        let answer = decoded::<TxnResponse>(response)?;
                        (answer.header.as_ref().map_or(0, |header| header.revision), Some(answer))
                    }
                    false => (header_revision(response)?, None),
                };
                self.note(Kind::Client, format!("#{id} done at revision {revision}"));
                self.on_written(&pending, request, *register, revision, answer.as_ref())?;
                if is_awaited {
                    self.on_lock_answer(client, revision, answer.as_ref())?;
                }
            }
            (Op::Read { range, register }, Reply::Confirmed) => {
                let kvs = self.on_read(id, &pending, range, *register)?;
                if is_awaited {
                    self.on_lock_read(client, &kvs)?;
                }
            }
            (Op::Grant { lease }, Reply::Applied(_)) => {
                self.leases.on_renewed(*lease, pending.called_us, pending.jumped_us);
                if is_awaited {
                    self.on_granted(client, *lease);
                }
            }
            (Op::Renew { lease }, Reply::Lease(answer)) => {
                self.on_renewal(&pending, *lease, &answer, is_awaited);
            }
            (Op::Revoke { lease }, Reply::Applied(response)) => {
                let revision = decoded::<LeaseRevokeResponse>(response)?.header.map_or(0, |header| header.revision);
                self.note(Kind::Client, format!("#{id} revoked at revision {revision}"));
                self.leases.on_revoked(&self.journal, *lease, revision)?;
                self.order.ended(pending.floor, revision, false)?;
            }
            (Op::Chore, Reply::Done) => self.counts.chores += 1,
            (Op::Compact, Reply::Applied(response)) => {
                let revision = decoded::<CompactionResponse>(response)?.header.map_or(0, |header| header.revision);
                self.order.ended(pending.floor, revision, false)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn decoded<M: Message + Default>(response: Bytes) -> Result<M, String> {
    M::decode(response).map_err(|error| format!("an answer cannot be read: {error}"))
}

/// The revision of the header, which a put and a deletion have in the same place.
fn header_revision(response: Bytes) -> Result<i64, String> {
    let of_put = PutResponse::decode(response.clone()).ok().and_then(|response| response.header);
    let header = of_put.or_else(|| DeleteRangeResponse::decode(response).ok().and_then(|response| response.header));
    header.map(|header| header.revision).ok_or("an answer has no header".to_owned())
}
