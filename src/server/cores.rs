//! Which core runs what.
//!
//! | CPUs | executors |
//! |---|---|
//! | 1 to 3 | one: engine and front together, calling each other directly; on a CPU that no other ringd has taken, if there is one |
//! | 4 or more | the engine on the first, a front on each of the others |
//! | `--cores N` | N executors on the first N CPUs; the first has the engine, and a front too if N is below 4 |
//! | `--cores 2,5,7` | the same on exactly these CPUs |
//!
//! A hop between two parked executors costs about 70 us and between spinning ones 10 us, so on few cores sharing wins. The
//! rest of the machine is left to the kernel, the load and the network.

use std::io;

use crate::{
    config::Cores,
    os::{cpu_claim::CpuClaim, executor},
};

/// Where a member's parts run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// CPU of the engine.
    pub engine: usize,
    /// Whether the engine's core serves connections as well.
    pub engine_serves: bool,
    /// CPUs of the other fronts.
    pub fronts: Vec<usize>,
}

/// Executors from which on the engine gets a core of its own.
const DEDICATED_FROM: usize = 4;

impl Layout {
    /// The layout for this process, and the claim on its CPU if it has a single one of its own choice.
    ///
    /// # Errors
    /// A CPU was asked for that the process may not use.
    pub fn choose(wanted: &Cores) -> io::Result<(Self, Option<CpuClaim>)> {
        let allowed = executor::allowed_cpus()?;
        let shares = matches!(wanted, Cores::Auto) && allowed.len() < DEDICATED_FROM;
        let claim = if shares { CpuClaim::take(&allowed) } else { None };
        Ok((Self::of(wanted, &allowed, claim.as_ref().map(|claim| claim.cpu))?, claim))
    }

    fn of(wanted: &Cores, allowed: &[usize], claimed: Option<usize>) -> io::Result<Self> {
        let cpus: Vec<usize> = match wanted {
            Cores::Auto if allowed.len() < DEDICATED_FROM => claimed.into_iter().collect(),
            Cores::Auto => allowed.to_vec(),
            Cores::Count(count) => {
                // More executors than CPUs: they take turns. Slow, but right; tests use it.
                allowed.iter().copied().cycle().take(*count).collect()
            }
            Cores::List(list) => list.clone(),
        };
        if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            let text = format!("--cores: CPU {cpu} is not among those this process may use ({allowed:?})");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let Some((engine, fronts)) = cpus.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no CPU to run on"));
        };
        Ok(Self { engine: *engine, engine_serves: cpus.len() < DEDICATED_FROM, fronts: fronts.to_vec() })
    }

    /// How many cores have services. The replica's is one of them, because the member itself asks and other members do.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.fronts.len() + 1
    }

    /// How many of them serve clients.
    #[must_use]
    pub fn serving_count(&self) -> usize {
        self.fronts.len() + usize::from(self.engine_serves)
    }

    /// How many share the ids of proposals: the cores, and after them the replica itself.
    #[must_use]
    pub fn proposers(&self) -> u64 {
        self.core_count() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cores_share_and_many_do_not() {
        let shared = Layout::of(&Cores::Auto, &[0, 1], Some(1)).expect("a layout");
        assert_eq!(shared, Layout { engine: 1, engine_serves: true, fronts: vec![] });
        let split = Layout::of(&Cores::Auto, &[0, 1, 2, 3], None).expect("a layout");
        assert_eq!(split, Layout { engine: 0, engine_serves: false, fronts: vec![1, 2, 3] });
        let two = Layout::of(&Cores::Count(2), &[0, 1], None).expect("a layout");
        assert_eq!((two.serving_count(), two.engine), (2, 0));
        assert!(Layout::of(&Cores::List(vec![9]), &[0, 1], None).is_err());
    }
}
