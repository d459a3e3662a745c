//! Changes of the members as they are asked for: the member that is added, and the checks before a change is proposed.
//!
//! | request | checks, in this order |
//! |---|---|
//! | MemberAdd | its URLs; strict: enough have started, enough are connected |
//! | MemberRemove | strict: enough have started, enough stay connected |
//! | MemberUpdate | its URLs |
//! | MemberPromote | the learner has caught up; strict: enough have started |
//!
//! Every member checks a change again when it is applied ([`Membership::check`]).

use crate::{
    base::{go_url, refusal::Refusal},
    cluster::{
        change::Change,
        ids::{MemberSalt, member_id},
        membership::{Member, Membership},
        rules,
    },
};

/// The part of the leader's log that a learner must have to be promoted.
const READY_PERCENT: u64 = 90;

/// The member that a MemberAdd asks for.
///
/// # Errors
/// Its URLs are none of members.
pub fn added(peer_urls: &[String], is_learner: bool, unix_seconds: i64) -> Result<Member, Refusal> {
    let urls = peer_urls.iter().map(|url| go_url::parse(url)).collect::<Result<Vec<_>, _>>();
    let mut urls: Vec<String> = urls.map_err(|_| Refusal::MemberBadUrls)?.iter().map(ToString::to_string).collect();
    if urls.is_empty() {
        return Err(Refusal::MemberBadUrls);
    }
    urls.sort_unstable();
    let id = member_id(&urls, MemberSalt::AddedAt { unix_seconds });
    Ok(Member { id, peer_urls: urls, is_learner, ..Member::default() })
}

/// Checks the peer URLs that a MemberUpdate gives. etcd takes any, and ends all of its members over bad ones.
///
/// # Errors
/// They are none of members.
pub fn check_urls(peer_urls: &[String]) -> Result<(), Refusal> {
    let are_good = !peer_urls.is_empty() && peer_urls.iter().all(|url| go_url::parse(url).is_ok());
    if are_good { Ok(()) } else { Err(Refusal::MemberBadUrls) }
}

/// Who is connected to the member that is asked.
pub struct Links<'a> {
    /// Whether a member is.
    pub is_connected: &'a dyn Fn(u64) -> bool,
    /// Whether it has been for long enough to count.
    pub is_steady: &'a dyn Fn(u64) -> bool,
}

/// What `--strict-reconfig-check` demands of a change.
///
/// # Errors
/// The quorum could be lost.
pub fn check_strictly(membership: &Membership, change: &Change, links: &Links<'_>) -> Result<(), Refusal> {
    membership.check_started(change)?;
    let voters = membership.members().filter(|member| !member.is_learner);
    let local_id = membership.local_id;
    let (voters, connected) = voters.fold((0, 0), |(voters, connected), member| {
        let counts = member.id == local_id || (links.is_steady)(member.id);
        (voters + 1, connected + usize::from(counts))
    });
    match change {
        Change::Add { .. } => rules::check_adding(voters, connected),
        Change::Remove { id } if membership.member(*id).is_some_and(|member| member.is_learner) => Ok(()),
        Change::Remove { id } if *id != local_id && !(links.is_connected)(*id) => Ok(()),
        Change::Remove { .. } => rules::check_removing(voters, connected),
        Change::Promote { .. } | Change::Update { .. } => Ok(()),
    }
}

/// Whether a member may be promoted that has the leader's log up to `matched`, of which the leader has `leader_matched`.
///
/// # Errors
/// It has not caught up, or consensus does not know it.
pub fn check_ready(matched: Option<u64>, leader_matched: u64) -> Result<(), Refusal> {
    let matched = matched.ok_or(Refusal::MemberNotFound)?;
    let is_ready = u128::from(matched) * 100 >= u128::from(leader_matched) * u128::from(READY_PERCENT);
    if is_ready { Ok(()) } else { Err(Refusal::LearnerNotReady) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|&url| url.to_owned()).collect()
    }

    #[test]
    fn urls_are_taken_as_by_etcd() {
        let member = added(&urls(&[" http://b:2 ", "http://a:1"]), true, 5).expect("good URLs");
        assert_eq!(member.peer_urls, ["http://a:1", "http://b:2"]);
        assert!(member.is_learner && !member.has_started());
        let other = added(&urls(&["http://a:1", "http://b:2"]), true, 6).expect("good URLs");
        assert_ne!(member.id, other.id, "the time enters the id");
        for bad in [&[][..], &[""], &["a:1"], &["http://a"], &["ftp://a:1"], &["http://a:1/x"], &["http://a:1", ""]] {
            assert_eq!(added(&urls(bad), false, 5), Err(Refusal::MemberBadUrls), "{bad:?}");
            assert_eq!(check_urls(&urls(bad)), Err(Refusal::MemberBadUrls), "{bad:?}");
        }
    }

    /// Voters 1, 2, ... that have all started; 1 is asked.
    fn voters(count: u64) -> Membership {
        let mut members = Membership::new(1, 1);
        for id in 1..=count {
            let peer_urls = vec![format!("http://m:{id}")];
            assert!(members.add(Member { id, name: "n".into(), peer_urls, ..Member::default() }));
        }
        members
    }

    fn check(count: u64, change: &Change, connected: &[u64], steady: &[u64]) -> Result<(), Refusal> {
        let links = Links { is_connected: &|id| connected.contains(&id), is_steady: &|id| steady.contains(&id) };
        check_strictly(&voters(count), change, &links)
    }

    #[test]
    fn connections_count_once_they_are_steady() {
        let add = Change::Add { member: Member { id: 9, ..Member::default() }, votes: true };
        assert_eq!(check(1, &add, &[], &[]), Ok(()));
        assert_eq!(check(3, &add, &[2, 3], &[2]), Err(Refusal::Unhealthy));
        assert_eq!(check(3, &add, &[2, 3], &[2, 3]), Ok(()));
        let remove = Change::Remove { id: 3 };
        assert_eq!(check(3, &remove, &[2, 3], &[2]), Err(Refusal::Unhealthy));
        assert_eq!(check(3, &remove, &[2], &[]), Ok(()), "one that is down may go");
        assert_eq!(check(1, &Change::Remove { id: 1 }, &[], &[]), Err(Refusal::MemberNotEnoughStarted));
    }

    #[test]
    fn learners_need_nine_tenths_of_the_log() {
        assert_eq!(check_ready(Some(90), 100), Ok(()));
        assert_eq!(check_ready(Some(89), 100), Err(Refusal::LearnerNotReady));
        assert_eq!(check_ready(Some(0), 0), Ok(()));
        assert_eq!(check_ready(None, 100), Err(Refusal::MemberNotFound));
    }
}
