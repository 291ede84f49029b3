//! What has to be changed, as lines for `ip -batch` and `bridge -batch`. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;
use wherry_agent_api::Peer;

use super::{RouteError, Vxlan};

/// Marks our routes (`ip route show proto 119`). Any number that no routing daemon uses.
pub(super) const PROTOCOL: u8 = 119;

/// A route as `ip -json route show` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Route {
    pub(super) dst: String,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dev: Option<String>,
}

/// Where the packets of a range go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) gateway: Ipv4Addr,
    /// The device where the gateway is, when it is not for the kernel to find out.
    pub(super) device: Option<String>,
}

/// The ways to `peers`, and what cannot be one. `own` is the range of this node.
pub(super) fn ways(
    peers: &[Peer],
    own: (Ipv4Addr, u8),
    vxlan: Option<&Vxlan>,
) -> (BTreeMap<String, Way>, Option<RouteError>) {
    let mut ways = BTreeMap::new();
    let mut refused = None;
    for peer in peers {
        let range = written(peer.range);
        if overlap(peer.range, own) {
            refused = Some(RouteError::Overlap { range });
            continue;
        }
        let way = match vxlan {
            None => Way { gateway: peer.underlay, device: None },
            Some(vxlan) => Way { gateway: peer.range.0, device: Some(vxlan.device.clone()) },
        };
        ways.insert(range, way);
    }
    (ways, refused)
}

/// Lines for `ip -batch` that make the routes of ours those of `ways`.
pub(super) fn route_lines(present: &[Route], ways: &BTreeMap<String, Way>) -> Vec<String> {
    let is_right = |route: &Route, way: &Way| {
        route.gateway == Some(way.gateway) && (way.device.is_none() || way.device == route.dev)
    };
    let mut lines = Vec::new();
    for route in present {
        if !ways.contains_key(&route.dst) {
            lines.push(format!("route del {} proto {PROTOCOL}", route.dst));
        }
    }
    for (range, way) in ways {
        if present.iter().any(|route| route.dst == *range && is_right(route, way)) {
            continue;
        }
        let device = way.device.as_ref().map(|device| format!(" dev {device} onlink")).unwrap_or_default();
        lines.push(format!("route replace {range} via {}{device} proto {PROTOCOL}", way.gateway));
    }
    lines
}

/// Lines for `ip -batch` and for `bridge -batch` that make the far ends of the VXLAN known: `present` are the far ends that
/// are known now, by the gateway's address and by the machine's.
pub(super) fn far_end_lines(
    present_gateways: &[Ipv4Addr],
    present_machines: &BTreeMap<String, Ipv4Addr>,
    peers: &[Peer],
    vxlan: &Vxlan,
) -> (Vec<String>, Vec<String>) {
    let device = &vxlan.device;
    let (mut neighbours, mut forwards) = (Vec::new(), Vec::new());
    for peer in peers {
        let (gateway, machine) = (peer.range.0, peer.underlay);
        let link = link_address(machine);
        neighbours.push(format!("neigh replace {gateway} lladdr {link} dev {device} nud permanent"));
        if present_machines.get(&link) != Some(&machine) {
            forwards.push(format!("fdb replace {link} dev {device} dst {machine}"));
        }
    }
    for gateway in present_gateways.iter().filter(|gateway| !peers.iter().any(|peer| peer.range.0 == **gateway)) {
        neighbours.push(format!("neigh del {gateway} dev {device}"));
    }
    for (link, machine) in present_machines.iter().filter(|(_, at)| !peers.iter().any(|peer| peer.underlay == **at)) {
        forwards.push(format!("fdb del {link} dev {device} dst {machine}"));
    }
    (neighbours, forwards)
}

/// The link address of a machine's end of the VXLAN: locally administered, and derived from its underlay address, so nobody
/// has to tell anybody.
pub(super) fn link_address(underlay: Ipv4Addr) -> String {
    let [a, b, c, d] = underlay.octets();
    format!("0a:77:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// As the kernel writes a range: a single address has no length.
fn written((first, length): (Ipv4Addr, u8)) -> String {
    if length == 32 { first.to_string() } else { format!("{first}/{length}") }
}

fn overlap(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let shorter = one.1.min(other.1).min(32);
    let mask = u32::MAX.checked_shl(u32::from(32 - shorter)).unwrap_or(0);
    one.0.to_bits() & mask == other.0.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use wherry_model::NodeId;

    use super::*;

    fn peer(third: u8) -> Peer {
        Peer {
            node: NodeId::from_uuid(Uuid::from_u128(u128::from(third))),
            range: (Ipv4Addr::new(10, 128, third, 0), 24),
            underlay: Ipv4Addr::new(192, 0, 2, third),
        }
    }

    fn vxlan() -> Vxlan {
        Vxlan { device: "vx".to_owned(), id: 7, port: 4789, local: Ipv4Addr::new(192, 0, 2, 1) }
    }

    const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 128, 1, 0), 24);

    #[test]
    fn only_what_differs_is_changed() {
        let (ways, refused) = ways(&[peer(2), peer(3), peer(4)], OWN, None);
        assert_eq!(refused, None);
        let route = |dst: &str, gateway: u8| Route {
            dst: dst.to_owned(),
            gateway: Some(Ipv4Addr::new(192, 0, 2, gateway)),
            dev: Some("eth0".to_owned()),
        };
        let present = [route("10.128.2.0/24", 2), route("10.128.3.0/24", 9), route("10.128.8.0/24", 8)];
        assert_eq!(
            route_lines(&present, &ways),
            [
                "route del 10.128.8.0/24 proto 119",
                "route replace 10.128.3.0/24 via 192.0.2.3 proto 119",
                "route replace 10.128.4.0/24 via 192.0.2.4 proto 119",
            ]
        );
    }

    #[test]
    fn a_range_that_overlaps_the_own_is_refused_and_the_others_served() {
        let whole = Peer { range: (Ipv4Addr::new(10, 0, 0, 0), 8), ..peer(9) };
        let everything = Peer { range: (Ipv4Addr::UNSPECIFIED, 0), ..peer(8) };
        for greedy in [whole, everything] {
            let (ways, refused) = ways(&[greedy, peer(2)], OWN, None);
            assert!(matches!(refused, Some(RouteError::Overlap { .. })));
            assert_eq!(ways.len(), 1);
        }
    }

    #[test]
    fn far_ends_come_and_go() {
        let vxlan = vxlan();
        let machines = BTreeMap::from([
            (link_address(Ipv4Addr::new(192, 0, 2, 3)), Ipv4Addr::new(192, 0, 2, 3)),
            (link_address(Ipv4Addr::new(192, 0, 2, 9)), Ipv4Addr::new(192, 0, 2, 9)),
        ]);
        let gateways = [Ipv4Addr::new(10, 128, 9, 0)];
        let (neighbours, forwards) = far_end_lines(&gateways, &machines, &[peer(2), peer(3)], &vxlan);
        assert_eq!(
            neighbours,
            [
                "neigh replace 10.128.2.0 lladdr 0a:77:c0:00:02:02 dev vx nud permanent",
                "neigh replace 10.128.3.0 lladdr 0a:77:c0:00:02:03 dev vx nud permanent",
                "neigh del 10.128.9.0 dev vx",
            ]
        );
        assert_eq!(
            forwards,
            ["fdb replace 0a:77:c0:00:02:02 dev vx dst 192.0.2.2", "fdb del 0a:77:c0:00:02:09 dev vx dst 192.0.2.9"]
        );
        let (ways, _) = ways(&[peer(2)], OWN, Some(&vxlan));
        assert_eq!(route_lines(&[], &ways), ["route replace 10.128.2.0/24 via 10.128.2.0 dev vx onlink proto 119"]);
    }
}
