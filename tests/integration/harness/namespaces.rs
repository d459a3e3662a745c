//! Members in network namespaces of their own, joined by a bridge: packets that are lost are lost by the kernel.
//!
//! ```text
//!   test, its clients ── bridge 10.x.y.1 ──┬── veth ── namespace 0: member at 10.x.y.2
//!                                          ├── veth ── namespace 1: member at 10.x.y.3
//!                                          └── ...
//! ```
//!
//! A cut from a to b drops every packet of a to b, acknowledgements too: a connection between them stands still in both directions until
//! one end gives it up, and a new one from a fails at once. An unplugged member reaches nobody, and nobody reaches it.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// The ports of a member: nobody else uses its namespace.
pub const CLIENT_PORT: u16 = 2379;
pub const PEER_PORT: u16 = 2380;

static BRIDGES: AtomicU32 = AtomicU32::new(0);

/// Whether this process may make namespaces and links here.
pub fn may_be_made() -> bool {
    let name = format!("rt{}", process::id());
    let made = try_ip(&["netns", "add", &name]) && try_ip(&["-n", &name, "link", "add", "v0", "type", "veth"]);
    try_ip(&["netns", "del", &name]);
    let bridge = format!("rt{}", process::id());
    let bridged = made && try_ip(&["link", "add", &bridge, "type", "bridge"]);
    try_ip(&["link", "del", &bridge]);
    bridged
}

/// A bridge and the namespaces on it.
pub struct Wires {
    /// In the names of all that belongs to it.
    name: String,
    /// The first three bytes of all addresses.
    subnet: [u8; 3],
    ends: usize,
}

impl Wires {
    pub fn new() -> Wires {
        let number = BRIDGES.fetch_add(1, Ordering::Relaxed);
        let name = format!("r{}n{number}", process::id());
        let place = process::id().wrapping_mul(31).wrapping_add(number);
        let [.., high, low] = place.to_be_bytes();
        let wires = Wires { name, subnet: [10, 64 | high & 63, low], ends: 0 };
        ip(&["link", "add", &wires.name, "type", "bridge"]);
        ip(&["addr", "add", &format!("{}/24", wires.address_of(1)), "dev", &wires.name]);
        ip(&["link", "set", &wires.name, "up"]);
        wires
    }

    fn address_of(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, host)
    }

    /// The address of a member by its place.
    pub fn address(&self, at: usize) -> Ipv4Addr {
        self.address_of(u8::try_from(at + 2).expect("few members"))
    }

    /// Where the clients of a member connect to.
    pub fn client_address(&self, at: usize) -> SocketAddr {
        SocketAddrV4::new(self.address(at), CLIENT_PORT).into()
    }

    /// The namespace of a member.
    pub fn namespace(&self, at: usize) -> String {
        format!("{}-{at}", self.name)
    }

    fn link(&self, at: usize) -> String {
        format!("{}v{at}", self.name)
    }

    /// Makes the namespace of the next member.
    pub fn add(&mut self) {
        let at = self.ends;
        self.ends += 1;
        let (namespace, link, address) = (self.namespace(at), self.link(at), format!("{}/24", self.address(at)));
        ip(&["netns", "add", &namespace]);
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        ip(&["link", "set", &link, "master", &self.name, "up"]);
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    }

    /// Drops every packet from one to the other.
    pub fn cut(&self, from: usize, to: usize) {
        ip(&["-n", &self.namespace(from), "route", "replace", "blackhole", &format!("{}/32", self.address(to))]);
    }

    /// Drops every packet between these two.
    pub fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Drops every packet between members of the two sides.
    pub fn split(&self, here: &[usize], there: &[usize]) {
        for (one, other) in here.iter().flat_map(|one| there.iter().map(move |other| (*one, *other))) {
            self.cut_both(one, other);
        }
    }

    /// Pulls the cable of a member.
    pub fn unplug(&self, at: usize) {
        ip(&["link", "set", &self.link(at), "down"]);
    }

    /// Every packet arrives again.
    pub fn heal(&self) {
        for at in 0..self.ends {
            // There may be none to flush.
            try_ip(&["-n", &self.namespace(at), "route", "flush", "type", "blackhole"]);
            ip(&["link", "set", &self.link(at), "up"]);
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for at in 0..self.ends {
            try_ip(&["link", "del", &self.link(at)]);
            try_ip(&["netns", "del", &self.namespace(at)]);
        }
        try_ip(&["link", "del", &self.name]);
    }
}

fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
