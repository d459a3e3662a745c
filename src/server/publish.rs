//! What a member tells the cluster through the log before it serves clients: its name and client URLs. It then waits until a new
//! cluster has its version.

use std::{rc::Rc, time::Duration};

use prost::Message as _;

use crate::{
    apply::request::Kind,
    base::limits,
    config::Config,
    os,
    proto::membershippb::{Attributes, ClusterMemberAttrSetRequest},
    services::Services,
};

/// Publishes this member, and waits until the cluster has a version. Tries until it succeeds, as etcd does.
pub(super) async fn publish(config: &Config, services: &Rc<Services>) {
    let poll = Duration::from_millis(limits::PUBLISH_POLL_MS);
    let local_id = services.shared().view.load().membership.local_id;
    let attributes = Attributes { name: config.name.clone(), client_urls: config.advertise_client_urls.clone() };
    let set = ClusterMemberAttrSetRequest { member_id: local_id, member_attributes: Some(attributes) }.encode_to_vec();
    loop {
        // A proposal may be lost on its way to the leader, most likely just after the start. Publishing twice does no harm.
        let proposed = services.propose(Kind::ClusterMemberAttrSet, &set);
        match os::timeout(config.election, proposed).await {
            Some(Ok(_)) => break,
            Some(Err(error)) => tracing::warn!(
                local_member_id = format!("{local_id:x}"),
                %error,
                "failed to publish local member to cluster through raft"
            ),
            None => {}
        }
        os::sleep(poll).await;
    }
    tracing::info!(local_member_id = format!("{local_id:x}"), "published local member to cluster through raft");
    // The leader decides it.
    while services.shared().view.load().membership.version.is_none() {
        os::sleep(poll).await;
    }
}
