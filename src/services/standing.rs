//! Where this member stands, for one that has lost its data and asks before it comes back.
//!
//! The answer follows a confirmed read, so the members in it are those of the moment of the question or later, and a member that was
//! removed before is heard no more here. Term and last entry are of after that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    apply::state,
    base::{
        limits::{FORWARD_PAUSE_MS, PEER_IMAGE_WAIT_MS_MAX},
        log_entry::ConfState,
        refusal::Refusal,
    },
    cluster::membership::Member,
    os::{self, clock},
    peer::Image,
    proto::raftpb,
    replica::Chore,
    services::Services,
};

pub const STANDING_PATH: &str = "/ringd/standing";

/// The answer, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingAnswer {
    pub cluster_id: u64,
    pub member_id: u64,
    pub term: u64,
    /// 0 if none is known.
    pub leader: u64,
    /// The last entry of the member's log.
    pub last_index: u64,
    /// Applied here.
    pub applied: u64,
    pub members: Vec<Member>,
}

impl Services {
    /// Where this member stands, after a confirmed read.
    ///
    /// # Errors
    /// There is no quorum.
    pub async fn standing(&self) -> Result<StandingAnswer, Refusal> {
        self.confirmed(clock::now()).await?;
        let standing = self.settled().await?;
        let view = self.shared.view.load();
        Ok(StandingAnswer {
            cluster_id: view.membership.cluster_id,
            member_id: view.membership.local_id,
            term: standing.term,
            leader: standing.leader,
            last_index: standing.last_index,
            applied: view.applied,
            members: view.membership.members().cloned().collect(),
        })
    }

    /// The state of a new commit that goes up to an entry at least.
    ///
    /// # Errors
    /// This member does not get there in time.
    pub async fn image(&self, index_min: u64) -> Result<Image, String> {
        let until = clock::now() + Duration::from_millis(PEER_IMAGE_WAIT_MS_MAX);
        while self.shared.view.load().applied < index_min {
            if clock::now() >= until {
                return Err(format!("entry {index_min} is not applied here yet"));
            }
            os::sleep(Duration::from_millis(FORWARD_PAUSE_MS)).await;
        }
        self.chore(Chore::Image).await.map_err(|refusal| refusal.to_string())?;
        let pages = self.shared.view.load().kv.records().pages().clone();
        let (index, term, conf_state) = state::mark(&pages).map_err(|error| error.to_string())?;
        if index < index_min {
            return Err(format!("the database goes up to entry {index} only"));
        }
        let mark =
            raftpb::SnapshotMetadata { conf_state: Some(on_wire(&conf_state)), index: Some(index), term: Some(term) };
        Ok(Image { mark, pages })
    }
}

fn on_wire(conf_state: &ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: Some(conf_state.auto_leave),
    }
}
