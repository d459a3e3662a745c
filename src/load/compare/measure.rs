//! One round of one server: every load in a closed loop, then at every offered rate.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{
        AnyError,
        machine::Usage,
        plan::{Keys, Mix, Order, Plan, Reading},
        pool::Access,
        run::{Load, Outcome, run},
        tally::Tally,
    },
    cluster::Cluster,
    subject::Subject,
};

const SEED: u64 = 1;
const KEY_BYTES: usize = 16;
/// The quantiles that a percentile curve goes through.
pub(super) const QUANTILES: [f64; 16] =
    [0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999];
/// A server keeps up with a rate when it serves this part of it, but for a few requests that are always under way.
const KEEPS_UP: f64 = 0.99;
const UNDER_WAY: f64 = 5.0;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Put,
    Linearizable,
    Serializable,
}

impl Work {
    pub(super) const ALL: [Self; 3] = [Self::Put, Self::Linearizable, Self::Serializable];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Linearizable => "linearizable range",
            Self::Serializable => "serializable range",
        }
    }

    fn mix(self) -> Mix {
        let (reads, serializable) = match self {
            Self::Put => (0.0, 0.0),
            Self::Linearizable => (1.0, 0.0),
            Self::Serializable => (1.0, 1.0),
        };
        Mix { reads, serializable, txn_ops: 0 }
    }
}

/// The same for all servers.
pub(super) struct Setting {
    pub(super) members: usize,
    pub(super) connections: usize,
    pub(super) clients: usize,
    pub(super) keys: u64,
    pub(super) value_size: usize,
    pub(super) duration: Duration,
    pub(super) directory: PathBuf,
}

/// One load on one server.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) server: String,
    pub(super) round: usize,
    pub(super) work: Work,
    /// Requests a second; `None` in the closed loop.
    pub(super) offered: Option<f64>,
    /// Requests that ended in the measured time.
    pub(super) per_second: f64,
    /// Whether what was offered was served; in the closed loop it always is.
    pub(super) keeps_up: bool,
    pub(super) refused: u64,
    /// Microseconds at each of [`QUANTILES`].
    pub(super) latencies_us: [f64; QUANTILES.len()],
    pub(super) max_us: f64,
    /// Of all members.
    pub(super) server_cpu_us: f64,
    /// Bytes that all members have written to the disk, for each request.
    pub(super) written: f64,
    /// CPU seconds of ringbench in a second.
    pub(super) client_cores: f64,
}

impl Measurement {
    fn new(subject: &Subject, round: usize, work: Work, offered: Option<f64>, outcome: &Outcome) -> Self {
        let total: Tally = outcome.tallies.total();
        let seconds = outcome.took.as_secs_f64().max(1e-9);
        let requests = (total.requests() as f64).max(1.0);
        let usages: Vec<Usage> = outcome.servers.iter().filter_map(|server| server.usage).collect();
        let sum = |of: fn(&Usage) -> f64| usages.iter().map(of).sum::<f64>();
        Self {
            server: subject.name.clone(),
            round,
            work,
            offered,
            per_second: outcome.ended as f64 / seconds,
            keeps_up: offered.is_none_or(|rate| outcome.ended as f64 + UNDER_WAY >= KEEPS_UP * rate * seconds),
            refused: total.refused,
            latencies_us: QUANTILES.map(|quantile| total.quantile_us(quantile)),
            max_us: total.max_us(),
            server_cpu_us: 1e6 * sum(|usage| usage.cpu_s) / requests,
            written: 1e6 * sum(|usage| usage.written_mb) / requests,
            client_cores: outcome.client.cpu_s / seconds,
        }
    }

    pub(super) fn at(&self, quantile: f64) -> f64 {
        let at = QUANTILES.iter().position(|known| *known == quantile).expect("one of QUANTILES");
        self.latencies_us[at]
    }
}

/// A round: the closed loop of every work, then its rates.
pub(super) fn round(
    setting: &Setting,
    subject: &Subject,
    round: usize,
    rates: &[Vec<f64>; Work::ALL.len()],
    tell: &dyn Fn(&str),
) -> Result<Vec<Measurement>, AnyError> {
    let directory = setting.directory.join(format!("{}-{round}", directory_name(&subject.name)));
    let cluster = Cluster::start(subject, setting.members, &directory)?;
    let mut load = Load {
        addresses: cluster.addresses.clone(),
        access: Access::default(),
        connections: setting.connections.max(setting.members),
        clients: setting.clients,
        rate: None,
        total: None,
        duration: setting.duration,
        warm_up: setting.duration / 4,
        preload: true,
    };
    let mut measured = Vec::new();
    for (work, rates) in Work::ALL.into_iter().zip(rates) {
        for rate in std::iter::once(None).chain(rates.iter().copied().map(Some)) {
            load.rate = rate;
            let keys = Keys::new(Order::Uniform, setting.keys, KEY_BYTES)?;
            let mut plan = Plan::new(SEED, keys, work.mix(), Reading::default(), setting.value_size);
            let outcome = run(&load, &mut plan, &mut |_| {}).map_err(|error| format!("{}: {error}", subject.name))?;
            if let Some(why) = &outcome.cut_short
                && rate.is_none()
            {
                return Err(format!("{}, {}: {why}", subject.name, work.name()).into());
            }
            load.preload = false;
            let one = Measurement::new(subject, round, work, rate, &outcome);
            tell(&line(&one));
            measured.push(one);
        }
    }
    drop(cluster);
    std::fs::remove_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(measured)
}

/// A name as a file system takes it.
fn directory_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

fn line(one: &Measurement) -> String {
    let what = match one.offered {
        Some(rate) => format!("{rate:.0}/s offered"),
        None => "closed loop".to_owned(),
    };
    format!(
        "{} {:<12} {:<20} {what:<18} {:9.0}/s  p50 {:9.0} us  p99 {:9.0} us  {:7.1} us CPU per request",
        if one.round == 0 { "first look".to_owned() } else { format!("round {:<4}", one.round) },
        one.server,
        one.work.name(),
        one.per_second,
        one.at(0.5),
        one.at(0.99),
        one.server_cpu_us
    )
}
