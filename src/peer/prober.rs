//! How long a round trip to a member takes, and how far its clock is from ours.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::client::conn::http1::SendRequest;
use serde::Deserialize;

use super::{bodies::WholeBody, client, link::Link, wall};
use crate::{
    base::limits::{PEER_ANSWER_BYTES_MAX, PEER_PROBE_MS, PEER_SILENCE_MS_MAX},
    os::{self, clock},
};

const PATH: &str = "/raft/probing";

/// The share of a new value in a smoothed one.
const SMOOTHING: f64 = 0.125;

/// etcd looks at a sound member this often, and at one that is not.
const LOOK_SOUND: Duration = Duration::from_secs(30);
const LOOK_UNSOUND: Duration = Duration::from_secs(5);

/// Clocks that differ by more are warned of.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(1);

/// As etcd names the way of a member's messages.
const WAY: &str = "ROUND_TRIPPER_RAFT_MESSAGE";

/// What a member says when it is probed.
#[derive(Debug, Deserialize)]
struct Health {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

/// What the probes of one member have found.
#[derive(Debug, Default)]
struct Found {
    rtt: Option<Duration>,
    clock_ahead: i128,
    failure: Option<String>,
}

/// Probes for as long as the link lasts.
pub(super) async fn run(link: Rc<Link>) {
    let mut found = Found::default();
    let mut kept = None;
    let mut look_due = clock::now() + LOOK_UNSOUND;
    loop {
        os::sleep(Duration::from_millis(PEER_PROBE_MS)).await;
        match probe(&link, &mut kept).await {
            Ok((rtt, now)) => found.record(rtt, now),
            Err(error) => {
                kept = None;
                found.failure = Some(error);
            }
        }
        if let (Some(rtt), None) = (found.rtt, &found.failure) {
            link.set_rtt(rtt);
        }
        if clock::now() >= look_due {
            look_due = look(&link, &found);
        }
    }
}

impl Found {
    fn record(&mut self, rtt: Duration, remote_now: wall::UnixNanos) {
        let smoothed = self.rtt.map_or(rtt, |old| old.mul_f64(1.0 - SMOOTHING) + rtt.mul_f64(SMOOTHING));
        self.rtt = Some(smoothed);
        let half = i128::try_from(smoothed.as_nanos() / 2).unwrap_or_default();
        self.clock_ahead = wall::now() - remote_now - half;
        self.failure = None;
    }
}

/// Writes what is not sound into the log, and returns when to look again.
fn look(link: &Link, found: &Found) -> Instant {
    let rtt = found.rtt.unwrap_or_default();
    let error = found.failure.as_deref().unwrap_or_default();
    if found.failure.is_some() {
        tracing::warn!(
            round_tripper_name = WAY,
            remote_peer_id = link.name,
            ?rtt,
            error,
            "prober detected unhealthy status"
        );
    }
    let drift = Duration::from_nanos(u64::try_from(found.clock_ahead.unsigned_abs()).unwrap_or(u64::MAX));
    if drift > CLOCKS_DIFFER_MAX {
        tracing::warn!(
            round_tripper_name = WAY,
            remote_peer_id = link.name,
            clock_drift = ?drift,
            ?rtt,
            error,
            "prober found high clock drift"
        );
    }
    link.meter.round_trips.observe(rtt.as_secs_f64());
    clock::now() + if found.failure.is_some() { LOOK_UNSOUND } else { LOOK_SOUND }
}

type Kept = Option<(Uri, SendRequest<WholeBody>)>;

/// One probe: the time of the round trip, and the member's time.
async fn probe(link: &Link, kept: &mut Kept) -> Result<(Duration, wall::UnixNanos), String> {
    let url = link.picker.pick().ok_or("no peer URL")?;
    let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
    let asking = async {
        let is_usable = kept.as_ref().is_some_and(|(of, sender)| *of == url && !sender.is_closed());
        if !is_usable {
            let sender = client::open(&url, &link.dialing, patience).await?;
            *kept = Some((url.clone(), sender));
        }
        let (_, sender) = kept.as_mut().expect("just put there");
        let request = client::prepare(&url, Method::GET, PATH, HeaderMap::new(), WholeBody::default())
            .ok_or_else(|| client::Error::Url { url: url.to_string() })?;
        sender.ready().await?;
        let started = clock::now();
        let answer = client::answer(sender.send_request(request).await?, PEER_ANSWER_BYTES_MAX).await?;
        Ok::<_, client::Error>((started.elapsed(), answer))
    };
    let asked = os::timeout(patience, asking).await.unwrap_or(Err(client::Error::Late(patience)));
    let (rtt, answer) = asked.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("got unexpected HTTP status code {} from {url}{PATH}", answer.status));
    }
    let health: Health = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let now = wall::parse(&health.now).filter(|_| health.ok).ok_or("the member says that it is not well")?;
    Ok((rtt, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_smoothed_and_clocks_compared() {
        let mut found = Found::default();
        found.record(Duration::from_millis(8), wall::now() - 3_000_000_000);
        assert_eq!(found.rtt, Some(Duration::from_millis(8)));
        found.record(Duration::from_millis(16), wall::now() - 3_000_000_000);
        assert_eq!(found.rtt, Some(Duration::from_millis(9)));
        assert!(found.clock_ahead > 2_000_000_000);
    }
}
