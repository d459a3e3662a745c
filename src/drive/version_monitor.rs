//! Keeps the version of the cluster what it should be: after an upgrade of its data, and while a downgrade is asked for.
//! One task, on the first front. The schema of the page file follows the cluster's version when that is applied.

use std::{rc::Rc, time::Duration};

use prost::Message;

use crate::{
    apply::{View, request::Kind},
    base::{limits, version},
    os,
    proto::membershippb::ClusterVersionSetRequest,
    service::downgrade::{self, Minor},
    services::Services,
};

/// Looks for as long as the member lives.
pub async fn run(front: Rc<Services>) {
    loop {
        os::sleep(Duration::from_millis(limits::VERSION_CHECK_MS)).await;
        let view = front.shared().view.load_full();
        if view.raft.leader != view.membership.local_id {
            continue;
        }
        match downgrade::next_cluster_version(&view.membership, Minor::of_servers()) {
            Ok(None) => {}
            Ok(Some(next)) => update(&front, &view, next).await,
            Err(text) => tracing::error!(
                downgrade_target = view.membership.downgrade.target_version,
                cluster_version = view.membership.version.as_deref().unwrap_or_default(),
                "{text}"
            ),
        }
    }
}

async fn update(front: &Services, before: &View, next: Minor) {
    let from = downgrade::cluster_version(&before.membership).map_or_else(|_| String::new(), |minor| minor.to_string());
    tracing::info!(from, to = %next, "updating cluster version using v3 API");
    let request = ClusterVersionSetRequest { ver: next.whole() };
    if let Err(error) = front.propose(Kind::ClusterVersionSet, &request.encode_to_vec()).await {
        tracing::warn!(%error, "failed to update cluster version");
        return;
    }
    tracing::info!(cluster_version = %next, "cluster version is updated");
    let view = front.shared().view.load();
    if view.storage_version == before.storage_version {
        return;
    }
    tracing::info!(
        new_storage_version = view.storage_version.as_deref().unwrap_or_default(),
        "updated storage version"
    );
    if view.membership.downgrade.enabled {
        tracing::info!(
            target_version = view.membership.downgrade.target_version,
            server_version = version::SERVER,
            "The server is ready to downgrade"
        );
    }
}
