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

/// The version that the cluster should have next, if it is another one.
///
/// # Errors
/// The reason why the requested downgrade is impossible.
pub fn next_cluster_version(membership: &Membership, servers: Minor) -> Result<Option<Minor>, &'static str> {
    let Ok(cluster) = cluster_version(membership) else { return Ok(Some(servers)) };
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
        next_cluster_version(&cluster(version, target), SERVERS).map(|next| next.map(Minor::whole))
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
        assert_eq!(next_cluster_version(&Membership::new(1, 2), SERVERS), Ok(Some(SERVERS)));
    }
}
