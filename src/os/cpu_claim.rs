//! Which CPUs other ringds on this machine have taken, so that a second one takes another.
//!
//! A claim is a bound socket in Linux's abstract namespace (`unix(7)`): `ringd-cpu-<CPU>-<turn>`. The kernel releases it when the process
//! ends, however it ends. It is a courtesy and not a lock: processes in other network namespaces do not see it, and when all CPUs are
//! taken, the next turn shares them evenly.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// So many ringds share a CPU before the next one stops counting.
const TURNS_MAX: usize = 64;

/// A claimed CPU, as long as the value lives.
#[derive(Debug)]
pub struct CpuClaim {
    pub cpu: usize,
    _socket: Option<UnixDatagram>,
}

impl CpuClaim {
    /// Claims one of `cpus`: the last one that the fewest others have claimed. `None` if there is no CPU.
    #[must_use]
    pub fn take(cpus: &[usize]) -> Option<Self> {
        Self::take_named("ringd-cpu", cpus)
    }

    fn take_named(name: &str, cpus: &[usize]) -> Option<Self> {
        let last = *cpus.last()?;
        for turn in 0..TURNS_MAX {
            for &cpu in cpus.iter().rev() {
                match bind(&format!("{name}-{cpu}-{turn}")) {
                    Ok(socket) => return Some(Self { cpu, _socket: Some(socket) }),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    // No sockets, no claims.
                    Err(_) => return Some(Self { cpu: last, _socket: None }),
                }
            }
        }
        Some(Self { cpu: last, _socket: None })
    }
}

fn bind(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_spread_and_released() {
        let name = format!("ringd-test-{}", std::process::id());
        let take = || CpuClaim::take_named(&name, &[3, 5]).expect("there are CPUs");
        let [first, second, third] = [take(), take(), take()];
        assert_eq!([first.cpu, second.cpu, third.cpu], [5, 3, 5]);
        drop(second);
        assert_eq!(take().cpu, 3);
        assert!(CpuClaim::take_named(&name, &[]).is_none());
    }
}
