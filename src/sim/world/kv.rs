//! Clients of keys: registers, whose history is searched for an order, and writers of everything else.

use bytes::Bytes;
use rand::Rng;

use super::{
    World,
    state::{Op, Pending},
};
use crate::{
    apply::request::Kind as RequestKind,
    mvcc::{self, RangeOptions},
    proto::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
            compare::{CompareTarget, TargetUnion},
            request_op::Request as Part,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    replica::Request,
    sim::{
        checkers::{
            linearizable::{Action, NOTHING, Operation, Outcome},
            transaction,
        },
        story::Kind,
    },
};

const REGISTERS: u64 = 3;
const KEYS: u64 = 8;

impl World {
    // Registers.

    pub(super) fn use_register(&mut self, client: usize) -> Result<(), String> {
        let random = &mut self.chance.clients;
        let key = Bytes::from(format!("r{}", random.random_range(0..REGISTERS)));
        let choice = random.random_range(0..8);
        if choice < 4 {
            let register = Some(self.add_register(client, &key, Action::Read));
            let range = RangeRequest { key, ..RangeRequest::default() };
            return self.ask_any(client, Op::Read { range, register }, |context| Request::ReadIndex { context });
        }
        let new = self.id();
        let put = self.put_of(&key, new);
        if choice < 6 {
            let register = Some(self.add_register(client, &key, Action::Put(new)));
            return self.put(client, put, register);
        }
        // The value that the client believes to be there, from what it has seen last.
        let known = self.registers.iter().rev().filter(|operation| operation.key.as_bytes() == &key[..]);
        let old = known.clone().find_map(shown_value).unwrap_or(NOTHING);
        if old == NOTHING {
            return Ok(());
        }
        let register = Some(self.add_register(client, &key, Action::Swap { old, new }));
        let current = self.value_text(&key, old);
        let request = TxnRequest {
            compare: vec![compare(&key, CompareTarget::Value, TargetUnion::Value(current))],
            success: vec![part(Part::RequestPut(put))],
            failure: vec![part(Part::RequestRange(RangeRequest { key, ..RangeRequest::default() }))],
        };
        self.txn(client, request, register)
    }

    fn add_register(&mut self, client: usize, key: &Bytes, action: Action) -> usize {
        self.registers.push(Operation {
            connection: client as u64,
            key: String::from_utf8_lossy(key).into_owned(),
            called: 0,
            returned: u64::MAX,
            action,
            outcome: Outcome::Unknown,
        });
        self.registers.len() - 1
    }

    fn put_of(&mut self, key: &Bytes, number: u64) -> PutRequest {
        let value = self.value_text(key, number);
        PutRequest { key: key.clone(), value, ..PutRequest::default() }
    }

    /// The value of a number: the number, and as much more as the key is worth.
    fn value_text(&self, key: &[u8], number: u64) -> Bytes {
        let more = number as usize * 7919 % (self.options.load.value_bytes_max + 1);
        let more = if key.starts_with(b"r") { more.min(64) } else { more };
        format!("{number}-{}", "x".repeat(more)).into()
    }

    // Writers.

    pub(super) fn use_keys(&mut self, client: usize) -> Result<(), String> {
        match self.chance.clients.random_range(0..20) {
            0..6 => {
                let (key, number) = (self.any_key(), self.id());
                let put = self.put_of(&key, number);
                self.put(client, put, None)
            }
            6..8 => {
                let (key, range_end) = self.any_span();
                let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
                let request = TxnRequest {
                    success: vec![part(Part::RequestDeleteRange(delete.clone()))],
                    ..TxnRequest::default()
                };
                let op = Op::Write { request, is_txn: false, register: None };
                self.ask_any(client, op, |id| Self::proposal(id, RequestKind::DeleteRange, &delete))
            }
            8..13 => {
                let request = self.any_txn(2);
                self.txn(client, request, None)
            }
            13..16 => {
                let (key, range_end) = self.any_span();
                let range = RangeRequest { key, range_end, ..RangeRequest::default() };
                self.ask_any(client, Op::Read { range, register: None }, |context| Request::ReadIndex { context })
            }
            _ => self.read_serializable(),
        }
    }

    fn any_key(&mut self) -> Bytes {
        format!("k{}", self.chance.clients.random_range(0..KEYS)).into()
    }

    /// One key, or a range.
    fn any_span(&mut self) -> (Bytes, Bytes) {
        let key = self.any_key();
        match self.chance.clients.random_range(0..3) {
            0 => (key, "k6".into()),
            _ => (key, Bytes::new()),
        }
    }

    /// A transaction that writes no key twice.
    fn any_txn(&mut self, depth: u32) -> TxnRequest {
        let mut keys: Vec<u64> = (0..KEYS).collect();
        self.branches(depth, &mut keys)
    }

    fn branches(&mut self, depth: u32, keys: &mut Vec<u64>) -> TxnRequest {
        let compare = (0..self.chance.clients.random_range(0..3)).map(|_| self.any_compare()).collect();
        let mut other = keys.clone();
        let success = self.any_parts(depth, keys);
        let failure = self.any_parts(depth, &mut other);
        keys.retain(|key| other.contains(key));
        TxnRequest { compare, success, failure }
    }

    fn any_compare(&mut self) -> Compare {
        let key = self.any_key();
        let revision = self.journal.newest();
        let known = self.journal.at(&key, revision).cloned().unwrap_or_default();
        match self.chance.clients.random_range(0..4) {
            0 => compare(&key, CompareTarget::Value, TargetUnion::Value(known.value)),
            1 => compare(&key, CompareTarget::Create, TargetUnion::CreateRevision(known.create_revision)),
            2 => compare(&key, CompareTarget::Mod, TargetUnion::ModRevision(known.mod_revision)),
            _ => compare(&key, CompareTarget::Version, TargetUnion::Version(known.version)),
        }
    }

    fn any_parts(&mut self, depth: u32, keys: &mut Vec<u64>) -> Vec<RequestOp> {
        let count = self.chance.clients.random_range(0..4);
        let mut parts = Vec::new();
        for _ in 0..count {
            let choice = self.chance.clients.random_range(0..6);
            if choice == 0 && depth > 0 {
                parts.push(part(Part::RequestTxn(self.branches(depth - 1, keys))));
                continue;
            }
            if choice == 1 {
                let (key, range_end) = self.any_span();
                parts.push(part(Part::RequestRange(RangeRequest { key, range_end, ..RangeRequest::default() })));
                continue;
            }
            if keys.is_empty() {
                break;
            }
            let at = self.chance.clients.random_range(0..keys.len());
            let key = Bytes::from(format!("k{}", keys.swap_remove(at)));
            let number = self.id();
            parts.push(match choice {
                2 => part(Part::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })),
                _ => part(Part::RequestPut(self.put_of(&key, number))),
            });
        }
        parts
    }

    // Calls.

    pub(super) fn put(&mut self, client: usize, put: PutRequest, register: Option<usize>) -> Result<(), String> {
        let request = TxnRequest { success: vec![part(Part::RequestPut(put.clone()))], ..TxnRequest::default() };
        let op = Op::Write { request, is_txn: false, register };
        self.ask_any(client, op, |id| Self::proposal(id, RequestKind::Put, &put))
    }

    pub(super) fn txn(&mut self, client: usize, request: TxnRequest, register: Option<usize>) -> Result<(), String> {
        let op = Op::Write { request: request.clone(), is_txn: true, register };
        self.ask_any(client, op, |id| Self::proposal(id, RequestKind::Txn, &request))
    }

    /// A read of what one member has, at its revision or an earlier one.
    fn read_serializable(&mut self) -> Result<(), String> {
        let (key, range_end) = self.any_span();
        let Some((member, _)) = self.any_running() else { return Ok(()) };
        let view = self.machines[&member].member.view().expect("it runs");
        let newest = view.kv.revision();
        let oldest = view.kv.compact_revision().max(1);
        let at = match self.chance.clients.random() {
            true => newest,
            false => self.chance.clients.random_range(oldest.min(newest)..=newest),
        };
        let range = RangeRequest { key, range_end, revision: at, ..RangeRequest::default() };
        let kvs = self.look(member, &range)?;
        self.counts.serializable += 1;
        transaction::check_range(&self.journal, &range, at, &kvs)
            .map_err(|what| format!("serializable at member {member}: {what}"))
    }

    /// What a member shows of a range.
    fn look(&self, member: u64, range: &RangeRequest) -> Result<Vec<KeyValue>, String> {
        let view = self.machines[&member].member.view().expect("it has just answered");
        let options = RangeOptions {
            key: range.key.clone(),
            range_end: range.range_end.clone(),
            revision: range.revision,
            limit: range.limit,
            max_create_revision: range.max_create_revision,
            ..RangeOptions::default()
        };
        let found =
            mvcc::collect(&view.kv, &options).map_err(|error| format!("member {member} cannot read: {error}"))?;
        Ok(found.kvs)
    }

    // Answers.

    pub(super) fn on_written(
        &mut self,
        pending: &Pending,
        request: &TxnRequest,
        register: Option<usize>,
        revision: i64,
        answer: Option<&TxnResponse>,
    ) -> Result<(), String> {
        transaction::check(&self.journal, request, revision, answer)?;
        let has_written = answer.is_none_or(|answer| answer.succeeded);
        let is_register = register.is_some();
        self.order.ended(pending.floor, revision, is_register && has_written)?;
        self.counts.writes += 1;
        let outcome = match answer {
            Some(answer) if !answer.succeeded => match answer.responses.first().and_then(|part| part.response.as_ref())
            {
                Some(Response::ResponseRange(range)) => {
                    Outcome::Saw { value: number_of(&range.kvs), revision: revision as u64 }
                }
                _ => Outcome::Unknown,
            },
            _ => Outcome::Wrote { revision: revision as u64 },
        };
        self.end_register(register, outcome);
        Ok(())
    }

    pub(super) fn on_read(
        &mut self,
        id: u64,
        pending: &Pending,
        range: &RangeRequest,
        register: Option<usize>,
    ) -> Result<Vec<KeyValue>, String> {
        let kvs = self.look(pending.member, range)?;
        let revision = self.machines[&pending.member].member.view().expect("it has just answered").kv.revision();
        self.note(Kind::Client, format!("#{id} reads {} keys at revision {revision}", kvs.len()));
        let is_whole = range.max_create_revision == 0;
        if is_whole {
            transaction::check_range(&self.journal, range, revision, &kvs)
                .map_err(|what| format!("request {id} at member {}: {what}", pending.member))?;
        }
        self.order
            .ended(pending.floor, revision, false)
            .map_err(|what| format!("request {id} at member {}: {what}", pending.member))?;
        self.counts.reads += 1;
        self.end_register(register, Outcome::Saw { value: number_of(&kvs), revision: revision as u64 });
        Ok(kvs)
    }

    fn end_register(&mut self, register: Option<usize>, outcome: Outcome) {
        if let Some(at) = register {
            self.ticks += 1;
            let operation = &mut self.registers[at];
            (operation.returned, operation.outcome) = (self.ticks, outcome);
        }
    }
}

pub(super) fn part(request: Part) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(key: &Bytes, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare { key: key.clone(), target: target.into(), target_union: Some(union), ..Compare::default() }
}

/// The number in the value of the first key, if there is one.
fn number_of(kvs: &[KeyValue]) -> u64 {
    let text = kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
    text.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(NOTHING)
}

/// The value that an operation has left or shown.
fn shown_value(operation: &Operation) -> Option<u64> {
    match (operation.outcome, operation.action) {
        (Outcome::Saw { value, .. }, _) => Some(value),
        (Outcome::Wrote { .. }, Action::Put(new) | Action::Swap { new, .. }) => Some(new),
        _ => None,
    }
}
