//! Clients that take turns by the recipe of `service::lock`: a key under a lease each, and the oldest one holds the lock.

use bytes::Bytes;
use rand::Rng;

use super::{
    World,
    state::{LockState, Locking, Op, Task},
};
use crate::{
    apply::request::Kind as RequestKind,
    proto::{
        etcdserverpb::{DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, request_op},
        mvccpb::KeyValue,
    },
    replica::Request,
    service::lock::Contender,
    sim::story::Kind,
};

const NAME: &[u8] = b"lock";
const TTL_S: i64 = 3;
const RENEWAL_US: u64 = 700_000;

impl Locking {
    /// The lease is gone, or nobody needs it any more.
    pub fn give_up(&mut self) {
        (self.lease, self.contender, self.state) = (None, None, LockState::Apart);
    }
}

impl World {
    pub(super) fn use_lock(&mut self, client: usize) -> Result<(), String> {
        let (now_us, choice) = (self.now_us, self.chance.clients.random_range(0..8));
        let Task::Lock(locking) = &mut self.clients[client].task else { unreachable!("only those lock") };
        let Some(lease) = locking.lease else { return self.grant(client, TTL_S).map(|_| ()) };
        if now_us >= locking.next_us {
            locking.next_us = now_us + RENEWAL_US;
            return self.renew(client, lease);
        }
        let contender = locking.contender.get_or_insert_with(|| Contender::new(NAME, lease)).clone();
        match locking.state {
            LockState::Apart => self.txn(client, contender.join(), None),
            LockState::Waiting => self.read_lock(client, contender.next_before()),
            LockState::Confirming => {
                self.read_lock(client, RangeRequest { key: contender.key, ..RangeRequest::default() })
            }
            LockState::Holding if choice < 6 => Ok(()),
            LockState::Holding => {
                locking.give_up();
                match choice {
                    6 => self.leave(client, contender.key),
                    _ => self.revoke(client, lease),
                }
            }
        }
    }

    fn read_lock(&mut self, client: usize, range: RangeRequest) -> Result<(), String> {
        self.ask_any(client, Op::Read { range, register: None }, |context| Request::ReadIndex { context })
    }

    fn leave(&mut self, client: usize, key: Bytes) -> Result<(), String> {
        let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let part = RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete.clone())) };
        let request = TxnRequest { success: vec![part], ..TxnRequest::default() };
        let op = Op::Write { request, is_txn: false, register: None };
        self.ask_any(client, op, |id| Self::proposal(id, RequestKind::DeleteRange, &delete))
    }

    /// The contender has joined the queue.
    pub(super) fn on_lock_answer(
        &mut self,
        client: usize,
        revision: i64,
        answer: Option<&TxnResponse>,
    ) -> Result<(), String> {
        let Task::Lock(locking) = &mut self.clients[client].task else { return Ok(()) };
        let (Some(answer), Some(contender)) = (answer, &mut locking.contender) else { return Ok(()) };
        if locking.state != LockState::Apart {
            return Ok(());
        }
        match contender.on_joined(answer) {
            true => self.hold(client, revision),
            false => {
                locking.state = LockState::Waiting;
                Ok(())
            }
        }
    }

    /// A read of the queue has ended.
    pub(super) fn on_lock_read(&mut self, client: usize, kvs: &[KeyValue]) -> Result<(), String> {
        let Task::Lock(locking) = &mut self.clients[client].task else { return Ok(()) };
        match locking.state {
            LockState::Waiting if kvs.is_empty() => locking.state = LockState::Confirming,
            LockState::Confirming => match kvs.first() {
                Some(own) => {
                    let revision = own.mod_revision.max(self.order.floor());
                    return self.hold(client, revision);
                }
                None => locking.give_up(),
            },
            _ => {}
        }
        Ok(())
    }

    /// The client holds the lock from now on: at this revision nobody may be before it, if its key is still there.
    fn hold(&mut self, client: usize, revision: i64) -> Result<(), String> {
        let Task::Lock(locking) = &mut self.clients[client].task else { unreachable!("only those lock") };
        locking.state = LockState::Holding;
        let contender = locking.contender.as_ref().expect("it is in the queue");
        let (start, end) = (contender.prefix.clone(), Bytes::from_static(b"lock0"));
        self.counts.locks_held += 1;
        if let Some(own) = self.journal.at(&contender.key, revision) {
            let others = self.journal.range(&start, &end, revision);
            if let Some(older) = others.iter().find(|other| other.create_revision < own.create_revision) {
                return Err(format!("client {client} holds the lock at {revision}, and {:?} is older", older.key));
            }
        }
        self.note(Kind::Client, format!("client {client} holds the lock"));
        Ok(())
    }
}
