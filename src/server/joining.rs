//! What a member without a log asks the other members before it begins: are they a cluster already, and does it fit in.
//!
//! | starts | asks | refused when |
//! |---|---|---|
//! | to found a cluster | `/members` of the first that answers within a second | this member has served clients there before |
//! | to join one | `/members` of the first that answers | nobody answers, or the members are not those of `--initial-cluster` |
//! | to join one | the same | this member has been there before: without its data it could vote twice. etcd lets it |
//! | to join one | `/version` of each | the cluster's version is not served by this release, or unknown |

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use crate::{
    base::{limits, version},
    cluster::{initial::InitialCluster, membership::Member},
    os::net::resolve,
    peer::client,
};

/// etcd's header with the id of the cluster, in hexadecimal.
const CLUSTER_HEADER: &str = "x-etcd-cluster-id";

/// Why a member must not begin as its flags say, in etcd's words.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct NotWelcome {
    text: String,
    /// It has been a member before, and its data is gone.
    pub(super) has_forgotten: bool,
}

impl NotWelcome {
    fn because(text: String) -> Self {
        Self { text, has_forgotten: false }
    }

    fn forgotten(text: String) -> Self {
        Self { text, has_forgotten: true }
    }
}

/// What a member says of a running cluster.
struct Running {
    cluster_id: u64,
    members: Vec<Member>,
}

/// Why no other member could be asked.
#[derive(Debug, thiserror::Error)]
enum Unreached {
    #[error("could not retrieve cluster information from the given URLs")]
    Nobody,
    #[error("failed to get raft cluster member(s) from the given URLs")]
    NoMembers,
}

/// Refuses to found a cluster that exists and in which this member has been.
///
/// # Errors
/// It has.
pub async fn check_not_bootstrapped(cluster: &InitialCluster) -> Result<(), NotWelcome> {
    let timeout = Duration::from_millis(limits::BOOTSTRAP_ASK_MS_MAX);
    let Ok(running) = ask_members(&cluster.remote_urls(), timeout, false).await else { return Ok(()) };
    let id = cluster.local_id;
    let own = running.members.iter().find(|member| member.id == id);
    match own.is_some_and(|member| !member.client_urls.is_empty()) {
        true => Err(NotWelcome::forgotten(format!("member {id:x} has already been bootstrapped"))),
        false => Ok(()),
    }
}

/// Finds the running cluster and this member in it.
///
/// # Errors
/// It is not there, or this member does not fit in.
pub async fn join(cluster: InitialCluster, timeout: Duration) -> Result<InitialCluster, NotWelcome> {
    let asked = ask_members(&cluster.remote_urls(), Duration::from_millis(limits::JOIN_ASK_MS_MAX), true).await;
    let running =
        asked.map_err(|why| NotWelcome::because(format!("cannot fetch cluster info from peer urls: {why}")))?;
    let known: Vec<String> = running.members.iter().map(|member| format!("{:x}", member.id)).collect();
    let joined = cluster.join(running.cluster_id, &running.members, resolve);
    let joined =
        joined.map_err(|why| NotWelcome::because(format!("error validating peerURLs {}: {why}", known.join(","))))?;
    if joined.members.iter().any(|member| member.id == joined.local_id && !member.client_urls.is_empty()) {
        let id = joined.local_id;
        return Err(NotWelcome::forgotten(format!(
            "member {id:x} has been in this cluster before, and its data is gone: it has forgotten its votes and could vote twice; \
             remove it (etcdctl member remove {id:x}) and add it anew, or give its data directory back"
        )));
    }
    match is_compatible(&joined, timeout).await {
        true => Ok(joined),
        false => Err(NotWelcome::because("incompatible with current running cluster".to_owned())),
    }
}

/// The members that the first URL which answers knows of.
async fn ask_members(urls: &[&str], timeout: Duration, is_logged: bool) -> Result<Running, Unreached> {
    for url in urls {
        let address = format!("{url}/members");
        match fetch(&address, timeout).await.and_then(|(headers, body)| running(&headers, &body)) {
            Ok(running) if running.members.is_empty() => return Err(Unreached::NoMembers),
            Ok(running) => return Ok(running),
            Err(error) if is_logged => tracing::warn!(address, error, "failed to get cluster response"),
            Err(_) => {}
        }
    }
    Err(Unreached::Nobody)
}

fn running(headers: &HeaderMap, body: &[u8]) -> Result<Running, String> {
    let members = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let id = headers.get(CLUSTER_HEADER).and_then(|value| value.to_str().ok());
    let id = id.and_then(|text| u64::from_str_radix(text, 16).ok());
    Ok(Running { cluster_id: id.ok_or("the answer has no cluster id")?, members })
}

async fn fetch(address: &str, timeout: Duration) -> Result<(HeaderMap, Bytes), String> {
    let asked = client::request(Method::GET, address, HeaderMap::new(), Bytes::new(), timeout).await;
    let answer = asked.map_err(|error| error.to_string())?;
    match answer.status {
        StatusCode::OK => Ok((answer.headers, answer.body)),
        status => Err(format!("unexpected status {status}")),
    }
}

/// The part of `/version` that matters here.
#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "etcdcluster", default)]
    cluster: String,
}

/// Whether this release can serve at the version of the cluster. At least one member must say what it is.
async fn is_compatible(cluster: &InitialCluster, timeout: Duration) -> bool {
    let others: Vec<&Member> = cluster.members.iter().filter(|member| member.id != cluster.local_id).collect();
    let mut newest = minor(version::CLUSTER).unwrap_or_default();
    if is_downgrading(&others, timeout).await {
        newest += 1;
    }
    let mut any = false;
    for member in others {
        let Some(text) = cluster_version(member, timeout).await else { continue };
        let Some(minor) = minor(&text) else {
            tracing::warn!(
                remote_member_id = format!("{:x}", member.id),
                remote_member_cluster_version = text,
                "failed to parse cluster version of remote member"
            );
            continue;
        };
        if minor > newest {
            tracing::warn!(
                remote_member_id = format!("{:x}", member.id),
                remote_member_cluster_version = text,
                maximum_cluster_version_supported = format!("3.{newest}.0"),
                "cluster version of remote member is not compatible; too high"
            );
            return false;
        }
        any = true;
    }
    any
}

/// The minor number of a version whose major number is 3.
fn minor(text: &str) -> Option<u64> {
    text.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

async fn cluster_version(member: &Member, timeout: Duration) -> Option<String> {
    for url in &member.peer_urls {
        let address = format!("{url}/version");
        match fetch(&address, timeout).await {
            Ok((_, body)) => return serde_json::from_slice::<Versions>(&body).ok().map(|versions| versions.cluster),
            Err(error) => {
                let id = format!("{:x}", member.id);
                tracing::warn!(address, remote_member_id = id, error, "failed to reach the peer URL");
            }
        }
    }
    None
}

/// Whether a downgrade is under way, as the first member says that can be asked.
async fn is_downgrading(others: &[&Member], timeout: Duration) -> bool {
    for url in others.iter().flat_map(|member| &member.peer_urls) {
        if let Ok((_, body)) = fetch(&format!("{url}/downgrade/enabled"), timeout).await {
            return body.as_ref() == b"true";
        }
    }
    false
}
