//! Changes of the members: a learner is added, started, promoted; a member is removed, or replaced by a new one.

use rand::{Rng, seq::IndexedRandom};

use super::{
    World,
    state::{Event, Op},
};
use crate::{
    cluster::{
        change::Change,
        membership::{Member as ClusterMember, Membership},
    },
    replica::Request,
    sim::{
        member::{Start, cluster_member},
        story::Kind,
    },
};

const VOTERS_MIN: usize = 2;
const VOTERS_MAX: usize = 6;
/// Machines in a run, those that are gone included.
const MACHINES_MAX: usize = 12;
/// One of so many turns of the client.
const RARELY: u32 = 8;

impl World {
    pub(super) fn change_members(&mut self, client: usize) -> Result<(), String> {
        if self.is_calm || self.chance.clients.random_range(0..RARELY) > 0 {
            return Ok(());
        }
        let Some(membership) = self.membership.1.clone() else { return Ok(()) };
        let Some((asked, _)) = self.any_running() else { return Ok(()) };
        let Some(leader) = self.leader_of(asked) else { return Ok(()) };
        let Some(change) = self.any_change(&membership, leader) else { return Ok(()) };
        if membership.check(&change).is_err() || !self.keeps_quorum(&membership, &change) {
            return Ok(());
        }
        self.changed_us = Some(self.now_us);
        self.note(Kind::Member, format!("an operator asks for {change:?}"));
        let at = if matches!(change, Change::Promote { .. }) { leader } else { asked };
        self.ask(client, at, Op::Other, |id| Request::ChangeMembers { id, change: change.to_conf_change(id) })
    }

    fn any_change(&mut self, membership: &Membership, leader: u64) -> Option<Change> {
        let damaged = self
            .machines
            .iter()
            .find(|(id, machine)| machine.is_damaged && machine.is_gone && membership.member(**id).is_some());
        if let Some((id, _)) = damaged {
            return Some(Change::Remove { id: *id });
        }
        let learner = membership.members().find(|member| member.is_learner).map(|member| member.id);
        let voters: Vec<u64> =
            membership.members().filter(|member| !member.is_learner).map(|member| member.id).collect();
        match (self.chance.clients.random_range(0..6), learner) {
            (0..4, Some(id)) => self.has_caught_up(leader, id).then_some(Change::Promote { id }),
            (4, Some(id)) => Some(Change::Remove { id }),
            (0..2, None) if self.machines.len() < MACHINES_MAX => {
                let id = self.machines.keys().next_back().map_or(1, |last| last + 1);
                let member = ClusterMember { is_learner: true, name: String::new(), ..cluster_member(id) };
                Some(Change::Add { member, votes: false })
            }
            (2, None) if voters.len() < VOTERS_MAX && self.machines.len() < MACHINES_MAX => {
                let id = self.machines.keys().next_back().map_or(1, |last| last + 1);
                let member = ClusterMember { name: String::new(), ..cluster_member(id) };
                Some(Change::Add { member, votes: true })
            }
            (3..5, None) if voters.len() > VOTERS_MIN => {
                voters.choose(&mut self.chance.clients).map(|id| Change::Remove { id: *id })
            }
            _ => {
                let all: Vec<u64> = membership.members().map(|member| member.id).collect();
                let id = *all.choose(&mut self.chance.clients)?;
                let port = self.chance.clients.random_range(1000..9000);
                Some(Change::Update { id, peer_urls: vec![format!("http://{id}.test:{port}")] })
            }
        }
    }

    /// As MemberPromote looks at it: the learner has nine tenths of the leader's log.
    fn has_caught_up(&self, leader: u64, id: u64) -> bool {
        let Some(replica) = self.machines[&leader].member.replica() else { return false };
        let followers = replica.consensus().followers();
        let matched = |id| followers.iter().find(|follower| follower.id == id).map(|follower| follower.matched);
        match (matched(id), matched(leader)) {
            (Some(matched), Some(last)) => matched * 10 >= last * 9,
            _ => false,
        }
    }

    /// Whether those that can still start are a quorum after the change.
    fn keeps_quorum(&self, membership: &Membership, change: &Change) -> bool {
        let mut after = membership.clone();
        after.change(change.clone());
        let voters: Vec<u64> = after.members().filter(|member| !member.is_learner).map(|member| member.id).collect();
        let sound = voters.iter().filter(|id| {
            // One that is added now has no machine yet.
            self.machines.get(id).is_none_or(|machine| !machine.is_gone && !machine.is_damaged)
        });
        voters.len() >= VOTERS_MIN && sound.count() > voters.len() / 2
    }

    /// Whether a quorum is left without this machine, in every configuration that a member knows.
    pub(super) fn may_be_lost(&self, id: u64) -> bool {
        let machines: Vec<u64> = self.machines.keys().copied().filter(|other| *other != id).collect();
        self.is_quorum_everywhere(&machines)
    }

    /// Whether these machines, as far as they are sound, are a quorum in every configuration that a machine may work with.
    pub(super) fn is_quorum_everywhere(&self, ids: &[u64]) -> bool {
        let sound = |id: &u64| self.machines.get(id).is_some_and(|machine| !machine.is_gone && !machine.is_damaged);
        let mut configurations: Vec<Vec<u64>> = Vec::new();
        for machine in self.machines.values().filter(|machine| !machine.is_gone) {
            if let Some(replica) = machine.member.replica() {
                configurations.push(replica.consensus().conf_state().voters);
            }
        }
        if let Some(membership) = &self.membership.1 {
            let voters = membership.members().filter(|member| !member.is_learner);
            configurations.push(voters.map(|member| member.id).collect());
        }
        configurations.iter().all(|voters| {
            let there = voters.iter().filter(|id| ids.contains(id) && sound(id)).count();
            voters.is_empty() || there > voters.len() / 2
        })
    }

    /// The members have changed: machines start that are new.
    pub(super) fn on_membership(&mut self, membership: &Membership) {
        let members: Vec<(u64, bool)> = membership.members().map(|member| (member.id, member.is_learner)).collect();
        let name = |(id, is_learner): &(u64, bool)| format!("{id}{}", if *is_learner { " (learner)" } else { "" });
        self.note(Kind::Member, format!("the members are {}", members.iter().map(name).collect::<Vec<_>>().join(", ")));
        for (id, _) in members {
            if !self.machines.contains_key(&id) {
                self.counts.changes_of_members += 1;
                self.add_machine(id, Start::Join);
                self.soon(500_000, Event::Boot { member: id });
            }
        }
    }
}
