//! `--name`, `--initial-cluster` and their kin: who the members of a new or restored cluster are, with etcd's rules and words.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ids::{MemberSalt, cluster_id, member_id},
    membership::Member,
};
use crate::base::{
    go_quote::quote,
    go_url::{self, BadUrl},
};

/// Looks up the first address of `host:port`, as text; `None` if there is none.
pub type Resolve = fn(&str) -> Option<String>;

/// The members that a new cluster begins with, and which of them is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialCluster {
    pub cluster_id: u64,
    pub local_id: u64,
    /// By ascending id.
    pub members: Vec<Member>,
}

/// Mistakes in the flags, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error("couldn't find local name {0} in the initial cluster configuration")]
    NoLocal(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({difference})"
    )]
    Unadvertised { missing: String, advertised: String, difference: String },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}")]
    Unlisted { missing: String, cluster: String },
    #[error("failed to resolve {advertised} to match --initial-cluster={cluster} ({difference})")]
    Unresolved { advertised: String, cluster: String, difference: String },
    #[error("initial cluster {0} has duplicate url")]
    Duplicate(String),
    #[error("member exists with identical ID {0:x}")]
    SameId(u64),
    #[error("cannot use 0 as member id")]
    NoId,
}

/// Why a member cannot join, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("member count is unequal")]
    Count,
    #[error("PeerURLs: no match found for existing member ({id:x}, [{urls}]), last resolver error (<nil>)")]
    Unknown { id: u64, urls: String },
}

impl InitialCluster {
    /// From the values of the flags.
    pub fn parse(
        name: &str,
        cluster: &str,
        token: &str,
        advertised: &str,
        resolve: Resolve,
    ) -> Result<Self, ClusterError> {
        let advertised = urls(&advertised.split(',').collect::<Vec<_>>())?;
        let by_name = members_by_name(cluster)?;
        let own = by_name.get(name).ok_or_else(|| ClusterError::NoLocal(quote(name.as_bytes())))?;
        must_be_the_same(name, own, &advertised, resolve)?;
        must_be_distinct(&by_name)?;
        Self::of(&by_name, name, token)
    }

    /// From the flags of a member that joins a running cluster. Its advertised URLs are those it was added with, so they are not
    /// compared.
    pub fn parse_running(name: &str, cluster: &str, token: &str) -> Result<Self, ClusterError> {
        let by_name = members_by_name(cluster)?;
        by_name.get(name).ok_or_else(|| ClusterError::NoLocal(quote(name.as_bytes())))?;
        must_be_distinct(&by_name)?;
        Self::of(&by_name, name, token)
    }

    /// A cluster of one.
    pub fn single(name: &str, token: &str, advertised: &str) -> Result<Self, ClusterError> {
        let urls = urls(&advertised.split(',').collect::<Vec<_>>())?;
        Self::of(&BTreeMap::from([(name.to_owned(), urls)]), name, token)
    }

    /// Id and JSON of each member, as consensus takes them to found the cluster.
    #[must_use]
    pub fn founders(&self) -> Vec<(u64, Bytes)> {
        self.members.iter().map(|member| (member.id, member.to_json().into())).collect()
    }

    /// The peer URLs of the other members, sorted.
    #[must_use]
    pub fn remote_urls(&self) -> Vec<&str> {
        let others = self.members.iter().filter(|member| member.id != self.local_id);
        let mut urls: Vec<&str> = others.flat_map(|member| &member.peer_urls).map(String::as_str).collect();
        urls.sort_unstable();
        urls
    }

    /// Takes ids from the members of the running cluster, found by their peer URLs; names need not match.
    ///
    /// # Errors
    /// The two lists differ.
    pub fn join(mut self, cluster_id: u64, running: &[Member], resolve: Resolve) -> Result<Self, JoinError> {
        if running.len() != self.members.len() {
            return Err(JoinError::Count);
        }
        let local = self.local_id;
        for theirs in running {
            let are_same = |urls: &[String]| {
                sorted(urls) == sorted(&theirs.peer_urls)
                    || resolved(urls, resolve) == resolved(&theirs.peer_urls, resolve)
            };
            let ours = self.members.iter_mut().find(|ours| are_same(&ours.peer_urls));
            let ours = ours.ok_or_else(|| JoinError::Unknown { id: theirs.id, urls: theirs.peer_urls.join(" ") })?;
            if ours.id == local {
                self.local_id = theirs.id;
            }
            *ours = Member { name: std::mem::take(&mut ours.name), ..theirs.clone() };
        }
        self.cluster_id = cluster_id;
        self.members.sort_unstable_by_key(|member| member.id);
        Ok(self)
    }

    fn of(by_name: &BTreeMap<String, Vec<String>>, name: &str, token: &str) -> Result<Self, ClusterError> {
        let mut members: BTreeMap<u64, Member> = BTreeMap::new();
        let mut local_id = 0;
        for (of_name, urls) in by_name {
            let id = member_id(urls, MemberSalt::ClusterToken(token));
            if id == 0 {
                return Err(ClusterError::NoId);
            }
            if of_name == name {
                local_id = id;
            }
            let member = Member { id, peer_urls: urls.clone(), name: of_name.clone(), ..Member::default() };
            if members.insert(id, member).is_some() {
                return Err(ClusterError::SameId(id));
            }
        }
        let ids: Vec<u64> = members.keys().copied().collect();
        Ok(Self { cluster_id: cluster_id(&ids), local_id, members: members.into_values().collect() })
    }
}

/// `name=url,name=url`; a name may come several times.
fn members_by_name(text: &str) -> Result<BTreeMap<String, Vec<String>>, ClusterError> {
    let mut given: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (name, url) = item.split_once('=').unwrap_or((item, ""));
        given.entry(name).or_default().push(url);
    }
    given.into_iter().map(|(name, of_name)| Ok((name.to_owned(), urls(&of_name)?))).collect()
}

fn must_be_distinct(by_name: &BTreeMap<String, Vec<String>>) -> Result<(), ClusterError> {
    let mut all: Vec<&String> = by_name.values().flatten().collect();
    all.sort_unstable();
    match all.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(ClusterError::Duplicate(by_name_text(by_name))),
        false => Ok(()),
    }
}

fn sorted(urls: &[String]) -> Vec<&String> {
    let mut sorted: Vec<&String> = urls.iter().collect();
    sorted.sort_unstable();
    sorted
}

fn by_name_text(by_name: &BTreeMap<String, Vec<String>>) -> String {
    let mut pairs: Vec<String> =
        by_name.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// Valid URLs, sorted: ids are made of their texts.
fn urls(given: &[&str]) -> Result<Vec<String>, ClusterError> {
    let mut urls = given.iter().map(|text| Ok(go_url::parse(text)?.to_string())).collect::<Result<Vec<_>, BadUrl>>()?;
    urls.sort_unstable();
    Ok(urls)
}

fn must_be_the_same(name: &str, own: &[String], advertised: &[String], resolve: Resolve) -> Result<(), ClusterError> {
    let are_same = || resolved(own, resolve) == resolved(advertised, resolve);
    if own == advertised || (own.len() == advertised.len() && are_same()) {
        return Ok(());
    }
    let quoted = |urls: &[String]| urls.iter().map(|url| quote(url.as_bytes())).collect::<Vec<_>>().join(" ");
    let difference = if own.len() == advertised.len() {
        let differing = own.iter().zip(advertised).find(|(own, advertised)| own != advertised);
        let (own, advertised) = differing.expect("they are not equal");
        format!("resolved urls: {} != {}", quote(advertised.as_bytes()), quote(own.as_bytes()))
    } else {
        format!("len([{}]) != len([{}])", quoted(advertised), quoted(own))
    };
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        these.iter().filter(|url| !others.contains(url)).cloned().collect()
    };
    let missing = only(own, advertised);
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(|url| format!("{name}={url}")).collect();
        let missing = missing.join(",");
        return Err(ClusterError::Unadvertised { missing, advertised: advertised.join(","), difference });
    }
    let named: Vec<String> = advertised.iter().map(|url| format!("{name}={url}")).collect();
    let missing = only(advertised, own);
    if !missing.is_empty() {
        return Err(ClusterError::Unlisted { missing: missing.join(","), cluster: named.join(",") });
    }
    Err(ClusterError::Unresolved { advertised: advertised.join(","), cluster: named.join(","), difference })
}

/// Each URL with its host's first address in place of the name; `localhost` stays, as in etcd.
fn resolved(urls: &[String], resolve: Resolve) -> Vec<String> {
    let one = |url: &String| resolved_url(url, resolve).unwrap_or_else(|| url.clone());
    let mut resolved: Vec<String> = urls.iter().map(one).collect();
    resolved.sort_unstable();
    resolved
}

fn resolved_url(url: &str, resolve: Resolve) -> Option<String> {
    let (scheme, address) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http"))?;
    if address.starts_with("localhost:") {
        return None;
    }
    Some(format!("{scheme}://{}", resolve(address)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "http://localhost:2380";

    fn nobody(_: &str) -> Option<String> {
        None
    }

    fn mistake(cluster: &str) -> String {
        InitialCluster::parse("default", cluster, "etcd-cluster", LOCAL, nobody).expect_err(cluster).to_string()
    }

    #[test]
    fn the_default_is_etcds_default_member() {
        let cluster = InitialCluster::parse("default", &format!("default={LOCAL}"), "etcd-cluster", LOCAL, nobody);
        let cluster = cluster.expect("valid");
        assert_eq!((cluster.local_id, cluster.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
        assert_eq!(cluster.members.len(), 1);
        assert_eq!(Ok(cluster), InitialCluster::single("default", "etcd-cluster", LOCAL));
    }

    #[test]
    fn members_are_in_order_of_id() {
        let cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3,a=http://127.0.0.1:4";
        let parsed = InitialCluster::parse("a", cluster, "t", "http://127.0.0.1:4, http://127.0.0.1:1", nobody);
        let parsed = parsed.expect("valid");
        assert_eq!(parsed.members.len(), 3);
        assert!(parsed.members.windows(2).all(|pair| pair[0].id < pair[1].id));
        let own = parsed.members.iter().find(|member| member.id == parsed.local_id).expect("there");
        assert_eq!((own.name.as_str(), own.peer_urls.len()), ("a", 2));
    }

    #[test]
    fn names_may_stand_for_addresses() {
        let resolve: Resolve = |address| (address == "host:1").then(|| "127.0.0.1:1".to_owned());
        let parse = |cluster| InitialCluster::parse("a", cluster, "t", "http://127.0.0.1:1", resolve);
        let cluster = parse("a=http://host:1").expect("the same address");
        assert_eq!(cluster.members[0].peer_urls, ["http://host:1"]);
        assert!(matches!(parse("a=http://other:1"), Err(ClusterError::Unadvertised { .. })));
    }

    /// Recorded from etcdutl 3.7.1.
    #[test]
    fn mistakes_have_etcds_words() {
        assert_eq!(
            mistake("default=http://127.0.0.1:2381"),
            "--initial-cluster has default=http://127.0.0.1:2381 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (resolved urls: \"http://localhost:2380\" != \"http://127.0.0.1:2381\")"
        );
        assert_eq!(
            mistake("default=127.0.0.1:2380"),
            "parse \"127.0.0.1:2380\": first path segment in URL cannot contain colon"
        );
        assert_eq!(mistake("default=localhost:2380"), "URL scheme must be http, https, unix, or unixs: localhost:2380");
        assert_eq!(
            mistake("default=http://localhost"),
            "URL address does not have the form \"host:port\": http://localhost"
        );
        assert_eq!(
            mistake("default=http://localhost:2380/foo"),
            "URL must not contain a path: http://localhost:2380/foo"
        );
        assert_eq!(mistake("default"), "URL scheme must be http, https, unix, or unixs: ");
        assert_eq!(mistake(""), "couldn't find local name \"default\" in the initial cluster configuration");
        assert_eq!(
            mistake("default=http://localhost:2380,b=http://localhost:2380"),
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url"
        );
        assert_eq!(
            mistake("default=http://localhost:2380,default=http://localhost:2390"),
            "--initial-cluster has default=http://localhost:2390 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (len([\"http://localhost:2380\"]) != len([\"http://localhost:2380\" \"http://localhost:2390\"]))"
        );
    }
}
