//! The rules in a real kernel: network namespaces of the test's own stand for the machine, its instances and the world.
//!
//! Needs root, `ip` and `nft`; touches nothing outside its own namespaces.

#![expect(clippy::unwrap_used, reason = "all of it is a test; clippy knows only the test functions for one")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wherry_agent_api::Neighbours;
use wherry_model::{Port, Protocol};
use wherry_node_agent::{Admitted, Elsewhere, Firewall as _, NftConfig, NftFirewall, Ruleset};

const PATIENCE: Duration = Duration::from_millis(400);

fn run(words: &str) {
    let mut words_of = words.split_whitespace();
    let output = Command::new(words_of.next().unwrap()).args(words_of).output();
    let output =
        output.unwrap_or_else(|error| panic!("`{words}`: {error}; this test needs root, iproute2 and nftables"));
    assert!(output.status.success(), "`{words}`: {}", String::from_utf8_lossy(&output.stderr));
}

/// A machine with two projects of one tenant, another tenant, and a world behind it.
struct Lab {
    tag: String,
    hosts: Vec<String>,
}

impl Lab {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("wt{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { tag, hosts: Vec::new() };
        lab.add("machine");
        let machine = lab.name("machine");
        run(&format!("ip -n {machine} addr add 10.77.0.1/32 dev lo"));
        run(&format!("ip netns exec {machine} sysctl -qw net.ipv4.ip_forward=1"));
        for last in 2..=6 {
            lab.attach(&format!("i{last}"), &format!("veth{last}"), [10, 77, 0, last].into());
        }
        lab.attach("world", "uplink", [192, 0, 2, 9].into());
        // A world that has a public, a metadata and two private addresses.
        for address in ["198.51.100.7", "169.254.169.254", "168.63.129.16", "10.99.0.1", "192.168.7.1"] {
            run(&format!("ip -n {} addr add {address}/32 dev lo", lab.name("world")));
            run(&format!("ip -n {machine} route add {address}/32 via 192.0.2.9 dev uplink onlink"));
        }
        lab
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    fn add(&mut self, host: &str) {
        run(&format!("ip netns add {}", self.name(host)));
        self.hosts.push(self.name(host));
        run(&format!("ip -n {} link set lo up", self.name(host)));
    }

    /// As CNI's ptp does it: a link, an address on either end and routes, nothing shared.
    fn attach(&mut self, host: &str, link: &str, address: Ipv4Addr) {
        self.add(host);
        let (machine, host) = (self.name("machine"), self.name(host));
        run(&format!("ip -n {machine} link add {link} type veth peer name eth0 netns {host}"));
        run(&format!("ip -n {machine} addr add 10.77.0.1/32 dev {link}"));
        run(&format!("ip -n {machine} link set {link} up"));
        run(&format!("ip -n {machine} route add {address}/32 dev {link}"));
        run(&format!("ip -n {host} addr add {address}/32 dev eth0"));
        run(&format!("ip -n {host} link set eth0 up"));
        run(&format!("ip -n {host} route add 10.77.0.1/32 dev eth0"));
        run(&format!("ip -n {host} route add default via 10.77.0.1 dev eth0"));
    }

    /// Runs on a thread that lives in the host's network.
    fn on<T: Send + 'static>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name(host));
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
            work()
        })
    }

    /// Answers every TCP connection and UDP packet at the port with the caller's address.
    fn serve(&self, host: &str, port: u16) {
        let (listening, ready) = std::sync::mpsc::channel();
        let at = SocketAddr::from(([0, 0, 0, 0], port));
        let on_tcp = listening.clone();
        drop(self.on(host, move || {
            let listener = TcpListener::bind(at).unwrap();
            on_tcp.send(()).unwrap();
            while let Ok((mut stream, peer)) = listener.accept() {
                drop(stream.write_all(peer.ip().to_string().as_bytes()));
            }
        }));
        drop(self.on(host, move || {
            let socket = UdpSocket::bind(at).unwrap();
            listening.send(()).unwrap();
            let mut packet = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut packet) {
                drop(socket.send_to(peer.ip().to_string().as_bytes(), peer));
            }
        }));
        ready.recv().unwrap();
        ready.recv().unwrap();
    }

    /// As whom the server sees the caller; none when nothing comes back.
    fn tcp(&self, from: &str, to: &str) -> Option<String> {
        let to: SocketAddr = to.parse().unwrap();
        let call = self.on(from, move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        });
        call.join().unwrap()
    }

    fn udp(&self, from: &str, to: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        let call = self.on(from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"?", to).is_ok() && socket.recv(&mut [0; 64]).is_ok()
        });
        call.join().unwrap()
    }

    /// Whether a packet that `from` sends as `sender` is received by `to`.
    fn packet_arrives(&self, from: &str, sender: Ipv4Addr, to: &str) -> bool {
        let (bound, port) = std::sync::mpsc::channel();
        let receiver = self.on(to, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            bound.send(socket.local_addr().unwrap().port()).unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        });
        let last: u8 = to.trim_start_matches('i').parse().unwrap();
        let to = SocketAddr::from(([10, 77, 0, last], port.recv().unwrap()));
        let sender = self.on(from, move || UdpSocket::bind((sender, 0)).unwrap().send_to(b"?", to).is_ok());
        assert!(sender.join().unwrap());
        receiver.join().unwrap()
    }

    fn firewall(&self) -> NftFirewall {
        let mut config = NftConfig::new("wherry_test".to_owned(), ([10, 77, 0, 0].into(), 16), [10, 77, 0, 1].into());
        config.egress_allow = vec![([192, 168, 7, 0].into(), 24)];
        let program = format!("ip netns exec {} nft", self.name("machine"));
        config.program = program.split_whitespace().map(str::to_owned).collect();
        NftFirewall::new(config)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            drop(Command::new("ip").args(["netns", "del", host]).output());
        }
    }
}

fn admitted(last: u8, tenant: &str, project: &str, ports: &[u16]) -> (wherry_model::InstanceId, Admitted) {
    let port = |port: &u16| Port::new(*port, Protocol::Tcp);
    let (tenant, project) = (tenant.repeat(16).parse().unwrap(), project.repeat(16).parse().unwrap());
    let address = [10, 77, 0, last].into();
    let ports = ports.iter().map(port).collect();
    (format!("{last:032x}").parse().unwrap(), Admitted { address, tenant, project, ports })
}

/// 2 and 3: one project; 4: another project of the tenant; 5: another tenant, with a public port; 6: nobody's.
fn rules() -> Ruleset {
    let instances = vec![
        admitted(2, "aa", "11", &[]),
        admitted(3, "aa", "11", &[]),
        admitted(4, "aa", "22", &[]),
        admitted(5, "bb", "33", &[80]),
    ];
    Ruleset { instances, ..Ruleset::default() }
}

#[tokio::test]
async fn everybody_reaches_what_they_may_and_nothing_else() {
    let lab = Lab::new();
    for host in ["i2", "i3", "i4", "i5", "i6"] {
        lab.serve(host, 80);
        lab.serve(host, 9_000);
    }
    lab.serve("machine", 53);
    lab.serve("machine", 22);
    lab.serve("world", 80);
    assert!(
        lab.tcp("i2", "10.77.0.4:9000").is_some(),
        "without rules everybody reaches everybody, so the rest says something"
    );

    let firewall = lab.firewall();
    firewall.apply(&rules()).await.unwrap();

    assert_eq!(lab.tcp("i2", "10.77.0.3:9000").as_deref(), Some("10.77.0.2"), "one project, any port");
    assert!(lab.udp("i3", "10.77.0.2:9000"));
    assert_eq!(lab.tcp("i2", "10.77.0.4:9000"), None, "another project");
    assert_eq!(lab.tcp("i2", "10.77.0.5:9000"), None, "another tenant");
    assert!(!lab.udp("i2", "10.77.0.5:80"), "the port is public for TCP only");
    assert!(lab.tcp("i2", "10.77.0.5:80").is_some(), "a public port");
    assert!(lab.tcp("world", "10.77.0.5:80").is_some());
    assert_eq!(lab.tcp("world", "10.77.0.2:80"), None, "not public");
    assert!(lab.tcp("machine", "10.77.0.2:9000").is_some(), "the machine's own calls are answered");

    assert_eq!(lab.tcp("i2", "198.51.100.7:80").as_deref(), Some("10.77.0.1"), "the world sees the machine's address");
    assert_eq!(lab.tcp("i2", "169.254.169.254:80"), None, "metadata");
    assert_eq!(lab.tcp("i2", "168.63.129.16:80"), None, "a metadata service with a public address");
    assert_eq!(lab.tcp("i2", "10.99.0.1:80"), None, "private");
    assert!(lab.tcp("i2", "192.168.7.1:80").is_some(), "private and allowed");

    assert!(lab.udp("i2", "10.77.0.1:53") && lab.tcp("i2", "10.77.0.1:53").is_some(), "names");
    assert_eq!(lab.tcp("i2", "10.77.0.1:22"), None, "the machine's services");
    assert!(lab.udp("machine", "10.77.0.1:53"), "the machine itself asks its resolver");

    for to in ["10.77.0.5:80", "10.77.0.1:53", "198.51.100.7:80"] {
        assert_eq!(lab.tcp("i6", to), None, "an address that nobody knows, to {to}");
    }
    assert_eq!(lab.tcp("i2", "10.77.0.6:80"), None);

    let (me, neighbour) = ([10, 77, 0, 4].into(), [10, 77, 0, 2].into());
    assert!(lab.packet_arrives("i2", neighbour, "i3"));
    run(&format!("ip -n {} addr add {neighbour}/32 dev eth0", lab.name("i4")));
    assert!(!lab.packet_arrives("i4", neighbour, "i3"), "a packet with the address of a neighbour in i3's project");
    assert!(!lab.packet_arrives("i4", me, "i3"));
    run(&format!("ip -n {} addr add {neighbour}/32 dev lo", lab.name("world")));
    assert!(!lab.packet_arrives("world", neighbour, "i3"), "a packet from outside with an instance's address");

    firewall.apply(&Ruleset { instances: rules().instances.split_off(1), ..Ruleset::default() }).await.unwrap();
    assert_eq!(lab.tcp("i2", "10.77.0.3:9000"), None, "let out");
    firewall.remove().await.unwrap();
    firewall.remove().await.unwrap();
    assert!(lab.tcp("i2", "10.77.0.5:9000").is_some());
}

#[tokio::test]
async fn a_public_port_leads_to_another_port() {
    let lab = Lab::new();
    for host in ["i4", "i5"] {
        lab.serve(host, 9_000);
    }
    let mut rules = rules();
    let mapped = |protocol| Port { public_port: Some(80), ..Port::new(9_000, protocol) };
    rules.instances[3].1.ports = vec![mapped(Protocol::Tcp), mapped(Protocol::Udp)];
    // Behind `world` is another node, with a neighbour of nobody here.
    let (machine, other) = (lab.name("machine"), lab.name("world"));
    run(&format!("ip -n {other} addr add 10.78.1.6/32 dev lo"));
    run(&format!("ip -n {machine} route add 10.78.1.6/32 via 192.0.2.9 dev uplink onlink"));
    rules.elsewhere.ranges = vec![([10, 78, 1, 0].into(), 24)];
    let firewall = lab.firewall();
    firewall.apply(&rules).await.unwrap();
    assert_eq!(firewall.stands().await, Ok(true));
    for from in ["i2", "world", "machine"] {
        assert!(lab.tcp(from, "10.77.0.5:80").is_some(), "from {from}");
        assert!(lab.udp(from, "10.77.0.5:80"), "from {from}");
    }
    assert_eq!(lab.tcp("i2", "10.77.0.5:80").as_deref(), Some("10.77.0.2"), "callers are seen as they are");
    assert_eq!(lab.tcp("i2", "10.77.0.5:9000"), None, "the port behind it is not public");
    assert_eq!(lab.tcp("world", "10.77.0.5:9000"), None);
    assert_eq!(lab.tcp("i2", "10.77.0.4:80"), None, "it leads nowhere at another instance");
    run(&format!("ip -n {other} route replace 10.77.0.0/16 via 10.77.0.1 dev eth0 onlink src 10.78.1.6"));
    assert_eq!(lab.tcp("world", "10.77.0.5:80").as_deref(), Some("10.78.1.6"), "across nodes");

    firewall.apply(&self::rules()).await.unwrap();
    assert_eq!(lab.tcp("i2", "10.77.0.5:80"), None, "nobody listens there any more");
}

#[tokio::test]
async fn a_project_spans_nodes_and_others_reach_public_ports_only() {
    let lab = Lab::new();
    for host in ["i2", "i4", "i5", "world"] {
        lab.serve(host, 80);
        lab.serve(host, 9_000);
    }
    lab.serve("machine", 22);
    // Behind `world` is another node, with a neighbour of the first project and somebody else.
    let (machine, other) = (lab.name("machine"), lab.name("world"));
    for address in ["10.78.1.5", "10.78.1.6"] {
        run(&format!("ip -n {other} addr add {address}/32 dev lo"));
        run(&format!("ip -n {machine} route add {address}/32 via 192.0.2.9 dev uplink onlink"));
    }
    let world_calls_as = |address: &str| {
        run(&format!("ip -n {other} route replace 10.77.0.0/16 via 10.77.0.1 dev eth0 onlink src {address}"));
        run(&format!("ip -n {other} route replace 10.77.0.1/32 dev eth0 src {address}"));
    };
    let firewall = lab.firewall();
    let (tenant, project) = ("aa".repeat(16).parse().unwrap(), "11".repeat(16).parse().unwrap());
    let neighbours = vec![Neighbours { tenant, project, addresses: vec![[10, 78, 1, 5].into()] }];
    let elsewhere = Elsewhere { ranges: vec![([10, 78, 1, 0].into(), 24)], neighbours };
    let apart = Elsewhere { neighbours: Vec::new(), ..elsewhere.clone() };
    firewall.apply(&Ruleset { elsewhere, ..rules() }).await.unwrap();
    assert_eq!(firewall.stands().await, Ok(true));

    assert_eq!(lab.tcp("i2", "10.78.1.5:9000").as_deref(), Some("10.77.0.2"), "seen by its own address");
    assert_eq!(lab.tcp("i4", "10.78.1.6:9000").as_deref(), Some("10.77.0.4"), "that node decides");
    assert_eq!(lab.tcp("i6", "10.78.1.5:9000"), None, "an address that nobody knows");

    world_calls_as("10.78.1.5");
    assert_eq!(lab.tcp("world", "10.77.0.2:9000").as_deref(), Some("10.78.1.5"), "one project, any port");
    assert_eq!(lab.tcp("world", "10.77.0.4:9000"), None, "another project");
    assert!(lab.tcp("world", "10.77.0.5:80").is_some(), "a public port");
    assert_eq!(lab.tcp("world", "10.77.0.1:22"), None, "the machine's services");
    world_calls_as("10.78.1.6");
    assert_eq!(lab.tcp("world", "10.77.0.2:9000"), None, "not a neighbour");
    assert!(lab.tcp("world", "10.77.0.5:80").is_some(), "a public port");
    assert_eq!(lab.tcp("world", "10.77.0.5:9000"), None);

    firewall.apply(&Ruleset { elsewhere: apart, ..rules() }).await.unwrap();
    world_calls_as("10.78.1.5");
    assert_eq!(lab.tcp("world", "10.77.0.2:9000"), None, "a neighbour no more");
}

#[tokio::test]
async fn rules_that_somebody_took_away_are_missed() {
    let lab = Lab::new();
    let firewall = lab.firewall();
    assert_eq!(firewall.stands().await, Ok(false));
    firewall.apply(&rules()).await.unwrap();
    assert_eq!(firewall.stands().await, Ok(true));
    let nft = format!("ip netns exec {} nft", lab.name("machine"));
    for theft in [
        "flush ruleset",
        "delete table ip wherry_test",
        "flush chain ip wherry_test forward",
        "flush chain ip wherry_test input",
        "flush chain ip wherry_test inward",
        "flush chain ip wherry_test pinned",
        "delete table ip6 wherry_test",
    ] {
        run(&format!("{nft} {theft}"));
        assert_eq!(firewall.stands().await, Ok(false), "{theft}");
        firewall.apply(&rules()).await.unwrap();
        assert_eq!(firewall.stands().await, Ok(true), "{theft}");
    }
    let mut config = NftConfig::new("wherry_test".to_owned(), ([10, 77, 0, 0].into(), 16), [10, 77, 0, 1].into());
    config.program = vec!["no-such-program".to_owned()];
    assert!(NftFirewall::new(config).stands().await.is_err(), "nobody knows");
}

#[tokio::test]
async fn instances_do_not_speak_ipv6() {
    let lab = Lab::new();
    let machine = lab.name("machine");
    let links = [
        (lab.name("i2"), "eth0", 2),
        (machine.clone(), "veth2", 1),
        (machine, "uplink", 3),
        (lab.name("world"), "eth0", 4),
    ];
    for (host, link, last) in links {
        let network = if last < 3 { "a" } else { "b" };
        run(&format!(
            "ip netns exec {host} sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.all.forwarding=1"
        ));
        run(&format!("ip -n {host} addr add fd00:{network}::{last}/64 dev {link} nodad"));
    }
    let (bound, listening) = std::sync::mpsc::channel();
    drop(lab.on("machine", move || {
        let socket = UdpSocket::bind("[::]:53").unwrap();
        bound.send(()).unwrap();
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            drop(socket.send_to(b"!", peer));
        }
    }));
    listening.recv().unwrap();
    let answered = |from: &str, to: &'static str| {
        let call = lab.on(from, move || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"?", to).unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        });
        call.join().unwrap()
    };
    assert!(answered("i2", "[fd00:a::1]:53"), "without rules it is, so the rest says something");
    lab.firewall().apply(&rules()).await.unwrap();
    assert!(!answered("i2", "[fd00:a::1]:53"));
    assert!(answered("world", "[fd00:b::3]:53"), "others are");
}

#[tokio::test]
async fn a_thousand_instances_are_taken_and_bad_rules_change_nothing() {
    let lab = Lab::new();
    let firewall = lab.firewall();
    firewall.apply(&rules()).await.unwrap();
    let many = |number: u32| {
        let mut entry = admitted(1, "aa", if number.is_multiple_of(2) { "11" } else { "22" }, &[80, 443]);
        entry.0 = format!("{number:032x}").parse().unwrap();
        entry.1.address = Ipv4Addr::from(0x0A4D_0100 + number);
        entry
    };
    firewall.apply(&Ruleset { instances: (0..1_000).map(many).collect(), ..Ruleset::default() }).await.unwrap();

    let mut config = NftConfig::new("no such name".to_owned(), ([10, 77, 0, 0].into(), 16), [10, 77, 0, 1].into());
    config.program = vec!["ip".into(), "netns".into(), "exec".into(), lab.name("machine"), "nft".into()];
    let refused = NftFirewall::new(config).apply(&rules()).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    let listed =
        Command::new("ip").args(["netns", "exec", &lab.name("machine"), "nft", "list", "ruleset"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).matches("jump project_").count(), 1_000);
}
