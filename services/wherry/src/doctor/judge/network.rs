//! Namespaces, rules, addresses, ports.

use std::net::Ipv4Addr;

use super::super::host::{Network, Occupancy, PortOutcome, PortTrial, Programs, Route, Trial};
use super::Finding;
use crate::cli::Role;

pub(super) fn namespace(seen: &Trial) -> Finding {
    match seen {
        Ok(()) => Finding::ok("network namespaces", "can be made, with virtual devices"),
        Err(said) => Finding::failure("network namespaces", format!("cannot be made: {said}"))
            .mend("modprobe veth; the kernel needs CONFIG_NET_NS and CONFIG_VETH"),
    }
}

pub(super) fn nft(seen: &Trial, programs: &Programs) -> Finding {
    match seen {
        Ok(()) => Finding::ok("nftables", "takes the rules that keep tenants apart"),
        Err(_) if !programs.has("nft") => Finding::failure("nftables", "nft is not installed").packages(&["nftables"]),
        Err(said) => Finding::failure("nftables", format!("does not take the rules that keep tenants apart: {said}"))
            .mend("modprobe nf_tables nft_fib_inet nft_masq; nft must be 0.9 or later"),
    }
}

pub(super) fn forwarding(seen: &Result<bool, String>, role: Role) -> Finding {
    match seen {
        Ok(true) => Finding::ok("forwarding", "the kernel forwards IPv4"),
        Ok(false) => {
            let says = format!("the kernel does not forward IPv4 yet; `{}` switches it on", role.command());
            Finding::note("forwarding", says)
        }
        Err(said) => Finding::warning("forwarding", format!("cannot be read: {said}")),
    }
}

/// Routes that would take packets of instances, or lose theirs to them.
pub(super) fn range(seen: &Network, role: Role) -> Vec<Finding> {
    let Some((address, bits)) = seen.range else { return Vec::new() };
    let range = format!("{address}/{bits}");
    let mend = match role {
        Role::Node => {
            "remove that route, or let the machine join again with a token for another range: `wherry admin node token --range`"
        }
        Role::Up | Role::Control => "choose another one with --range or network.range, for example 10.78.0.0/16",
    };
    let findings: Vec<Finding> = seen
        .routes
        .iter()
        // The default route, and our own routes to single instances.
        .filter(|route| route.bits > 0 && !(route.bits == 32 && route.device.starts_with("veth")))
        .filter(|route| overlap(route, address, bits))
        .map(|route| {
            let other = format!("{}/{} on {}", route.destination, route.bits, route.device);
            if route.bits >= bits {
                let says = format!("{range} is in use: the host has a route to {other}");
                Finding::failure("address range", says).mend(mend)
            } else {
                let says = format!("{range} hides a part of {other} from this host");
                Finding::warning("address range", says).mend(mend)
            }
        })
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok("address range", format!("{range} conflicts with no route"))];
    }
    findings
}

fn overlap(route: &Route, address: Ipv4Addr, bits: u8) -> bool {
    let shared = u32::from(route.bits.min(bits));
    let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
    u32::from(route.destination) & mask == u32::from(address) & mask
}

pub(super) fn ports(seen: &[PortTrial], occupancy: &Occupancy) -> Vec<Finding> {
    seen.iter()
        .map(|trial| {
            let PortTrial { role, flag, address, outcome } = trial;
            match outcome {
                PortOutcome::Free => Finding::ok("ports", format!("{address} is free for {role}")),
                PortOutcome::InUse if occupancy.holder.is_some() => {
                    Finding::ok("ports", format!("{address} ({role}) is held, Wherry runs"))
                }
                PortOutcome::InUse => {
                    let find = format!("find it with ss -lnp 'sport = :{}'", address.port());
                    Finding::failure("ports", format!("{address}, wanted for {role}, is held by another program"))
                        .mend(format!("{find} and stop it, or choose another port with {flag}"))
                }
                PortOutcome::Refused(said) => {
                    Finding::failure("ports", format!("{address} cannot be used for {role}: {said}"))
                        .mend(format!("choose an address of this machine with {flag}"))
                }
            }
        })
        .collect()
}
