//! Compares the members' data: at a start, in intervals, and after compactions. The last two run on every member and do something
//! on the leader only.

use std::{rc::Rc, time::Duration};

use prost::Message;

use crate::{
    apply::request::Kind,
    base::refusal::Refusal,
    os::{self, clock},
    proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction},
    service::corruption::{self, Hash, Verdict},
    services::Services,
};

/// Other members contradict this one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Contradiction {
    text: String,
    /// A majority of all members has the same other data.
    pub by_majority: bool,
}

impl Contradiction {
    fn alone(text: String) -> Self {
        Self { text, by_majority: false }
    }
}

/// Compares a member with the others before it serves, by what it has on its disk. Members that do not answer are left out.
///
/// # Errors
/// Another member has other data at the same place.
pub async fn check_at_start(front: &Services) -> Result<(), Contradiction> {
    let local_id = format!("{:x}", front.shared().view.load().membership.local_id);
    tracing::info!(local_member_id = local_id, "starting initial corruption check");
    let failed = |refusal| Contradiction::alone(format!("{local_id} failed to fetch hash ({refusal})"));
    let own = front.own_hash().await.map_err(failed)?;
    let answers = front.hashes_of_others(own.revision).await;
    for answer in &answers {
        if let Some(other) = answer.found.filter(|other| other.hash != own.hash) {
            let is_other_place = other.compact_revision != own.compact_revision;
            let remote_peer_id = format!("{:x}", answer.id);
            tracing::warn!(
                ?own,
                ?other,
                remote_peer_id,
                is_other_place,
                "found different hash values from remote peer"
            );
        }
    }
    if corruption::mismatches(&own, &answers) > 0 {
        let by_majority = corruption::is_outvoted(&own, &answers);
        return Err(Contradiction { text: format!("{local_id} found data inconsistency with peers"), by_majority });
    }
    tracing::info!(local_member_id = local_id, "initial corruption checking passed; no corruption");
    Ok(())
}

/// Compares the members' newest data every so often (`--corrupt-check-time`). Zero: never.
pub async fn check_periodically(front: Rc<Services>, every: Duration) {
    if every.is_zero() {
        return;
    }
    tracing::info!(interval = ?every, "enabled corruption checking");
    loop {
        os::sleep(every).await;
        if front.leads()
            && let Err(error) = compare_newest(&front).await
        {
            tracing::warn!(%error, "failed to check hash KV");
        }
    }
}

async fn compare_newest(front: &Rc<Services>) -> Result<(), Refusal> {
    let first = front.own_hash().await?;
    let answers = front.hashes_of_others(first.revision).await;
    front.confirmed(clock::now()).await?;
    let second = front.own_hash().await?;
    let local_id = front.shared().view.load().membership.local_id;
    if let Some((id, reason)) = corruption::find(local_id, &first, &second, &answers) {
        let answer = answers.iter().find(|answer| answer.id == id).and_then(|answer| answer.found);
        tracing::warn!(member_id = format!("{id:x}"), ?first, ?second, ?answer, "{reason}");
        raise(front, id);
    }
    let checked = answers.iter().filter(|answer| answer.found.is_some()).count();
    tracing::info!(number_of_peers_checked = checked, "finished peer corruption check");
    Ok(())
}

/// Compares the hashes of the members' last compactions every so often (`--compact-hash-check-time`).
pub async fn check_compactions(front: Rc<Services>, every: Duration) {
    let mut checked_up_to = 0;
    loop {
        os::sleep(every).await;
        if front.leads() {
            compare_compactions(&front, &mut checked_up_to).await;
        }
    }
}

/// From the newest compaction to the oldest that was not compared yet, until one can be judged.
async fn compare_compactions(front: &Rc<Services>, checked_up_to: &mut i64) {
    let (local_id, hashes) = {
        let view = front.shared().view.load();
        (view.membership.local_id, view.kv.compaction_hashes().to_vec())
    };
    tracing::info!(local_member_id = format!("{local_id:x}"), "starting compact hash check");
    let mut count = 0;
    for known in hashes.iter().rev().filter(|known| known.revision > *checked_up_to) {
        count += 1;
        let (hash, compact_revision, revision) = (known.hash, known.compact_revision, known.revision);
        let own = Hash { hash, compact_revision, revision, newest: revision };
        let answers = front.hashes_of_others(revision).await;
        if answers.is_empty() {
            continue;
        }
        match corruption::compare(local_id, &own, &answers) {
            Verdict::Agreed => {
                let number_of_peers_checked = answers.len();
                tracing::info!(
                    number_of_peers_checked,
                    revision,
                    compact_revision,
                    "successfully checked hash on whole cluster"
                );
                *checked_up_to = revision.max(*checked_up_to);
                break;
            }
            Verdict::Incomplete { checked } => tracing::warn!(
                number_of_peers_checked = checked,
                number_of_peers = answers.len(),
                revision,
                compact_revision,
                "skipped revision in compaction hash check; was not able to check all peers"
            ),
            Verdict::Corrupt(ids) => {
                let peer_ids: Vec<String> = ids.iter().map(|id| format!("{id:x}")).collect();
                tracing::error!(
                    leader_hash = hash,
                    revision,
                    compact_revision,
                    ?peer_ids,
                    "Detected compaction hash mismatch"
                );
                ids.into_iter().for_each(|id| raise(front, id));
                break;
            }
        }
    }
    tracing::info!(number_of_hashes_checked = count, "finished compaction hash check");
}

/// Raises the alarm for a member, or for nobody in particular.
fn raise(front: &Rc<Services>, member_id: u64) {
    let (action, alarm) = (AlarmAction::Activate as i32, AlarmType::Corrupt as i32);
    let request = AlarmRequest { action, member_id, alarm };
    let front = Rc::clone(front);
    os::spawn_local(async move {
        if let Err(error) = front.propose(Kind::Alarm, &request.encode_to_vec()).await {
            tracing::warn!(member_id = format!("{member_id:x}"), %error, "failed to raise the CORRUPT alarm");
        }
    });
}
