//! What the first start of a member needs: `--initial-cluster` and `--initial-cluster-state`.
//!
//! As in etcd these say nothing to a member that has a log, and are then not looked at.

use super::{Refused, refuse};
use crate::base::go_url;

/// The flags about the cluster that a new member belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Founding {
    /// `name=url,name=url`, or `None` for this member alone.
    pub(super) cluster: Option<String>,
    pub(super) joins: bool,
}

impl Founding {
    /// Checks that a new member may begin a cluster of its own.
    ///
    /// # Errors
    /// The flags name another cluster.
    pub fn check(&self, name: &str, advertised: &[String]) -> Result<(), Refused> {
        if self.joins {
            let text = "--initial-cluster-state existing: this version of ringd runs one-member clusters only";
            return Err(refuse(1, text));
        }
        let missing = || {
            let text = format!("couldn't find local name {name:?} in the initial cluster configuration");
            refuse(1, text)
        };
        let Some(cluster) = &self.cluster else {
            return if name.is_empty() { Err(missing()) } else { Ok(()) };
        };
        let mut listed = Vec::new();
        let mut others = Vec::new();
        for item in cluster.split(',').filter(|item| !item.is_empty()) {
            let (member, url) = item.split_once('=').unwrap_or((item, ""));
            let url = go_url::parse(url).map_err(|error| refuse(1, format!("--initial-cluster: {error}")))?;
            if member == name { listed.push(url.to_string()) } else { others.push(member) }
        }
        if listed.is_empty() {
            return Err(missing());
        }
        if let Some(other) = others.first() {
            let text = format!("--initial-cluster names {other}: this version of ringd runs one-member clusters only");
            return Err(refuse(1, text));
        }
        listed.sort_unstable();
        let mut own = advertised.to_vec();
        own.sort_unstable();
        if listed != own {
            let text = format!(
                "--initial-cluster has {listed:?} but missing from --initial-advertise-peer-urls={own:?}, or the reverse"
            );
            return Err(refuse(1, text));
        }
        Ok(())
    }
}
