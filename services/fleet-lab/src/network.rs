//! A flat network of hosts, all of it in namespaces of our own: nothing of it touches the machine's own network, and any
//! number of them live side by side with the same addresses.
//!
//! One more namespace is the switch: a bridge with a port for each host. Faults are rules on the bridge, so hosts cannot
//! see, undo or flush them, and what instances send is hit like what the machine sends. ARP always passes: else a line that is
//! cut in one direction would soon be cut in both.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::namespace::{Namespace, ip};

/// The device of the bridge.
const BRIDGE: &str = "switch";
/// The device of every host.
const DEVICE: &str = "eth0";
/// Prefix length of the network.
const BITS: u8 = 24;

/// The switch and what is wrong with it.
#[derive(Debug)]
pub struct Network {
    id: String,
    switch: Namespace,
    faults: Mutex<Vec<Fault>>,
}

/// A host on the network.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name on this network, `control-0`.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Where its processes live.
    pub namespace: Namespace,
    port: String,
}

/// As seen from the host that it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It neither hears nor is heard.
    Both,
    /// It hears, but is not heard.
    Outgoing,
    /// It is heard, but does not hear.
    Incoming,
}

/// Frames from one port to another are lost; any port when absent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    from: Option<String>,
    to: Option<String>,
    /// Of a hundred.
    lost: u8,
}

impl Network {
    /// Makes the switch. `id` begins the names of all namespaces and must be nobody else's.
    pub fn create(id: &str) -> Result<Self> {
        let switch = Namespace::create(&format!("{id}-switch"))?;
        switch.ip(&["link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"])?;
        switch.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self { id: id.to_owned(), switch, faults: Mutex::default() })
    }

    /// The address of host number `last`.
    pub const fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, last)
    }

    /// Plugs in a new host. `name` has at most 15 characters, and `last` ends its address.
    pub fn attach(&self, name: &str, last: u8) -> Result<Host> {
        let namespace = Namespace::create(&format!("{}-{name}", self.id))?;
        let (switch, address) = (self.switch.name(), Self::address(last));
        ip(&["link", "add", DEVICE, "netns", namespace.name(), "type", "veth", "peer", "name", name, "netns", switch])
            .context("is the network name longer than 15 characters?")?;
        self.switch.ip(&["link", "set", name, "master", BRIDGE, "up"])?;
        namespace.ip(&["address", "add", &format!("{address}/{BITS}"), "dev", DEVICE])?;
        namespace.ip(&["link", "set", DEVICE, "up"])?;
        Ok(Host { name: name.to_owned(), address, namespace, port: name.to_owned() })
    }

    /// Cuts the host off from all others.
    pub fn cut(&self, host: &Host, direction: Direction) -> Result<()> {
        self.add(host, None, direction, 100)
    }

    /// Cuts the line between two hosts only; the direction is that of the first.
    pub fn cut_between(&self, host: &Host, other: &Host, direction: Direction) -> Result<()> {
        self.add(host, Some(other), direction, 100)
    }

    /// Loses so many of a hundred frames of the host, each way.
    pub fn lose(&self, host: &Host, of_a_hundred: u8) -> Result<()> {
        ensure!(of_a_hundred <= 100, "at most all of a hundred can be lost");
        self.add(host, None, Direction::Both, of_a_hundred)
    }

    /// Lets only so many thousand bits a second through, each way; what has to wait longer than half a second is lost.
    pub fn slow(&self, host: &Host, kilobits_per_second: u32) -> Result<()> {
        let rate = format!("{kilobits_per_second}kbit");
        for (namespace, device) in [(&self.switch, host.port.as_str()), (&host.namespace, DEVICE)] {
            let shape =
                ["qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate, "burst", "16k", "latency", "500ms"];
            let output = namespace.command("tc").args(shape).output().context("cannot run tc, a part of iproute2")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "tc does not slow {device} down: {}", said.trim());
        }
        Ok(())
    }

    /// Undoes what was done to the host.
    pub fn mend(&self, host: &Host) -> Result<()> {
        for (namespace, device) in [(&self.switch, host.port.as_str()), (&host.namespace, DEVICE)] {
            // Fails where nothing was slowed.
            let _ = namespace.command("tc").args(["qdisc", "del", "dev", device, "root"]).output();
        }
        let mut faults = self.lock();
        let is_of = |end: &Option<String>| end.as_deref() == Some(host.port.as_str());
        faults.retain(|fault| !is_of(&fault.from) && !is_of(&fault.to));
        self.apply(&faults)
    }

    /// Removes the switch: nobody hears anybody any more.
    pub(crate) fn remove(&self) {
        self.switch.remove();
    }

    fn add(&self, host: &Host, other: Option<&Host>, direction: Direction, lost: u8) -> Result<()> {
        let (own, other) = (Some(host.port.clone()), other.map(|other| other.port.clone()));
        let outgoing = Fault { from: own.clone(), to: other.clone(), lost };
        let incoming = Fault { from: other, to: own, lost };
        let mut faults = self.lock();
        match direction {
            Direction::Both => faults.extend([outgoing, incoming]),
            Direction::Outgoing => faults.push(outgoing),
            Direction::Incoming => faults.push(incoming),
        }
        self.apply(&faults)
    }

    fn apply(&self, faults: &[Fault]) -> Result<()> {
        let mut nft = self.switch.command("nft");
        let mut child = nft
            .args(["--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run nft: run `cargo xtask setup`, which installs nftables")?;
        let mut input = child.stdin.take().context("nft has no input")?;
        input.write_all(render(faults).as_bytes()).context("nft does not read its rules")?;
        drop(input);
        let output = child.wait_with_output().context("cannot wait for nft")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the switch does not take its rules: {}", said.trim());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The whole table, replaced at once.
fn render(faults: &[Fault]) -> String {
    let mut text = String::from("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n");
    text.push_str("chain forward {\ntype filter hook forward priority 0; policy accept;\nether type arp accept\n");
    for fault in faults {
        let end = |word: &str, port: &Option<String>| {
            port.as_ref().map_or_else(String::new, |port| format!("{word} \"{port}\" "))
        };
        let chance = if fault.lost < 100 { format!("numgen random mod 100 < {} ", fault.lost) } else { String::new() };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}{}{chance}drop", end("iifname", &fault.from), end("oifname", &fault.to));
    }
    text.push_str("}\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_become_rules() {
        let port = |name: &str| Some(name.to_owned());
        let faults = [
            Fault { from: port("node-1"), to: None, lost: 100 },
            Fault { from: port("node-1"), to: port("control-0"), lost: 30 },
        ];
        let text = render(&faults);
        assert!(text.contains("\niifname \"node-1\" drop\n"), "{text}");
        assert!(text.contains("iifname \"node-1\" oifname \"control-0\" numgen random mod 100 < 30 drop\n"), "{text}");
    }
}
