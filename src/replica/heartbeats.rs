//! Whether a leader's heartbeats leave it in time: two intervals after the one before, as etcd expects.

use super::{Effect, Effects, Note, Replica};
use crate::proto::raftpb::{Message, MessageType};

impl Replica {
    /// Notes a heartbeat that is late.
    pub(super) fn time_heartbeat(&mut self, message: &Message, effects: &mut Effects) {
        if message.r#type() != MessageType::MsgHeartbeat {
            return;
        }
        let (to, expected_ms) = (message.to(), 2 * self.settings.tick_ms);
        if let Some(exceeded_ms) = self.heartbeats.leaves(to, self.now_ms, expected_ms) {
            effects.push(Effect::Note(Note::HeartbeatLate { to, expected_ms, exceeded_ms }));
        }
    }
}
