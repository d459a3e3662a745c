//! The links of this member: who they connect, where they listen, and what they tell the replica.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{bootstrap::Booted, listening::PeerDoors};
use crate::{
    base::limits,
    config::{Config, ReadMode},
    drive::Driver,
    os::{self, clock, tls::Secrets},
    peer::{self, ImageFuture, Peers},
    services::Services,
    web::PeerPages,
};

/// Connects the member with the others, and serves them.
pub(super) fn start(
    config: &Config,
    booted: &Booted,
    driver: &Rc<Driver>,
    services: &Rc<Services>,
    doors: PeerDoors,
    tls: Option<Arc<Secrets>>,
) -> Rc<Peers> {
    let settings = peer::Settings {
        cluster_id: booted.identity.cluster_id,
        member_id: booted.identity.member_id,
        advertised: config.advertise_peer_urls.clone(),
        tick: config.heartbeat,
        election: config.election,
        snap_dir: booted.snap.clone(),
        meters: Arc::clone(&services.shared().meters),
        tls,
        reads_by_leases: config.read_mode == ReadMode::Lease,
        images: {
            let services = Rc::clone(services);
            Rc::new(move |index_min| -> ImageFuture {
                let services = Rc::clone(&services);
                Box::pin(async move { services.image(index_min).await })
            })
        },
    };
    let sink = {
        let driver = Rc::clone(driver);
        Rc::new(move |event| driver.on_peer_event(event))
    };
    let peers = Peers::new(settings, Arc::clone(&services.shared().activity), sink);
    let remotes = booted.remotes.iter().map(|member| (member.id, member.peer_urls.clone()));
    driver.link(Rc::clone(&peers), remotes.collect());
    doors.serve(&peers, &Rc::new(PeerPages::new(Rc::clone(services))));
    peers
}

/// Shortens the wait for the first election: at once when this member is alone, else once others are connected, so that a leader
/// has time to say that it is there.
pub(super) async fn hasten_election(config: &Config, driver: &Rc<Driver>, services: &Rc<Services>, is_alone: bool) {
    if is_alone {
        driver.campaign();
        return;
    }
    // With leases a member keeps still for a whole timeout after its start.
    if !config.advance_ticks || config.read_mode == ReadMode::Lease {
        return;
    }
    let ticks = usize::try_from(config.election.as_millis() / config.heartbeat.as_millis().max(1)).unwrap_or(0);
    let until = clock::now() + Duration::from_millis(limits::TICK_ADVANCE_WAIT_MS_MAX);
    while clock::now() < until {
        os::sleep(Duration::from_millis(limits::TICK_ADVANCE_POLL_MS)).await;
        let shared = services.shared();
        let view = shared.view.load();
        let active = view.membership.members().filter(|member| shared.activity.since(member.id).is_some()).count();
        if view.raft.leader != 0 {
            return;
        }
        if active > 1 {
            driver.advance(ticks.saturating_sub(2));
            return;
        }
    }
}
