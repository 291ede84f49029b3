//! The rules as text. Pure; the snapshot beside this file is what a reader of the rules should open first.
//!
//! Every packet costs a fixed number of look-ups, however many instances there are: one map from the sender's address to
//! its project's chain, and in that one set of the project's addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use wherry_model::{ProjectId, Protocol, TenantId};

use super::{NftConfig, Ruleset};

/// Never reachable, whatever is allowed: this host, loopback, Azure's machine agent, link-local with the metadata services,
/// multicast, reserved.
const FORBIDDEN: [&str; 6] =
    ["0.0.0.0/8", "127.0.0.0/8", "168.63.129.16", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"];
/// Reachable only where allowed: RFC 1918, carrier-grade NAT (RFC 6598), IETF and benchmark networks.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15"];

/// The script that puts the whole table in force in one transaction.
pub fn render(config: &NftConfig, rules: &Ruleset) -> String {
    let table = &config.table;
    let range = network(config.range);
    let resolver = config.resolver;
    let link = &config.link_prefix;
    let mut projects: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    // Two instances never share an address; if a stale entry says so, the one with the later id is right.
    let mut by_address = BTreeMap::new();
    for (_, admitted) in &rules.instances {
        by_address.insert(admitted.address, admitted);
    }
    let mut public = BTreeSet::new();
    let (mut mapped, mut inward) = (BTreeSet::new(), BTreeMap::new());
    let mut chain_of = Vec::new();
    for (address, admitted) in &by_address {
        let project = chain(admitted.tenant, admitted.project);
        chain_of.push(format!("{address} : jump {project}"));
        projects.entry(project).or_default().insert(*address);
        for port in &admitted.ports {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            if port.public() == port.port {
                public.insert(format!("{address} . {protocol} . {}", port.port));
            } else {
                mapped.insert(format!("{address} . {protocol} . {}", port.port));
                inward.insert((*address, protocol, port.public()), port.port);
            }
        }
    }
    // A neighbour of a project that has nobody here any more has nobody to reach.
    let mut neighbour_of = Vec::new();
    let ranges = rules.elsewhere.ranges.iter().filter(|range| !overlap(**range, config.range));
    let mut elsewhere: BTreeSet<String> = ranges.map(|range| network(*range)).collect();
    let mut seen = BTreeSet::new();
    for neighbours in &rules.elsewhere.neighbours {
        let project = chain(neighbours.tenant, neighbours.project);
        let Some(members) = projects.get_mut(&project) else { continue };
        for address in neighbours.addresses.iter().filter(|address| !overlap((**address, 32), config.range)) {
            if seen.insert(*address) {
                members.insert(*address);
                neighbour_of.push(format!("{address} : jump {project}"));
                elsewhere.insert(network((*address, 32)));
            }
        }
    }
    let mut text = render_removal(config);
    let allowed: BTreeSet<String> = config.egress_allow.iter().map(|allowed| network(*allowed)).collect();
    let _infallible = writeln!(text, "table ip {table} {{");
    set(&mut text, "instances", "ipv4_addr", "", by_address.keys().map(ToString::to_string));
    set(&mut text, "public_ports", "ipv4_addr . inet_proto . inet_service", "", public.into_iter());
    set(&mut text, "mapped_ports", "ipv4_addr . inet_proto . inet_service", "", mapped.into_iter());
    let (forbidden, private) = (FORBIDDEN.map(str::to_owned), PRIVATE.map(str::to_owned));
    set(&mut text, "forbidden", "ipv4_addr", "flags interval; ", forbidden.into_iter());
    set(&mut text, "private", "ipv4_addr", "flags interval; ", private.into_iter());
    set(&mut text, "allowed", "ipv4_addr", "flags interval; auto-merge; ", allowed.into_iter());
    set(&mut text, "elsewhere", "ipv4_addr", "flags interval; auto-merge; ", elsewhere.into_iter());
    for (project, members) in &projects {
        set(&mut text, &format!("of_{project}"), "ipv4_addr", "", members.iter().map(ToString::to_string));
        let _infallible = writeln!(text, "  chain {project} {{ ip daddr @of_{project} accept; }}");
    }
    for port in inward.values().collect::<BTreeSet<_>>() {
        let _infallible = writeln!(text, "  chain to_port_{port} {{ meta l4proto {{ tcp, udp }} dnat to :{port}; }}");
    }
    let jumps = inward
        .iter()
        .map(|((address, protocol, public), port)| format!("{address} . {protocol} . {public} : goto to_port_{port}"));
    map(&mut text, "inward_of", "ipv4_addr . inet_proto . inet_service : verdict", &jumps.collect::<Vec<_>>());
    for (name, chains) in [("project_of", chain_of), ("project_of_neighbour", neighbour_of)] {
        map(&mut text, name, "ipv4_addr : verdict", &chains);
    }
    let _infallible = write!(
        text,
        r#"
  # A sender's address must be the one that the link leads to, and nobody else has one of ours.
  chain pinned {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{link}*" fib saddr . iif oif missing drop
    ip saddr {range} iifname != {{ "lo", "{link}*" }} drop
  }}

  # Public ports that lead to another port of the instance: calls of others, and of this machine.
  chain inward {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @inward_of
  }}

  chain inward_own {{
    type nat hook output priority -100; policy accept;
    ip daddr . meta l4proto . th dport vmap @inward_of
  }}

  # Packets through this machine. What does not concern instances is not touched.
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ip saddr != {range} ip daddr != {range} accept
    ct state established,related accept
    ct state invalid drop
    ip saddr {range} goto from_instance
    goto to_instance
  }}

  chain from_instance {{
    ip saddr != @instances drop
    ip daddr @forbidden drop
    ip saddr vmap @project_of
    ip daddr {range} goto to_instance
    # The other node decides.
    ip daddr @elsewhere accept
    ip daddr @allowed accept
    ip daddr @private drop
    accept
  }}

  chain to_instance {{
    ip saddr vmap @project_of_neighbour
    ip daddr . meta l4proto . th dport @public_ports accept
    ct status dnat ip daddr . meta l4proto . th dport @mapped_ports accept
    drop
  }}

  # Packets to this machine: instances reach the resolver and nothing else.
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    ct state established,related accept
    ip saddr @elsewhere drop
    ip saddr != {range} accept
    ip saddr @instances ip daddr {resolver} udp dport 53 accept
    ip saddr @instances ip daddr {resolver} tcp dport 53 accept
    drop
  }}

  # The rest of the world sees this machine's address.
  chain outward {{
    type nat hook postrouting priority srcnat; policy accept;
    ip daddr @elsewhere accept
    ip saddr {range} ip daddr != {range} masquerade
  }}
}}
"#
    );
    if config.ipv6 {
        text.push_str(&render_without_ipv6(config));
    }
    text
}

/// Instances have no IPv6 address, and their kernel setting says so; this holds when the setting does not.
///
/// Our links have names that CNI draws at random behind a prefix that others use too, so the rule cannot name them. Links
/// that are ports of a bridge, as those of other container software are, never show as the interface of an IPv6 packet:
/// the bridge does. What is hit beside ours is only IPv6 over somebody else's unbridged links with the same prefix.
fn render_without_ipv6(config: &NftConfig) -> String {
    let (table, link) = (&config.table, &config.link_prefix);
    format!(
        r#"
table ip6 {table} {{
  chain silent {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{link}*" drop
  }}
}}
"#
    )
}

/// The chains that everything passes, by the family of their table, each with its last rule: a chain can be emptied and
/// still be there.
pub(super) fn passed(
    config: &NftConfig,
) -> impl Iterator<Item = (&'static str, &'static [(&'static str, &'static str)])> {
    const IP: &[(&str, &str)] = &[
        ("pinned", "} drop"),
        ("inward", "vmap @inward_of"),
        ("forward", "goto to_instance"),
        ("input", "tcp dport 53 accept"),
    ];
    const IP6: &[(&str, &str)] = &[("silent", "*\" drop")];
    std::iter::once(("ip", IP)).chain(config.ipv6.then_some(("ip6", IP6)))
}

/// Whether a table, as `nft list table` prints it, has these rules in these chains.
pub(super) fn has_rules(listed: &str, chains: &[(&str, &str)]) -> bool {
    chains.iter().all(|(chain, rule)| {
        let from_chain = listed.split_once(&format!("chain {chain} {{")).map_or("", |(_, rest)| rest);
        from_chain.split("\n\t}").next().is_some_and(|rules| rules.contains(rule))
    })
}

/// The script that removes the table, whether it is there or not.
pub(super) fn render_removal(config: &NftConfig) -> String {
    let table = &config.table;
    let removal = |family: &str| format!("table {family} {table}\ndelete table {family} {table}\n");
    removal("ip") + &if config.ipv6 { removal("ip6") } else { String::new() }
}

fn map(text: &mut String, name: &str, of: &str, elements: &[String]) {
    let elements =
        if elements.is_empty() { String::new() } else { format!("elements = {{ {} }}; ", elements.join(", ")) };
    let _infallible = writeln!(text, "  map {name} {{ type {of}; {elements}}}");
}

fn set(text: &mut String, name: &str, of: &str, flags: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    let elements =
        if elements.is_empty() { String::new() } else { format!("elements = {{ {} }}; ", elements.join(", ")) };
    let _infallible = writeln!(text, "  set {name} {{ type {of}; {flags}{elements}}}");
}

/// The name of a project's chain.
fn chain(tenant: TenantId, project: ProjectId) -> String {
    format!("project_{}_{}", tenant.as_uuid().simple(), project.as_uuid().simple())
}

fn overlap(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let length = one.1.min(other.1);
    network((one.0, length)) == network((other.0, length))
}

/// `address/length` with the bits behind the prefix cleared: nft refuses others in sets.
fn network((address, length): (Ipv4Addr, u8)) -> String {
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(length))).unwrap_or(0);
    format!("{}/{}", Ipv4Addr::from(u32::from(address) & mask), length.min(32))
}

#[cfg(test)]
mod tests {
    use wherry_agent_api::Neighbours;

    use super::super::{Admitted, Elsewhere};
    use super::*;
    use wherry_model::Port;

    fn config() -> NftConfig {
        let mut config = NftConfig::new("wherry_test".into(), ([10, 77, 0, 0].into(), 16), [10, 77, 0, 1].into());
        config.egress_allow = vec![([192, 168, 7, 9].into(), 24)];
        config.ipv6 = true;
        config
    }

    fn instance(
        number: u8,
        tenant: &str,
        project: &str,
        ports: &[(u16, Protocol)],
    ) -> (wherry_model::InstanceId, Admitted) {
        let mapped = |port: u16| (port == 8443).then_some(443);
        let port =
            |(port, protocol): &(u16, Protocol)| Port { public_port: mapped(*port), ..Port::new(*port, *protocol) };
        let ports = ports.iter().map(port).collect();
        let address = [10, 77, 0, number].into();
        let (tenant, project) = (tenant.repeat(16).parse().unwrap(), project.repeat(16).parse().unwrap());
        (format!("{number:032x}").parse().unwrap(), Admitted { address, tenant, project, ports })
    }

    fn rules() -> Ruleset {
        let instances = vec![
            instance(2, "aa", "11", &[(80, Protocol::Tcp), (53, Protocol::Udp)]),
            instance(3, "aa", "11", &[]),
            instance(4, "bb", "22", &[(8443, Protocol::Tcp)]),
        ];
        let neighbours = |tenant: &str, project: &str, addresses: &[[u8; 4]]| Neighbours {
            tenant: tenant.repeat(16).parse().unwrap(),
            project: project.repeat(16).parse().unwrap(),
            addresses: addresses.iter().map(|address| (*address).into()).collect(),
        };
        let elsewhere = Elsewhere {
            ranges: vec![([10, 78, 1, 0].into(), 24), ([10, 79, 0, 0].into(), 24)],
            neighbours: vec![
                neighbours("aa", "11", &[[10, 78, 1, 5], [10, 79, 0, 7]]),
                neighbours("cc", "33", &[[10, 78, 1, 6]]),
            ],
        };
        Ruleset { instances, elsewhere }
    }

    #[test]
    fn the_rules_are_as_checked_in() {
        let expected = include_str!("ruleset.snapshot.nft");
        let rendered = render(&config(), &rules());
        assert!(rendered == expected, "the rules changed; if that is meant, make this the snapshot:\n{rendered}");
    }

    #[test]
    fn an_address_is_in_one_project_only() {
        let mut rules = rules();
        let (id, mut stale) = instance(9, "cc", "33", &[]);
        stale.address = [10, 77, 0, 4].into();
        rules.instances.push((id, stale));
        let text = render(&config(), &rules);
        assert_eq!(text.matches("10.77.0.4 : jump").count(), 1);
        assert!(!text.contains("10.77.0.4 . tcp . 8443"));
    }

    #[test]
    fn nothing_of_this_nodes_own_range_is_elsewhere() {
        let mut rules = rules();
        rules.elsewhere.ranges = vec![([10, 0, 0, 0].into(), 8), ([10, 77, 3, 0].into(), 24)];
        rules.elsewhere.neighbours[0].addresses = vec![[10, 77, 0, 4].into()];
        let text = render(&config(), &rules);
        assert!(text.contains("set elsewhere { type ipv4_addr; flags interval; auto-merge; }"), "{text}");
        assert!(text.contains("map project_of_neighbour { type ipv4_addr : verdict; }"), "{text}");
    }

    #[test]
    fn an_empty_node_has_valid_rules() {
        let text = render(&config(), &Ruleset::default());
        assert!(text.contains("set instances { type ipv4_addr; }"), "{text}");
    }
}
