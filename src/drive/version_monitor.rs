//! Keeps the version of the cluster what it should be: the lowest of its members' programs, and while a downgrade is asked for, that.
//! Tasks of the first front; only the leader's do something. The schema of the page file follows the cluster's version when that is
//! applied.

use std::{rc::Rc, time::Duration};

use prost::Message;

use crate::{
    apply::{View, request::Kind},
    base::{limits, version},
    os,
    proto::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest},
    service::downgrade::{self, Minor},
    services::Services,
};

/// Looks for as long as the member lives. A new cluster gets its version as soon as somebody leads.
pub async fn run(front: Rc<Services>) {
    loop {
        while !front.leads() || front.shared().view.load().membership.version.is_some() {
            let is_decided = front.shared().view.load().membership.version.is_some();
            let pause_ms = if is_decided { limits::VERSION_CHECK_MS } else { limits::VERSION_FIRST_CHECK_MS };
            os::sleep(Duration::from_millis(pause_ms)).await;
            if is_decided {
                break;
            }
        }
        if front.leads() {
            look(&front).await;
        }
    }
}

async fn look(front: &Services) {
    let servers = front.server_versions().await;
    let oldest = servers.iter().map(|(_, server)| *server).min().flatten();
    let view = front.shared().view.load_full();
    match downgrade::next_cluster_version(&view.membership, oldest) {
        Ok(Some(next)) if front.leads() => update(front, &view, next).await,
        Ok(_) => {}
        Err(text) => tracing::error!(
            downgrade_target = view.membership.downgrade.target_version,
            cluster_version = view.membership.version.as_deref().unwrap_or_default(),
            "{text}"
        ),
    }
}

/// Ends a downgrade once every member runs its target (`--downgrade-check-time`). Zero: never.
pub async fn end_downgrades(front: Rc<Services>, every: Duration) {
    while !every.is_zero() {
        os::sleep(every).await;
        if !front.leads() || !front.shared().view.load().membership.downgrade.enabled {
            continue;
        }
        let servers: Vec<_> = front.server_versions().await.into_iter().map(|(_, server)| server).collect();
        let view = front.shared().view.load_full();
        if !downgrade::is_downgraded(&view.membership, &servers) {
            continue;
        }
        tracing::info!(cluster_version = view.membership.downgrade.target_version, "the cluster has been downgraded");
        let none = DowngradeInfoSetRequest::default().encode_to_vec();
        if let Err(error) = front.propose(Kind::DowngradeInfoSet, &none).await {
            tracing::warn!(%error, "failed to cancel downgrade");
        }
    }
}

async fn update(front: &Services, before: &View, next: Minor) {
    match downgrade::cluster_version(&before.membership) {
        Ok(from) => tracing::info!(%from, to = %next, "updating cluster version using v3 API"),
        Err(_) => tracing::info!(cluster_version = %next, "setting up initial cluster version using v3 API"),
    }
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
