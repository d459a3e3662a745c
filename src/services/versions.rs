//! The versions of all members, as each tells them on its peer port.

use http::StatusCode;
use serde::Deserialize;

use crate::{
    base::version,
    cluster::membership::Member,
    service::downgrade::Minor,
    services::{Services, peers::PeerRequest},
};

const VERSION_PATH: &str = "/version";

/// What is read of the page.
#[derive(Deserialize)]
struct Versions {
    etcdserver: String,
}

impl Services {
    /// The minor version of every member's program, in the order of their ids; `None` for one that does not tell.
    pub async fn server_versions(&self) -> Vec<(u64, Option<Minor>)> {
        let (local_id, members) = {
            let view = self.shared.view.load();
            (view.membership.local_id, view.membership.members().cloned().collect::<Vec<_>>())
        };
        let mut versions = Vec::with_capacity(members.len());
        for member in members {
            let version = match member.id == local_id {
                true => Some(Minor::of_servers()),
                false => self.server_version(&member).await,
            };
            versions.push((member.id, version));
        }
        versions
    }

    async fn server_version(&self, member: &Member) -> Option<Minor> {
        let request = PeerRequest::get(VERSION_PATH, self.shared.request_timeout);
        let remote_member_id = format!("{:x}", member.id);
        let Some(response) = self.ask_member(member, &request).await else {
            tracing::warn!(remote_member_id, "failed to get version");
            return None;
        };
        let read = serde_json::from_slice::<Versions>(&response.body).ok();
        let read = read.filter(|_| response.status == StatusCode::OK);
        let version = read.as_ref().and_then(|read| Minor::parse(&read.etcdserver));
        match version {
            None => tracing::warn!(remote_member_id, "failed to parse server version of remote member"),
            Some(version) if version > Minor::of_servers() => tracing::warn!(
                local_member_version = version::SERVER,
                remote_member_id,
                remote_member_version = read.map(|read| read.etcdserver),
                "leader found higher-versioned member"
            ),
            Some(_) => {}
        }
        version
    }
}
