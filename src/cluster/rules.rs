//! Which membership changes are allowed.
//!
//! | rule | asked | by |
//! |---|---|---|
//! | [`Membership::check`] | when a change is applied, by every member alike | what the members are |
//! | [`Membership::check_started`] | before it is proposed (`--strict-reconfig-check`) | which of them have ever started |
//! | [`check_adding`], [`check_removing`] | likewise | how many of them the asked one is connected to |
//!
//! A member has started once it has published its name.

use super::{
    change::Change,
    membership::{Member, Membership},
};
use crate::base::refusal::Refusal;

impl Membership {
    /// Whether a change is valid for these members.
    ///
    /// # Errors
    /// Why not, as the server that was asked answers it. The change then has no effect, and consensus is told so.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        if self.is_removed(change.id()) {
            return Err(Refusal::MemberNotFound);
        }
        let known = self.member(change.id());
        match change {
            Change::Add { .. } if known.is_some() => Err(Refusal::MemberExists),
            Change::Add { member, votes } => {
                self.check_peer_urls(&member.peer_urls, None)?;
                let is_learner = member.is_learner && !votes;
                if is_learner && self.learners() >= self.learners_max {
                    return Err(Refusal::TooManyLearners);
                }
                Ok(())
            }
            Change::Promote { .. } => match known {
                None => Err(Refusal::MemberNotFound),
                Some(member) if !member.is_learner => Err(Refusal::MemberNotLearner),
                Some(_) => Ok(()),
            },
            Change::Update { id, peer_urls } => {
                known.ok_or(Refusal::MemberNotFound)?;
                self.check_peer_urls(peer_urls, Some(*id))
            }
            Change::Remove { .. } => known.map(drop).ok_or(Refusal::MemberNotFound),
        }
    }

    /// No two members have a peer URL in common. One member may name the same twice, as etcd lets it.
    fn check_peer_urls(&self, urls: &[String], except: Option<u64>) -> Result<(), Refusal> {
        let mut others = self.members().filter(|member| Some(member.id) != except);
        let is_taken = others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url)));
        if is_taken { Err(Refusal::PeerUrlExists) } else { Ok(()) }
    }

    /// Whether enough voters have started for a quorum of the voters there would be.
    ///
    /// # Errors
    /// They have not.
    pub fn check_started(&self, change: &Change) -> Result<(), Refusal> {
        let id = change.id();
        let count = |voters: &mut dyn Iterator<Item = &Member>| {
            voters.fold((0, 0), |(all, started), voter| (all + 1, started + usize::from(voter.has_started())))
        };
        let (voters, started) = match change {
            Change::Add { member, .. } if member.is_learner => return Ok(()),
            Change::Update { .. } => return Ok(()),
            Change::Add { .. } => {
                let (voters, started) = count(&mut self.voters());
                // A cluster of one grows, or is built again from what one member has.
                if (voters, started) == (1, 1) {
                    return Ok(());
                }
                (voters + 1, started)
            }
            Change::Promote { .. } => {
                let (voters, started) = count(&mut self.voters());
                (voters + 1, started + 1)
            }
            Change::Remove { .. } if self.member(id).is_some_and(|member| member.is_learner) => return Ok(()),
            Change::Remove { .. } => count(&mut self.voters().filter(|voter| voter.id != id)),
        };
        if started < quorum(voters) { Err(Refusal::MemberNotEnoughStarted) } else { Ok(()) }
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    fn learners(&self) -> usize {
        self.members().filter(|member| member.is_learner).count()
    }
}

/// Whether a member may be added, new and therefore not connected: `connected` of the `voters` are, the asked one among them.
///
/// # Errors
/// They would be no quorum. etcd asks it for learners, too.
pub fn check_adding(voters: usize, connected: usize) -> Result<(), Refusal> {
    if voters == 1 || connected >= quorum(voters + 1) { Ok(()) } else { Err(Refusal::Unhealthy) }
}

/// Whether a voter may be removed that is connected itself; one that is not may always be.
///
/// # Errors
/// The others that are connected would be no quorum.
pub fn check_removing(voters: usize, connected: usize) -> Result<(), Refusal> {
    let left = voters.saturating_sub(1);
    if connected.saturating_sub(1) < 1 + left / 2 { Err(Refusal::Unhealthy) } else { Ok(()) }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> Member {
        Member { id, name: name.into(), peer_urls: vec![format!("http://m:{id}")], ..Member::default() }
    }

    fn learner(id: u64) -> Member {
        Member { is_learner: true, ..member(id, "") }
    }

    /// Voters 1, 2, ..., of which the first `started` have started.
    fn voters(count: u64, started: u64) -> Membership {
        let mut members = Membership::new(1, 1);
        (1..=count).for_each(|id| assert!(members.add(member(id, if id <= started { "n" } else { "" }))));
        members
    }

    fn add(id: u64) -> Change {
        Change::Add { member: member(id, ""), votes: true }
    }

    fn add_learner(id: u64) -> Change {
        Change::Add { member: learner(id), votes: false }
    }

    fn update(id: u64, of: u64) -> Change {
        Change::Update { id, peer_urls: member(of, "").peer_urls }
    }

    #[test]
    fn a_removed_id_is_refused_whatever_is_asked() {
        let mut members = voters(2, 2);
        members.change(Change::Remove { id: 2 });
        for change in [add(2), add_learner(2), Change::Promote { id: 2 }, update(2, 9), Change::Remove { id: 2 }] {
            assert_eq!(members.check(&change), Err(Refusal::MemberNotFound), "{change:?}");
        }
    }

    #[test]
    fn members_are_added_once_with_urls_of_their_own() {
        let members = voters(2, 2);
        assert_eq!(members.check(&add(3)), Ok(()));
        assert_eq!(members.check(&add(2)), Err(Refusal::MemberExists));
        let taken = Member { peer_urls: vec!["http://new:1".into(), "http://m:1".into()], ..member(3, "") };
        assert_eq!(members.check(&Change::Add { member: taken, votes: true }), Err(Refusal::PeerUrlExists));
        let twice = Member { peer_urls: vec!["http://new:1".into(); 2], ..member(3, "") };
        assert_eq!(members.check(&Change::Add { member: twice, votes: true }), Ok(()));
    }

    #[test]
    fn learners_are_limited() {
        let mut members = voters(1, 1);
        assert_eq!(members.check(&add_learner(2)), Ok(()));
        members.change(add_learner(2));
        assert_eq!(members.check(&add_learner(3)), Err(Refusal::TooManyLearners));
        assert_eq!(members.check(&add(3)), Ok(()));
        members.learners_max = 2;
        assert_eq!(members.check(&add_learner(3)), Ok(()));
        members.learners_max = 1;
        members.change(Change::Promote { id: 2 });
        assert_eq!(members.check(&add_learner(3)), Ok(()));
    }

    #[test]
    fn only_learners_are_promoted() {
        let mut members = voters(1, 1);
        members.change(add_learner(2));
        assert_eq!(members.check(&Change::Promote { id: 2 }), Ok(()));
        assert_eq!(members.check(&Change::Promote { id: 1 }), Err(Refusal::MemberNotLearner));
        assert_eq!(members.check(&Change::Promote { id: 3 }), Err(Refusal::MemberNotFound));
    }

    #[test]
    fn members_move_to_urls_of_nobody_else() {
        let members = voters(2, 2);
        assert_eq!(members.check(&update(2, 9)), Ok(()));
        assert_eq!(members.check(&update(2, 2)), Ok(()), "where it is already");
        assert_eq!(members.check(&update(2, 1)), Err(Refusal::PeerUrlExists));
        assert_eq!(members.check(&update(3, 9)), Err(Refusal::MemberNotFound));
    }

    #[test]
    fn only_members_are_removed() {
        let members = voters(1, 1);
        assert_eq!(members.check(&Change::Remove { id: 1 }), Ok(()));
        assert_eq!(members.check(&Change::Remove { id: 2 }), Err(Refusal::MemberNotFound));
    }

    /// The table of etcd's tests for `IsReadyToAddVotingMember`, in counts: (voters, started, allowed).
    #[test]
    fn a_voter_is_added_where_enough_have_started() {
        let cases = [
            (0, 0, false),
            (1, 1, true),
            (2, 1, false),
            (2, 2, true),
            (3, 3, true),
            (3, 2, false),
            (3, 1, false),
            (1, 0, false),
            (4, 3, true),
        ];
        for (count, started, is_allowed) in cases {
            let outcome = voters(count, started).check_started(&add(9));
            assert_eq!(outcome.is_ok(), is_allowed, "{started} of {count}");
            assert!(voters(count, started).check_started(&add_learner(9)).is_ok());
            assert!(voters(count, started).check_started(&update(1, 9)).is_ok());
        }
        let mut members = voters(1, 1);
        members.change(add_learner(9));
        assert_eq!(members.check_started(&add(8)), Ok(()), "learners do not count");
    }

    /// Likewise for `IsReadyToRemoveVotingMember`: (voters, started, removed, allowed).
    #[test]
    fn a_voter_is_removed_where_a_quorum_stays() {
        let cases = [
            (1, 1, 1, false),
            (1, 0, 1, false),
            (2, 2, 2, true),
            (2, 1, 2, true),
            (2, 1, 1, false),
            (3, 3, 3, true),
            (3, 2, 3, true),
            (3, 2, 1, false),
            (4, 3, 1, true),
            (4, 2, 1, false),
        ];
        for (count, started, id, is_allowed) in cases {
            let outcome = voters(count, started).check_started(&Change::Remove { id });
            assert_eq!(outcome.is_ok(), is_allowed, "{id} of {count}, {started} started");
        }
        let mut members = voters(2, 1);
        members.change(add_learner(9));
        assert_eq!(members.check_started(&Change::Remove { id: 9 }), Ok(()), "learners may always go");
    }

    /// Likewise for `IsReadyToPromoteMember`: (voters, started, allowed).
    #[test]
    fn a_learner_is_promoted_where_enough_have_started() {
        let cases =
            [(1, 1, true), (1, 0, false), (2, 2, true), (2, 1, true), (2, 0, false), (3, 2, true), (3, 1, false)];
        for (count, started, is_allowed) in cases {
            let mut members = voters(count, started);
            members.change(add_learner(9));
            let outcome = members.check_started(&Change::Promote { id: 9 });
            assert_eq!(outcome.is_ok(), is_allowed, "{started} of {count}");
        }
    }

    #[test]
    fn a_quorum_stays_connected() {
        assert!(check_adding(1, 1).is_ok());
        assert!(check_adding(2, 2).is_ok());
        assert_eq!(check_adding(2, 1), Err(Refusal::Unhealthy));
        assert!(check_adding(3, 3).is_ok());
        assert_eq!(check_adding(3, 2), Err(Refusal::Unhealthy));
        assert!(check_adding(4, 3).is_ok());
        assert!(check_removing(3, 3).is_ok());
        assert_eq!(check_removing(3, 2), Err(Refusal::Unhealthy));
        assert!(check_removing(5, 4).is_ok());
        assert_eq!(check_removing(5, 3), Err(Refusal::Unhealthy));
    }
}
