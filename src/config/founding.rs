//! What the first start of a member needs: `--initial-cluster` and `--initial-cluster-state`.
//!
//! As in etcd these say nothing to a member that has a log, and are then not looked at.

use super::{
    discovery::Discovery,
    refused::{Refused, refuse},
};
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
    /// Where the members are found instead.
    pub(super) discovery: Option<Discovery>,
    pub(super) joins: bool,
}

/// How a member without a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstStart {
    /// It founds a cluster together with these members.
    Found(InitialCluster),
    /// It joins a running cluster, of which these are the members. Their ids are asked for.
    Join(InitialCluster),
}

impl Founding {
    /// Whether the flags name other members.
    #[must_use]
    pub fn names_others(&self) -> bool {
        if self.discovery.is_some() {
            return true;
        }
        let names = self.cluster.iter().flat_map(|cluster| cluster.split(','));
        let names: std::collections::BTreeSet<&str> = names.filter_map(|item| Some(item.split_once('=')?.0)).collect();
        names.len() > 1
    }

    /// How the member begins.
    ///
    /// # Errors
    /// The flags contradict each other.
    pub fn first_start(&self, name: &str, token: &str, advertised: &[String]) -> Result<FirstStart, Refused> {
        let found = self.discovery.as_ref().map(|discovery| discovery.members(name, advertised));
        let found = found.transpose().map_err(|fault| refuse(1, fault))?;
        let advertised = advertised.join(",");
        let cluster = match found.as_ref().or(self.cluster.as_ref()) {
            Some(text) if self.joins => InitialCluster::parse_running(name, text, token),
            Some(text) => InitialCluster::parse(name, text, token, &advertised, resolve),
            None if name.is_empty() => Err(ClusterError::NoLocal(quote(name.as_bytes()))),
            None => InitialCluster::single(name, token, &advertised),
        };
        let cluster = cluster.map_err(|mistake| refuse(1, mistake.to_string()))?;
        Ok(if self.joins { FirstStart::Join(cluster) } else { FirstStart::Found(cluster) })
    }
}
