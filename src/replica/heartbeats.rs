//! Whether a leader's heartbeats leave it in time: two intervals after the one before, as etcd expects.

use std::collections::BTreeMap;

use super::{Effect, Effects, Note, Replica};
use crate::proto::raftpb::{Message, MessageType};

/// When the last heartbeat to each member left.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(BTreeMap<u64, u64>);

impl Heartbeats {
    /// Another leader, or another term, begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A heartbeat leaves: by how much it is late.
    fn leaves(&mut self, to: u64, now_ms: u64, expected_ms: u64) -> Option<u64> {
        let last_ms = self.0.insert(to, now_ms)?;
        let exceeded_ms = now_ms.saturating_sub(last_ms + expected_ms);
        (exceeded_ms > 0).then_some(exceeded_ms)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut heartbeats = Heartbeats::default();
        assert_eq!(heartbeats.leaves(2, 1000, 200), None, "the first one");
        assert_eq!(heartbeats.leaves(2, 1200, 200), None);
        assert_eq!(heartbeats.leaves(3, 1250, 200), None, "another member");
        assert_eq!(heartbeats.leaves(2, 1450, 200), Some(50));
        heartbeats.clear();
        assert_eq!(heartbeats.leaves(2, 9000, 200), None);
    }
}
