//! Who may say what.

use std::sync::Arc;

use http::{Method, StatusCode};
use wherry_agent_api::{Ack, ControlError, ControlPlane as _, Report};
use wherry_model::JournalId;

use super::world::{World, heartbeat, message, node, until};
use crate::client::dial;
use crate::wire::path;
use crate::{AgentPortSettings, DialError, LinkSettings, Lives, tls};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_for_itself_and_for_no_other() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let link = world.link(&machine);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    assert_eq!(*world.control.heartbeats.lock().unwrap(), [heartbeat(node(1), 1)]);
    assert_eq!(link.desired(node(1), None).await.unwrap().unwrap().revision, 7);
    assert_eq!(link.surroundings(node(1), Some(1)).await.unwrap(), None);
    assert_eq!(link.calls().await.unwrap(), Vec::<serde_json::Value>::new());
    let journal = JournalId::from_uuid(uuid::Uuid::from_u128(6));
    let report = |of| Report { node: of, journal, observations: Vec::new() };
    assert_eq!(link.report(report(node(1))).await.unwrap(), Ack { through: 0 });
    assert_eq!(link.heartbeat(heartbeat(node(1), 9)).await, Err(ControlError::Fenced { epoch: 10 }));

    assert!(matches!(link.heartbeat(heartbeat(node(2), 1)).await, Err(ControlError::Forbidden(_))));
    assert!(matches!(link.report(report(node(2))).await, Err(ControlError::Forbidden(_))));
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 1);

    world.control.unknown.lock().unwrap().insert(node(1));
    assert!(matches!(link.desired(node(1), None).await, Err(ControlError::Forbidden(_))));
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_hears_it_if_that_is_on_record_and_its_certificate_is_valid() {
    let world = World::new();
    let replica = world.replica().await;
    let (machine, other) = (world.machine(&replica, 1).await, world.machine(&replica, 2).await);
    let link = world.link(&machine);
    let waiting = tokio::spawn({
        let link = Arc::clone(&link);
        async move { link.desired(node(1), Some(7)).await }
    });
    until("it waits", || world.control.desired.receiver_count() == 1).await;
    world.control.removed.lock().unwrap().insert(node(1));
    world.control.desired.send_modify(|desired| desired.revision = 8);
    assert_eq!(waiting.await.unwrap(), Err(ControlError::Removed), "also who was let in before");
    assert_eq!(link.heartbeat(heartbeat(node(1), 1)).await, Err(ControlError::Removed));
    assert_eq!(link.hello(super::versions::hello(1)).await, Err(ControlError::Removed));
    assert_eq!(link.renew("whatever".to_owned()).await.err(), Some(ControlError::Removed));

    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let former = live.exchange(message(Method::GET, path::DESIRED, 1, "")).await.unwrap();
    assert_eq!(former.status, StatusCode::FORBIDDEN);
    assert!(matches!(serde_json::from_slice(&former.body).unwrap(), ControlError::Forbidden(_)), "protocol 1");

    let good = world.link(&other);
    good.heartbeat(heartbeat(node(2), 1)).await.unwrap();
    world.control.unknown.lock().unwrap().insert(node(2));
    let forbidden = good.heartbeat(heartbeat(node(2), 1)).await;
    assert!(matches!(forbidden, Err(ControlError::Forbidden(_))), "nothing is on record: {forbidden:?}");

    world.clock.at(Lives::default().node.as_secs() + 1);
    let expired = live.exchange(message(Method::GET, path::DESIRED, 2, "")).await.unwrap();
    assert!(matches!(serde_json::from_slice(&expired.body).unwrap(), ControlError::Forbidden(_)));
    drop(live);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_or_too_old_a_protocol_gets_nothing() {
    let world = World::new();
    let replica = world.replica().await;
    let config = tls::joining_config(world.authority.fingerprint(), world.clock.clone()).unwrap();
    let live = dial(&replica.url.parse().unwrap(), config, &LinkSettings::default()).await.unwrap();
    for path in [path::DESIRED, path::CALLS, path::SURROUNDINGS] {
        let bare = live.exchange(message(Method::GET, path, 2, "")).await.unwrap();
        assert_eq!(bare.status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in [path::HELLO, path::REPORT, path::HEARTBEAT, path::RENEW, "/agent/v2/answer/x"] {
        let bare = live.exchange(message(Method::POST, path, 2, "{}")).await.unwrap();
        assert_eq!(bare.status, StatusCode::FORBIDDEN, "{path}");
    }
    let old = live.exchange(message(Method::GET, path::DESIRED, 0, "")).await.unwrap();
    assert_eq!(old.status, StatusCode::UPGRADE_REQUIRED);
    drop(live);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_opens_nothing_on_a_connection_that_is_open() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let link = world.link(&machine);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    world.clock.at(Lives::default().node.as_secs() + 1);
    assert!(matches!(link.heartbeat(heartbeat(node(1), 1)).await, Err(ControlError::Forbidden(_))));
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 1);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_and_the_next_one_is_taken() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let good = serde_json::to_string(&heartbeat(node(1), 1)).unwrap();
    let too_long = format!("{}{good}", " ".repeat(65 * 1024));
    for (path, garbage) in [
        (path::HEARTBEAT, ""),
        (path::HEARTBEAT, "{"),
        (path::HEARTBEAT, "[]"),
        (path::HEARTBEAT, &good[..good.len() - 1]),
        (path::HEARTBEAT, "\u{0}\u{1}\u{2}"),
        (path::HELLO, &good),
        (path::HELLO, &too_long),
        (path::RENEW, "{\"csr\":\"-----BEGIN CERTIFICATE REQUEST-----\"}"),
    ] {
        let answer = live.exchange(message(Method::POST, path, 2, garbage)).await.unwrap();
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {:?}", &garbage[..garbage.len().min(40)]);
        assert!(matches!(serde_json::from_slice(&answer.body).unwrap(), ControlError::Refused(_)));
        let taken = live.exchange(message(Method::POST, path::HEARTBEAT, 2, &good)).await.unwrap();
        assert_eq!(taken.status, StatusCode::OK);
    }
    for (method, path) in [(Method::GET, path::HELLO), (Method::POST, path::DESIRED), (Method::GET, "/agent/v3/hello")]
    {
        assert_eq!(live.exchange(message(method, path, 2, "")).await.unwrap().status, StatusCode::NOT_FOUND, "{path}");
    }
    let wrong = live.exchange(message(Method::GET, "/agent/v2/desired?have=x", 2, "")).await.unwrap();
    assert!(wrong.status.is_client_error(), "{}", wrong.status);
    drop(live);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_holds_its_share_and_no_more_and_others_theirs() {
    let world = World::new();
    let mut settings = AgentPortSettings::default();
    (settings.limits.requests_of_a_node, settings.limits.connections_of_a_node) = (3, 2);
    let replica = world.replica_with(settings).await;
    let (greedy, modest) = (world.machine(&replica, 1).await, world.machine(&replica, 2).await);
    let live = Arc::new(world.dial_as(&replica, &greedy.identity.credential()).await);
    let poll = || message(Method::GET, "/agent/v2/desired?have=7", 2, "");
    let polls: Vec<_> = (0..3)
        .map(|_| {
            let (live, poll) = (Arc::clone(&live), poll());
            tokio::spawn(async move { live.exchange(poll).await.unwrap().status })
        })
        .collect();
    until("all are under way", || world.control.desired.receiver_count() == 3).await;
    // More streams than that are not opened on one connection; on another they are refused.
    let second = world.dial_as(&replica, &greedy.identity.credential()).await;
    let refused = second.exchange(poll()).await.unwrap();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let third = world.dial_as(&replica, &greedy.identity.credential()).await;
    assert!(third.exchange(poll()).await.is_err(), "a third connection is closed");
    let other = world.dial_as(&replica, &modest.identity.credential()).await;
    let good = serde_json::to_string(&heartbeat(node(2), 1)).unwrap();
    assert_eq!(other.exchange(message(Method::POST, path::HEARTBEAT, 2, &good)).await.unwrap().status, StatusCode::OK);
    world.control.desired.send_modify(|desired| desired.revision = 8);
    for poll in polls {
        assert_eq!(poll.await.unwrap(), StatusCode::OK);
    }
    drop((live, second, third, other));
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_node_cannot_serve() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let shown = machine.identity.credential();
    let (key, chain) = (shown.certified_key(), shown.certified_key().cert.clone());
    // A server that shows it, although it does not say `control.wherry` either.
    let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key.key.clone()));
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![tls::ALPN_HTTP2.to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let credential = Arc::new(tls::Credential::new(shown.certified_key()));
    let as_node = tls::client_config(shown.anchor(), credential, world.clock.clone()).unwrap();
    let joining = tls::joining_config(world.authority.fingerprint(), world.clock.clone()).unwrap();
    for config in [as_node, joining] {
        let dialled = dial(&url.parse().unwrap(), config, &LinkSettings::default()).await;
        assert!(matches!(dialled, Err(DialError::Trust { .. })));
    }
    accepting.abort();
    replica.end().await;
}
