//! Namespaces, rules, routes, ports.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::super::exec;
use super::super::host::{Network, PortOutcome, PortTrial, Route, Trial};
use crate::cli::Role;
use crate::settings::{DEFAULT_AGENTS, Settings, parse_range};

/// Every kind of set, map and expression that the agent's rules are made of, in a table that is only checked.
const RULES: &str = "\
table inet wherry_doctor {
  set project { type ipv4_addr; }
  set public { type ipv4_addr . inet_proto . inet_service; elements = { 10.77.0.2 . tcp . 80 }; }
  chain within { ip daddr @project accept; }
  map sources { type ipv4_addr : verdict; elements = { 10.77.0.2 : jump within }; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    fib saddr . iif oif missing drop
    ip saddr vmap @sources
    ip daddr . meta l4proto . th dport @public accept
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.77.0.0/16 ip daddr != 10.77.0.0/16 masquerade
  }
}
";

pub(super) fn nft() -> Trial {
    let nft = exec::find("nft").ok_or("nft is not installed")?;
    exec::run(&nft, &["--check", "--file", "-"], RULES).map(drop)
}

/// The namespace and what is in it end with the process that made it.
pub(super) fn namespace() -> Trial {
    let unshare = exec::find("unshare").ok_or("unshare is not installed")?;
    let ip = exec::find("ip").ok_or("ip is not installed")?;
    let ip = ip.to_string_lossy();
    let devices = ["link", "add", "wherry0", "type", "veth", "peer", "name", "wherry1"];
    let arguments: Vec<&str> = ["--net", "--", &*ip].into_iter().chain(devices).collect();
    exec::run(&unshare, &arguments, "").map(drop)
}

/// The settings were checked when they were read, so there is one.
pub(super) fn configured_range(settings: &Settings) -> Option<(Ipv4Addr, u8)> {
    parse_range(&settings.network.range).ok()
}

pub(super) fn network(role: Role, settings: &Settings, range: Option<(Ipv4Addr, u8)>) -> Network {
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    Network {
        forwards: forwards.map(|text| text.trim() == "1").map_err(|error| error.to_string()),
        range,
        routes: parse_routes(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
        ports: ports(role, settings),
    }
}

pub(super) fn ports(role: Role, settings: &Settings) -> Vec<PortTrial> {
    let listen = &settings.listen;
    let trial = |role, flag, address, bound: std::io::Result<()>| {
        let outcome = match bound {
            Ok(()) => PortOutcome::Free,
            Err(error) if error.kind() == ErrorKind::AddrInUse => PortOutcome::InUse,
            Err(error) => PortOutcome::Refused(error.to_string()),
        };
        PortTrial { role, flag, address, outcome }
    };
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(drop);
    let operator = trial("metrics and health", "--listen-operator", listen.operator, tcp(listen.operator));
    if role == Role::Node {
        return vec![operator];
    }
    let agents = settings.agents.listen.or((role == Role::Control).then_some(DEFAULT_AGENTS));
    let agents = agents.map(|address| trial("agents", "--listen-agents", address, tcp(address)));
    let mut trials = vec![
        trial("the API", "--listen-api", listen.api, tcp(listen.api)),
        operator,
        trial("DNS over UDP", "--listen-dns", listen.dns, UdpSocket::bind(listen.dns).map(drop)),
        trial("DNS over TCP", "--listen-dns", listen.dns, tcp(listen.dns)),
    ];
    trials.extend(agents);
    trials
}

/// `/proc/net/route`: tab-separated, addresses as the hexadecimal of the machine's byte order.
fn parse_routes(table: &str) -> Vec<Route> {
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let mask = address(fields.get(7)?)?;
        let bits = u8::try_from(u32::from(mask).leading_ones()).ok()?;
        Some(Route { destination: address(fields.get(1)?)?, bits, device: (*fields.first()?).to_owned() })
    };
    table.lines().skip(1).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     veth1\t02004D0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        let routes: Vec<String> = parse_routes(table)
            .iter()
            .map(|route| format!("{}/{} {}", route.destination, route.bits, route.device))
            .collect();
        assert_eq!(routes, ["0.0.0.0/0 eth0", "192.0.2.0/24 eth0", "10.77.0.2/32 veth1"]);
    }

    #[test]
    fn a_port_in_use_is_told_from_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = Settings::default();
        settings.listen.api = taken.local_addr().unwrap();
        settings.listen.operator = "192.0.2.1:7071".parse().unwrap();
        settings.listen.dns = "127.0.0.1:0".parse().unwrap();
        let outcomes: Vec<PortOutcome> = ports(Role::Up, &settings).into_iter().map(|trial| trial.outcome).collect();
        assert_eq!(outcomes[0], PortOutcome::InUse);
        assert!(matches!(outcomes[1], PortOutcome::Refused(_)));
        assert_eq!(outcomes[2..], [PortOutcome::Free, PortOutcome::Free]);
        settings.agents.listen = Some(taken.local_addr().unwrap());
        let roles = [Role::Up, Role::Control, Role::Node].map(|role| ports(role, &settings));
        assert_eq!(roles.each_ref().map(Vec::len), [5, 5, 1]);
        assert_eq!(roles[1][4].outcome, PortOutcome::InUse);
    }
}
