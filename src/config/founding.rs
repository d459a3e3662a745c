//! What the first start of a member needs: `--initial-cluster` and `--initial-cluster-state`.
//!
//! As in etcd these say nothing to a member that has a log, and are then not looked at.

use super::{Refused, refuse};
use crate::{
    base::go_quote::quote,
    cluster::initial::{ClusterError, InitialCluster},
    os::net::resolve,
};

/// The flags about the cluster that a new member belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Founding {
    /// `name=url,name=url`, or `None` for this member alone.
    pub(super) cluster: Option<String>,
    pub(super) joins: bool,
}

impl Founding {
    /// The cluster that a new member begins, of which it is the only one.
    ///
    /// # Errors
    /// The flags name another cluster, or contradict each other.
    pub fn cluster(&self, name: &str, token: &str, advertised: &[String]) -> Result<InitialCluster, Refused> {
        if self.joins {
            let text = "--initial-cluster-state existing: this version of ringd runs one-member clusters only";
            return Err(refuse(1, text));
        }
        let advertised = advertised.join(",");
        let cluster = match &self.cluster {
            Some(text) => InitialCluster::parse(name, text, token, &advertised, resolve),
            None if name.is_empty() => Err(ClusterError::NoLocal(quote(name.as_bytes()))),
            None => InitialCluster::single(name, token, &advertised),
        };
        let cluster = cluster.map_err(|mistake| refuse(1, mistake.to_string()))?;
        if let Some(other) = cluster.members.iter().find(|member| member.id != cluster.local_id) {
            let other = &other.name;
            let text = format!("--initial-cluster names {other}: this version of ringd runs one-member clusters only");
            return Err(refuse(1, text));
        }
        Ok(cluster)
    }
}
