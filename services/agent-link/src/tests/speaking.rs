//! Who may say what.

use http::{Method, StatusCode};
use wherry_agent_api::{Ack, ControlError, ControlPlane as _, Report};
use wherry_model::JournalId;

use super::world::{World, heartbeat, message, node};
use crate::client::dial;
use crate::wire::path;
use crate::{LinkSettings, Lives, tls};

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

    world.control.removed.lock().unwrap().insert(node(1));
    assert!(matches!(link.desired(node(1), None).await, Err(ControlError::Forbidden(_))));
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
