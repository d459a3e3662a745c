//! Read requests between the question and the answer.
//!
//! On the wire a context is the asking member, a number of this start of it, and the caller's context: the crate
//! counts acknowledgements per context, so two members, or one member before and after a restart, must never use
//! the same.

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use raft::eraftpb;

use super::convert;
use super::input::{DropReason, Effect, Effects};
use crate::base::limits;

const WIRE_CONTEXT_BYTES: usize = 24;

pub(super) struct Reads {
    member_id: u64,
    start_number: u64,
    /// Contexts of this member without an answer.
    outstanding: BTreeSet<u64>,
    /// Requests of any member that came before the leader's first commit of its term. The crate would drop them.
    waiting: Vec<eraftpb::Message>,
}

impl Reads {
    pub fn new(member_id: u64, start_number: u64) -> Self {
        Reads { member_id, start_number, outstanding: BTreeSet::new(), waiting: Vec::new() }
    }

    /// Records a request of this member and returns its message.
    pub fn ask(&mut self, context: u64) -> eraftpb::Message {
        self.outstanding.insert(context);
        let mut wire = BytesMut::with_capacity(WIRE_CONTEXT_BYTES);
        wire.put_u64(self.member_id);
        wire.put_u64(self.start_number);
        wire.put_u64(context);
        let entry = convert::entry_of(eraftpb::EntryType::EntryNormal, wire.freeze());
        let mut message = eraftpb::Message::new();
        message.msg_type = eraftpb::MessageType::MsgReadIndex;
        message.entries = vec![entry].into();
        message
    }

    /// Keeps a request until the term's first commit.
    pub fn wait(&mut self, request: eraftpb::Message, effects: &mut Effects) {
        if self.waiting.len() < limits::RAFT_READS_WAITING_MAX {
            self.waiting.push(request);
            return;
        }
        let wire = request.entries[0].data.clone();
        if let Some(context) = self.settle(&wire) {
            let reason = DropReason::TooMany;
            effects.push(Effect::ReadDropped { context, reason });
        }
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn take_waiting(&mut self) -> Vec<eraftpb::Message> {
        std::mem::take(&mut self.waiting)
    }

    /// Forwards an answer, unless it is late or of another member.
    pub fn answer(&mut self, state: raft::ReadState, effects: &mut Effects) {
        let wire = Bytes::from(state.request_ctx);
        if let Some(context) = self.settle(&wire) {
            let index = state.index;
            effects.push(Effect::ReadReady { context, index });
        }
    }

    /// Drops all requests, because the leader or term has changed, and the crate has dropped its own records.
    pub fn drop_all(&mut self, effects: &mut Effects) {
        self.waiting.clear();
        let reason = DropReason::LeaderChanged;
        for context in std::mem::take(&mut self.outstanding) {
            effects.push(Effect::ReadDropped { context, reason });
        }
    }

    fn settle(&mut self, wire: &Bytes) -> Option<u64> {
        let (prefix, context) = wire.split_at_checked(WIRE_CONTEXT_BYTES - 8)?;
        let context = u64::from_be_bytes(context.try_into().ok()?);
        let mut ours = [0; WIRE_CONTEXT_BYTES - 8];
        ours[..8].copy_from_slice(&self.member_id.to_be_bytes());
        ours[8..].copy_from_slice(&self.start_number.to_be_bytes());
        (prefix == ours && self.outstanding.remove(&context)).then_some(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(request: &eraftpb::Message) -> raft::ReadState {
        raft::ReadState { index: 5, request_ctx: request.entries[0].data.to_vec() }
    }

    #[test]
    fn a_context_is_answered_once_and_only_here() {
        let mut effects = Effects::new();
        let mut reads = Reads::new(1, 77);
        let request = reads.ask(9);
        Reads::new(2, 77).answer(state_of(&request), &mut effects);
        Reads::new(1, 78).answer(state_of(&request), &mut effects);
        assert_eq!(effects, []);
        reads.answer(state_of(&request), &mut effects);
        reads.answer(state_of(&request), &mut effects);
        let ready = Effect::ReadReady { context: 9, index: 5 };
        assert_eq!(effects, [ready]);
    }

    #[test]
    fn waiting_is_bounded() {
        let mut effects = Effects::new();
        let mut reads = Reads::new(1, 0);
        let max = limits::RAFT_READS_WAITING_MAX as u64;
        for context in 0..=max {
            let request = reads.ask(context);
            reads.wait(request, &mut effects);
        }
        let dropped = Effect::ReadDropped { context: max, reason: DropReason::TooMany };
        assert_eq!(effects, [dropped]);
        assert_eq!(reads.take_waiting().len() as u64, max);
    }
}
