//! Strangers hold the port's places, from one address and from many: nodes come in, machines join.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use wherry_agent_api::ControlPlane as _;

use super::world::{Replica, SOON, World, heartbeat, message, node, until};
use crate::client::dial;
use crate::tls::{self, CONTROL_NAME};
use crate::wire::path;
use crate::{AgentPortSettings, Arrivals, Limits, LinkSettings};

/// Longer than any of these tests: what they see end does not end by itself.
const NEVER: Duration = Duration::from_hours(1);

fn settings(limits: impl FnOnce(&mut Limits)) -> AgentPortSettings {
    let mut settings = AgentPortSettings::default();
    let Limits { handshake, first_request, stranger_stay, .. } = &mut settings.limits;
    (*handshake, *first_request, *stranger_stay) = (NEVER, NEVER, NEVER);
    limits(&mut settings.limits);
    settings
}

/// A stranger of the loopback network. The machines of these tests are at 127.0.0.1.
fn stranger(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// A connection that says nothing.
async fn mute(replica: &Replica, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let to: SocketAddr = replica.url.strip_prefix("https://").unwrap().parse().unwrap();
    tokio::time::timeout(SOON, socket.connect(to)).await.expect("it is accepted").unwrap()
}

/// A connection that shakes hands without a certificate and asks nothing.
async fn nameless(world: &World, replica: &Replica, from: Ipv4Addr) -> TlsStream<TcpStream> {
    let config = tls::joining_config(world.authority.fingerprint(), world.clock.clone()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = mute(replica, from).await;
    connector.connect(ServerName::try_from(CONTROL_NAME).unwrap(), stream).await.unwrap()
}

async fn is_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
    drop(read.expect("it is closed"));
}

async fn arrived(replica: &Replica, what: &str, is_so: impl Fn(Arrivals) -> bool) {
    until(what, || is_so(replica.port.arrivals())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_its_share_of_handshakes_and_takes_from_itself() {
    let world = World::new();
    let limits = |limits: &mut Limits| (limits.handshakes, limits.handshakes_of_an_address) = (64, 4);
    let replica = world.replica_with(settings(limits)).await;
    let mut greedy = Vec::new();
    let modest = mute(&replica, stranger(3)).await;
    arrived(&replica, "one stands", |now| now.handshakes == 1).await;
    for _ in 0..12 {
        greedy.push(mute(&replica, stranger(2)).await);
    }
    arrived(&replica, "the share is full", |now| now.handshakes == 5 && now.handshakes_displaced == 8).await;
    for stream in &mut greedy[..8] {
        is_closed(stream).await;
    }
    assert_eq!(replica.port.arrivals().handshakes, 5, "the newest stay, and so does the other address");
    drop((greedy, modest));
    arrived(&replica, "who goes is not counted", |now| now.handshakes == 0).await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_in_while_strangers_of_many_addresses_hold_every_handshake() {
    let world = World::new();
    let limits = |limits: &mut Limits| (limits.handshakes, limits.handshakes_of_an_address) = (16, 4);
    let replica = world.replica_with(settings(limits)).await;
    let machine = world.machine(&replica, 1).await;
    let early = world.link(&machine);
    early.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    let mut held = Vec::new();
    for number in (2..=9).cycle().take(64) {
        held.push(mute(&replica, stranger(number)).await);
    }
    arrived(&replica, "every place is taken", |now| now.handshakes == 16 && now.handshakes_displaced == 48).await;
    // Who was in stays in, who comes comes in, and who joins joins.
    early.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    world.link(&machine).heartbeat(heartbeat(node(1), 1)).await.unwrap();
    let newcomer = world.machine(&replica, 2).await;
    world.link(&newcomer).heartbeat(heartbeat(node(2), 1)).await.unwrap();
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 4);
    assert_eq!(replica.port.arrivals().nodes_refused, 0);
    drop(held);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_in_from_the_address_of_a_stranger_who_holds_its_share() {
    let world = World::new();
    let limits = |limits: &mut Limits| (limits.handshakes, limits.handshakes_of_an_address) = (16, 3);
    let replica = world.replica_with(settings(limits)).await;
    let machine = world.machine(&replica, 1).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(mute(&replica, Ipv4Addr::LOCALHOST).await);
    }
    arrived(&replica, "the share is full", |now| now.handshakes == 3).await;
    world.link(&machine).heartbeat(heartbeat(node(1), 1)).await.unwrap();
    is_closed(&mut held[0]).await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_while_strangers_without_a_certificate_hold_every_place() {
    let world = World::new();
    let limits = |limits: &mut Limits| (limits.strangers, limits.strangers_of_an_address) = (8, 3);
    let replica = world.replica_with(settings(limits)).await;
    let mut held = Vec::new();
    for number in (2..=7).cycle().take(18) {
        held.push(nameless(&world, &replica, stranger(number)).await);
    }
    arrived(&replica, "every place is taken", |now| now.strangers == 8 && now.strangers_displaced == 10).await;
    let machine = world.machine(&replica, 1).await;
    world.link(&machine).heartbeat(heartbeat(node(1), 1)).await.unwrap();
    drop(held);
    arrived(&replica, "who goes is not counted", |now| now.strangers == 0).await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_go_on_is_closed_and_counted() {
    let world = World::new();
    let short = Duration::from_millis(20);
    let late = world.replica_with(settings(|limits| limits.handshake = short)).await;
    is_closed(&mut mute(&late, stranger(2)).await).await;
    arrived(&late, "it is counted", |now| now == Arrivals { handshakes_late: 1, ..Arrivals::default() }).await;
    late.end().await;

    let silent = world.replica_with(settings(|limits| limits.first_request = short)).await;
    is_closed(&mut nameless(&world, &silent, stranger(2)).await).await;
    arrived(&silent, "it is counted", |now| now == Arrivals { silent: 1, ..Arrivals::default() }).await;
    silent.end().await;

    let staying = world.replica_with(settings(|limits| limits.stranger_stay = short)).await;
    is_closed(&mut nameless(&world, &staying, stranger(2)).await).await;
    arrived(&staying, "it is counted", |now| now == Arrivals { overstayed: 1, ..Arrivals::default() }).await;
    staying.end().await;

    let failing = world.replica_with(settings(|_| ())).await;
    let mut plain = mute(&failing, stranger(2)).await;
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut plain).await.unwrap();
    is_closed(&mut plain).await;
    arrived(&failing, "it is counted", |now| now == Arrivals { handshakes_failed: 1, ..Arrivals::default() }).await;
    failing.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_no_more_than_there_is_for_all_of_them() {
    let world = World::new();
    let replica = world.replica_with(settings(|limits| limits.connections = 1)).await;
    let (first, second) = (world.machine(&replica, 1).await, world.machine(&replica, 2).await);
    let held = world.dial_as(&replica, &first.identity.credential()).await;
    held.exchange(message(Method::GET, path::PING, 2, "")).await.unwrap();
    let credential = second.identity.credential();
    let shown = Arc::new(tls::Credential::new(credential.certified_key()));
    let config = tls::client_config(credential.anchor(), shown, world.clock.clone()).unwrap();
    let refused = async {
        let live = dial(&replica.url.parse().unwrap(), config, &LinkSettings::default()).await?;
        live.exchange(message(Method::GET, path::PING, 2, "")).await
    };
    assert!(refused.await.is_err(), "one more is closed");
    arrived(&replica, "it is counted", |now| now.nodes_refused == 1).await;
    drop(held);
    replica.end().await;
}
