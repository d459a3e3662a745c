//! What all ways to one member share: its URLs, whether it is connected, where its events and counts go, and its end.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_lite::future;

use super::{
    activity::Activity,
    headers::{Extensions, Introduction, id_text},
    http_io::Dialing,
    picker::Picker,
    reports::Reports,
    settings::{Event, Settings},
};
use crate::{
    metrics::{Name, Series, Sheet},
    os::clock,
    rpc::{Drain, Stage},
};

/// One member as seen from here.
pub(super) struct Link {
    pub(super) id: u64,
    /// The id as text, for lines and headers.
    pub(super) name: String,
    pub(super) settings: Rc<Settings>,
    pub(super) introduction: Introduction,
    pub(super) dialing: Dialing,
    pub(super) picker: Picker,
    pub(super) reports: Rc<Reports>,
    pub(super) meter: LinkMeter,
    activity: Arc<Activity>,
    is_active: Cell<bool>,
    extensions: Cell<Extensions>,
    end: Rc<Drain>,
}

/// What is counted of one member.
pub(super) struct LinkMeter {
    pub(super) sent_bytes: Series,
    pub(super) sent_failures: Series,
    pub(super) received_bytes: Series,
    pub(super) round_trips: Series,
    active: Series,
    disconnected: Series,
}

impl LinkMeter {
    fn new(sheet: &Sheet, local: &str, remote: &str) -> Self {
        Self {
            sent_bytes: sheet.series(Name::NetworkPeerSentBytesTotal, &[remote]),
            sent_failures: sheet.series(Name::NetworkPeerSentFailuresTotal, &[remote]),
            received_bytes: sheet.series(Name::NetworkPeerReceivedBytesTotal, &[remote]),
            round_trips: sheet.series(Name::NetworkPeerRoundTripTimeSeconds, &[remote]),
            active: sheet.series(Name::NetworkActivePeers, &[local, remote]),
            disconnected: sheet.series(Name::NetworkDisconnectedPeersTotal, &[local, remote]),
        }
    }
}

impl Link {
    pub(super) fn new(
        id: u64,
        urls: &[String],
        settings: Rc<Settings>,
        activity: Arc<Activity>,
        reports: Rc<Reports>,
    ) -> Rc<Self> {
        let introduction = Introduction {
            cluster_id: settings.cluster_id,
            member_id: settings.member_id,
            peer_urls: settings.advertised.join(","),
            reads_by_leases: settings.reads_by_leases,
        };
        let name = id_text(id);
        Rc::new(Self {
            id,
            introduction,
            dialing: Dialing { timeout: settings.dial_timeout(), secrets: settings.tls.clone() },
            picker: Picker::new(urls),
            reports,
            meter: LinkMeter::new(&settings.meters.engine.sheet, &id_text(settings.member_id), &name),
            settings,
            activity,
            name,
            is_active: Cell::new(false),
            extensions: Cell::default(),
            end: Drain::new(),
        })
    }

    /// This member's id as text, for lines.
    pub(super) fn local(&self) -> String {
        id_text(self.settings.member_id)
    }

    /// A way to the member works.
    pub(super) fn activate(&self) {
        if !self.is_ended() && !self.is_active.replace(true) {
            tracing::info!(peer_id = self.name, "peer became active");
            self.activity.set_since(self.id, Some(clock::now()));
            self.meter.active.change(1);
        }
    }

    /// A way to the member failed: what was tried, on which way, and why it failed.
    pub(super) fn deactivate(&self, action: &str, way: &str, reason: &dyn std::fmt::Display) {
        let error = format!("failed to {action} {} on {way} ({reason})", self.name);
        if self.is_active.replace(false) {
            tracing::warn!(peer_id = self.name, error, "peer became inactive (message send to peer failed)");
            self.activity.set_since(self.id, None);
            self.meter.active.change(-1);
            self.meter.disconnected.add(1);
        } else {
            tracing::debug!(peer_id = self.name, error, "peer deactivated again");
        }
    }

    /// What the member can do beside etcd's protocol, as it has said last.
    pub(super) fn extensions(&self) -> Extensions {
        self.extensions.get()
    }

    pub(super) fn set_extensions(&self, extensions: Extensions) {
        let before = self.extensions.replace(extensions);
        let local = self.settings.reads_by_leases;
        // An etcd reads by quorums, and says nothing of it.
        let (was, is) = (before.leases.unwrap_or(local), extensions.leases.unwrap_or(false));
        if is != local && was == local {
            tracing::warn!(
                remote_peer_id = self.name,
                local_reads_by_leases = local,
                remote_reads_by_leases = is,
                "the members confirm linearizable reads in different ways, and a leader's lease does not hold against members that \
                 know nothing of it: set the same --read-mode on all of them"
            );
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_active.get()
    }

    /// A message was lost.
    pub(super) fn lost(&self) {
        self.meter.sent_failures.add(1);
        self.reports.say_later(Event::Unreachable { to: self.id });
    }

    pub(super) fn set_rtt(&self, rtt: Duration) {
        self.activity.set_rtt(self.id, rtt);
    }

    /// Starts a task that ends with the link.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let (end, membership) = (Rc::clone(&self.end), self.end.join());
        crate::os::spawn_local(async move {
            future::or(end.reached(Stage::Draining), task).await;
            drop(membership);
        });
    }

    /// Ends every task of the link.
    pub(super) fn stop(&self) {
        if self.is_ended() {
            return;
        }
        self.end.advance(Stage::Draining);
        if self.is_active.replace(false) {
            self.meter.active.change(-1);
        }
        self.activity.forget(self.id);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.end.stage() >= Stage::Draining
    }

    /// Waits until the tasks have ended.
    pub(super) async fn ended(&self) {
        self.end.empty().await;
    }
}

/// Lets something happen at most once in a time.
pub(super) struct Pace {
    pause: Duration,
    last: Cell<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, last: Cell::new(None) }
    }

    /// Waits until it may happen again.
    pub(super) async fn wait(&self) {
        if let Some(last) = self.last.get() {
            let left = (last + self.pause).saturating_duration_since(clock::now());
            if !left.is_zero() {
                crate::os::sleep(left).await;
            }
        }
        self.last.set(Some(clock::now()));
    }
}
