//! The resolver of instances: the zone, the outside world, and nobody else's questions.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use tokio_util::sync::CancellationToken;
use wherry_dns_server::{Ipv4Range, NodeResolver, NodeResolverConfig, QueryCounts, Upstream, ZoneHandle};

use crate::support::{APEX, addresses, ask_tcp, ask_udp, client_udp, loopback, question, sample_zone, with_edns};

struct Node {
    resolver: NodeResolver,
    shutdown: CancellationToken,
    address: SocketAddr,
}

impl Node {
    fn counts(&self) -> QueryCounts {
        self.resolver.counters().read()
    }
}

fn local_range() -> Ipv4Range {
    Ipv4Range::new(Ipv4Addr::LOCALHOST, 8).unwrap()
}

fn config(upstream: Upstream) -> NodeResolverConfig {
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    NodeResolverConfig {
        upstream,
        forward_timeout: Duration::from_secs(2),
        ..NodeResolverConfig::new(listen, local_range())
    }
}

fn start(config: &NodeResolverConfig) -> Node {
    let zones = ZoneHandle::new(APEX).unwrap();
    zones.store(sample_zone(3)).unwrap();
    let shutdown = CancellationToken::new();
    let resolver = NodeResolver::bind(config, zones, &shutdown).unwrap();
    let address = resolver.local_address();
    Node { resolver, shutdown, address }
}

/// A resolver of the outside world: knows `www.example.org` (through an alias) and `big.example.org`, nothing else.
struct Outside {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl Outside {
    fn start() -> Self {
        let socket = UdpSocket::bind(loopback()).unwrap();
        let outside = Self { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&outside.asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::SeqCst);
                let request = Message::from_vec(&buffer[..length]).unwrap();
                socket.send_to(&Self::answer(request).to_vec().unwrap(), client).unwrap();
            }
        });
        outside
    }

    fn answer(request: Message) -> Message {
        let query = request.queries[0].clone();
        let mut reply = request.into_response();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_available = true;
        let asked = query.name().to_lowercase().to_string();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        match (asked.as_str(), query.query_type()) {
            ("www.example.org.", RecordType::A) => {
                let alias = RData::CNAME(rdata::CNAME(name("web.example.org.")));
                reply.add_answer(Record::from_rdata(query.name().clone(), 60, alias));
                let address = RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, 80)));
                reply.add_answer(Record::from_rdata(name("web.example.org."), 60, address));
            }
            ("big.example.org.", RecordType::A) => {
                for last in 0..50 {
                    let address = RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, last)));
                    reply.add_answer(Record::from_rdata(query.name().clone(), 60, address));
                }
            }
            _ => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                let data = rdata::SOA::new(name("ns.example.org."), name("a.example.org."), 1, 60, 60, 60, 30);
                reply.add_authority(Record::from_rdata(name("example.org."), 30, RData::SOA(data)));
            }
        }
        reply
    }

    fn upstream(&self) -> Upstream {
        Upstream::Servers(vec![self.address])
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_resolve_the_zone_and_the_outside_world() {
    let outside = Outside::start();
    let node = start(&config(outside.upstream()));
    for ask in [ask_udp, ask_tcp] {
        let reply = ask(node.address, &question("web.h1.local.wherry.internal", RecordType::A));
        assert_eq!(addresses(&reply), ["10.0.0.1"]);
        assert!(reply.metadata.recursion_available && reply.metadata.authoritative);

        let reply = ask(node.address, &question("wWw.example.org", RecordType::A));
        assert_eq!(addresses(&reply), ["192.0.2.80"], "{reply}");
        assert_eq!(reply.answers.len(), 2, "the alias is told too: {reply}");
        assert_eq!(reply.queries[0].name().to_string(), "wWw.example.org.");
        assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);

        let reply = ask(node.address, &question("missing.example.org", RecordType::A));
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities.len(), 1, "the SOA says how long to remember: {reply}");
    }
    assert_eq!(outside.asked(), 2, "the second time comes from the cache");
    assert_eq!(node.counts().forward.forwarded, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_outside_answers_are_truncated_over_udp() {
    let node = start(&config(Outside::start().upstream()));
    let message = question("big.example.org", RecordType::A);
    assert!(ask_udp(node.address, &message).metadata.truncation);
    assert_eq!(ask_tcp(node.address, &message).answers.len(), 50);
    assert_eq!(ask_udp(node.address, &with_edns(message, 1232)).answers.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_names_and_odd_questions_never_leave_the_node() {
    let outside = Outside::start();
    let node = start(&config(outside.upstream()));
    let table = [
        ("none.local.wherry.internal", RecordType::A, ResponseCode::NXDomain),
        ("web.h1.local.wherry.internal", RecordType::TXT, ResponseCode::NoError),
        ("other.wherry.internal", RecordType::A, ResponseCode::NXDomain),
        ("metadata.google.Internal", RecordType::A, ResponseCode::NXDomain),
        ("internal", RecordType::A, ResponseCode::NXDomain),
        ("example.org", RecordType::ANY, ResponseCode::NotImp),
        ("example.org", RecordType::AXFR, ResponseCode::Refused),
    ];
    for (name, kind, code) in table {
        assert_eq!(ask_udp(node.address, &question(name, kind)).metadata.response_code, code, "{name} {kind}");
    }
    let mut no_recursion = question("www.example.org", RecordType::A);
    no_recursion.metadata.recursion_desired = false;
    assert_eq!(ask_udp(node.address, &no_recursion).metadata.response_code, ResponseCode::Refused);
    let reply = ask_udp(node.address, &question("localhost", RecordType::A));
    assert_eq!(addresses(&reply), ["127.0.0.1"]);
    assert_eq!(outside.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let outside = Outside::start();
    let mut config = config(outside.upstream());
    config.clients = Ipv4Range::new(Ipv4Addr::new(127, 9, 0, 0), 16).unwrap();
    let node = start(&config);
    for name in ["web.h1.local.wherry.internal", "www.example.org"] {
        for ask in [ask_udp, ask_tcp] {
            let reply = ask(node.address, &question(name, RecordType::A));
            assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
            assert!(reply.answers.is_empty() && !reply.metadata.recursion_available);
        }
    }
    assert_eq!(outside.asked(), 0);

    let instance = UdpSocket::bind("127.9.1.2:0").unwrap();
    instance.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let packet = question("web.h1.local.wherry.internal", RecordType::A).to_vec().unwrap();
    instance.send_to(&packet, node.address).unwrap();
    let mut buffer = [0; 512];
    let length = instance.recv(&mut buffer).unwrap();
    assert_eq!(addresses(&Message::from_vec(&buffer[..length]).unwrap()), ["10.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_upstream_outside_names_fail_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for upstream in
        [Upstream::Nobody, Upstream::Servers(Vec::new()), Upstream::ResolvConf(directory.path().join("missing"))]
    {
        let node = start(&config(upstream.clone()));
        let begun = Instant::now();
        let reply = ask_udp(node.address, &question("www.example.org", RecordType::A));
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{upstream:?}");
        assert!(begun.elapsed() < Duration::from_millis(500), "{upstream:?}: {:?}", begun.elapsed());
        let reply = ask_udp(node.address, &question("web.h1.local.wherry.internal", RecordType::A));
        assert_eq!(addresses(&reply), ["10.0.0.1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_costs_time_but_no_more_than_its_share() {
    let silent = UdpSocket::bind(loopback()).unwrap();
    let mut config = config(Upstream::Servers(vec![silent.local_addr().unwrap()]));
    config.forward_timeout = Duration::from_millis(600);
    config.forwards_per_client = 4;
    let node = start(&config);
    let client = client_udp(node.address);
    let begun = Instant::now();
    for number in 0..20 {
        client.send(&question(&format!("n{number}.example.org"), RecordType::A).to_vec().unwrap()).unwrap();
    }
    let mut buffer = [0; 512];
    for number in 0..20 {
        if number == 16 {
            assert!(begun.elapsed() < Duration::from_millis(400), "those beyond the share fail at once");
            let reply = ask_udp(node.address, &question("web.h1.local.wherry.internal", RecordType::A));
            assert_eq!(addresses(&reply), ["10.0.0.1"], "the zone is served meanwhile");
        }
        let length = client.recv(&mut buffer).unwrap();
        let reply = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(2), "{waited:?}");
    let forward = node.counts().forward;
    assert_eq!((forward.forwarded, forward.failed, forward.shed), (4, 4, 16));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_upstream() {
    let silent = UdpSocket::bind(loopback()).unwrap();
    let mut config = config(Upstream::Servers(vec![silent.local_addr().unwrap()]));
    config.forward_timeout = Duration::from_mins(1);
    let node = start(&config);
    let client = client_udp(node.address);
    client.send(&question("www.example.org", RecordType::A).to_vec().unwrap()).unwrap();
    let begun = Instant::now();
    while node.counts().forward.forwarded == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the question never arrived");
        std::thread::sleep(Duration::from_millis(5));
    }
    node.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), node.resolver.stopped()).await.expect("the resolver stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_address_may_come_later() {
    // TEST-NET-1 belongs to nobody, so no machine has it.
    let listen = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 53), 0);
    let config = NodeResolverConfig { upstream: Upstream::Nobody, ..NodeResolverConfig::new(listen, local_range()) };
    let node = start(&config);
    assert_eq!(node.address.ip(), Ipv4Addr::new(192, 0, 2, 53));
    assert_ne!(node.address.port(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resolvers_that_the_host_gets_later_are_used() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let node = start(&config(Upstream::ResolvConf(file.path().to_owned())));
    let message = question("www.example.org", RecordType::A);
    assert_eq!(node.counts().forward.forwarded, 0);
    ask_udp(node.address, &message);
    assert_eq!(node.counts().forward.forwarded, 0, "nobody to ask yet");
    // Nothing listens at this address; what counts is that the question is sent there.
    writeln!(file, "nameserver 127.9.9.9").unwrap();
    let begun = Instant::now();
    while node.counts().forward.forwarded == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the file was not read again");
        ask_udp(node.address, &message);
        std::thread::sleep(Duration::from_millis(100));
    }
}
