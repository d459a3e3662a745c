//! The version of a cluster: its next value, and the targets that Downgrade allows.
//!
//! ```text
//!   cluster version ──────────── below the servers' ──────────▶ the servers' (an upgrade, at once)
//!         │  Downgrade.ENABLE: target = one minor below ──────▶ the target, and with it the schema of the page file
//!         ▲                                                          │
//!         └──────────── Downgrade.CANCEL, servers unchanged ◀────────┘
//! ```
//!
//! A single member lowers the version of its cluster and of its data. An older program can then be started on a snapshot of it.

use std::fmt;

use crate::{
    base::{refusal::Refusal, version},
    cluster::membership::Membership,
};

/// `3.7` of a version, the part that cluster and schema versions differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor {
    pub major: i64,
    pub minor: i64,
}

impl fmt::Display for Minor {
    /// As `3.7`; see [`Minor::whole`] for `3.7.0`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Minor {
    /// From `X.Y.Z`, with any suffix of a semantic version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split('+').next()?;
        let text = text.split('-').next()?;
        let mut numbers = text.splitn(3, '.').map(|part| part.parse::<i64>().ok());
        let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
        (major.min(minor).min(patch) >= 0).then_some(Self { major, minor })
    }

    /// Of the server programs of this cluster.
    #[must_use]
    pub fn of_servers() -> Self {
        Self::parse(version::SERVER).expect("a constant that is a version")
    }

    /// As `3.7.0`.
    #[must_use]
    pub fn whole(self) -> String {
        format!("{self}.0")
    }

    fn below(self) -> Self {
        Self { minor: self.minor - 1, ..self }
    }
}

/// The version in a request: `X.Y` or `X.Y.Z`.
///
/// # Errors
/// It is neither.
pub fn target(text: &str) -> Result<Minor, Refusal> {
    Minor::parse(text).or_else(|| Minor::parse(&format!("{text}.0"))).ok_or(Refusal::WrongDowngradeVersionFormat)
}

/// The version of the cluster.
///
/// # Errors
/// It is not decided.
pub fn cluster_version(membership: &Membership) -> Result<Minor, Refusal> {
    membership.version.as_deref().and_then(Minor::parse).ok_or(Refusal::ClusterVersionUnavailable)
}

/// Whether a downgrade to `target` may begin.
///
/// # Errors
/// It is not one minor version below the cluster's, or one is under way.
pub fn check(membership: &Membership, target: Minor) -> Result<(), Refusal> {
    if cluster_version(membership)?.below() != target {
        return Err(Refusal::InvalidDowngradeTargetVersion);
    }
    if membership.downgrade.enabled {
        return Err(Refusal::DowngradeInProcess);
    }
    Ok(())
}

/// The version that the cluster should have next, if it is another one: by the oldest program among its members' servers, or `None`
/// while a member does not tell its own.
///
/// # Errors
/// The reason why the requested downgrade is impossible.
pub fn next_cluster_version(membership: &Membership, oldest: Option<Minor>) -> Result<Option<Minor>, &'static str> {
    let Ok(cluster) = cluster_version(membership) else {
        return Ok(oldest.or_else(|| Minor::parse(version::CLUSTER_MIN)));
    };
    let Some(servers) = oldest else { return Ok(None) };
    if membership.downgrade.enabled {
        let Some(target) = Minor::parse(&membership.downgrade.target_version) else {
            return Err("the downgrade target is no version");
        };
        return match target {
            target if target == cluster => Ok(None),
            target if target != cluster.below() => Err("Cannot downgrade from cluster-version to downgrade-target"),
            target if target != servers.below() => {
                Err("Cannot downgrade from minimal-server-version to downgrade-target")
            }
            target => Ok(Some(target)),
        };
    }
    Ok((cluster.major == servers.major && cluster < servers).then_some(servers))
}

/// Whether a downgrade is under way and every member's program is of its target.
#[must_use]
pub fn is_downgraded(membership: &Membership, servers: &[Option<Minor>]) -> bool {
    let target = Minor::parse(&membership.downgrade.target_version);
    membership.downgrade.enabled && target.is_some() && servers.iter().all(|server| *server == target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Downgrade;

    const SERVERS: Minor = Minor { major: 3, minor: 7 };

    fn cluster(version: &str, target: Option<&str>) -> Membership {
        let downgrade = match target {
            Some(target) => Downgrade { target_version: target.to_owned(), enabled: true },
            None => Downgrade::default(),
        };
        let mut membership = Membership::new(1, 2);
        membership.version = Some(version.to_owned());
        membership.downgrade = downgrade;
        membership
    }

    fn next(version: &str, target: Option<&str>) -> Result<Option<String>, &'static str> {
        next_cluster_version(&cluster(version, target), Some(SERVERS)).map(|next| next.map(Minor::whole))
    }

    #[test]
    fn targets_as_etcd_reads_them() {
        for (text, minor) in [("3.6", Some(6)), ("3.6.1", Some(6)), ("3.6.0-rc.1", Some(6)), ("03.6.0", Some(6))] {
            assert_eq!(target(text).ok().map(|target| target.minor), minor, "{text}");
        }
        for text in ["", "x", "3", "3.6.0.0", "3.x", "-3.6.0", "3.6-rc.1"] {
            assert_eq!(target(text), Err(Refusal::WrongDowngradeVersionFormat), "{text}");
        }
    }

    #[test]
    fn one_minor_below_and_once() {
        let seven = cluster("3.7.0", None);
        assert_eq!(check(&seven, target("3.6.9").expect("a version")), Ok(()));
        for other in ["3.5", "3.7", "3.8", "4.6"] {
            let other = target(other).expect("a version");
            assert_eq!(check(&seven, other), Err(Refusal::InvalidDowngradeTargetVersion));
        }
        let under_way = cluster("3.7.0", Some("3.6.0"));
        assert_eq!(check(&under_way, target("3.6").expect("a version")), Err(Refusal::DowngradeInProcess));
        let unknown = check(&Membership::new(1, 2), SERVERS);
        assert_eq!(unknown, Err(Refusal::ClusterVersionUnavailable));
    }

    #[test]
    fn the_version_follows_the_servers_and_the_downgrade() {
        assert_eq!(next("3.7.0", None), Ok(None));
        assert_eq!(next("3.4.0", None), Ok(Some("3.7.0".to_owned())), "data of an older etcd");
        assert_eq!(next("3.8.0", None), Ok(None), "never down by itself");
        assert_eq!(next("3.7.0", Some("3.6.0")), Ok(Some("3.6.0".to_owned())));
        assert_eq!(next("3.6.0", Some("3.6.0")), Ok(None));
        assert!(next("3.6.0", Some("3.5.0")).is_err(), "the servers are two above");
        assert_eq!(next_cluster_version(&Membership::new(1, 2), Some(SERVERS)), Ok(Some(SERVERS)));
    }

    #[test]
    fn the_oldest_member_decides_and_one_that_is_silent_stops_it() {
        let six = Some(Minor { minor: 6, ..SERVERS });
        let next =
            |cluster: &Membership, oldest| next_cluster_version(cluster, oldest).map(|next| next.map(Minor::whole));
        let (new, upgraded) = (Membership::new(1, 2), cluster("3.6.0", None));
        assert_eq!(next(&new, six), Ok(Some("3.6.0".to_owned())));
        assert_eq!(next(&new, None), Ok(Some("3.0.0".to_owned())), "as little as anybody can do");
        assert_eq!(next(&upgraded, six), Ok(None));
        assert_eq!(next(&upgraded, None), Ok(None));
        assert_eq!(next(&upgraded, Some(SERVERS)), Ok(Some("3.7.0".to_owned())));
        assert_eq!(next(&cluster("3.7.0", None), six), Ok(None), "never down by itself");
        assert!(next(&cluster("3.7.0", Some("3.6.0")), six).is_err(), "a program is at the target already");
    }

    #[test]
    fn a_downgrade_ends_with_the_last_program() {
        let downgrading = cluster("3.6.0", Some("3.6.0"));
        let six = Some(Minor { minor: 6, ..SERVERS });
        assert!(is_downgraded(&downgrading, &[six, six]));
        assert!(!is_downgraded(&downgrading, &[six, Some(SERVERS)]));
        assert!(!is_downgraded(&downgrading, &[six, None]));
        assert!(!is_downgraded(&cluster("3.6.0", None), &[six]));
    }
}
