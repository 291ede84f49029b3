use std::time::Duration;

use wherry_control::{Background, FleetSummary};
use wherry_model::Capacity;
use wherry_testkit::{Node, Stack, eventually, sized, spec};

use crate::support::{asked, create, delete, keyed};

#[tokio::test]
async fn every_reconciler_says_how_it_is() {
    let stack = Stack::start().await;
    let background = Background::start(stack.control());
    eventually("all are activated", || async {
        background.statuses().iter().all(|status| status.activations > 0).then_some(())
    })
    .await;
    for status in background.statuses() {
        assert_eq!((status.failures, status.latest), (0, None), "{}", status.name);
    }
    background.stop().await;
}

#[tokio::test]
async fn idle_background_work_writes_nothing() {
    let stack = Stack::start().await;
    stack.background().await;
    let before = stack.store().position();
    stack.background().await;
    assert_eq!(stack.store().position(), before, "an idle service leaves the disk alone");
}

#[tokio::test]
async fn what_was_deleted_is_forgotten_after_the_retention_and_not_before() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    let kept = stack.create(acme, "kept", spec()).await.instance.id.to_string();
    let made = create(stack.control(), acme, keyed(Some("web"), spec(), "k")).await.unwrap();
    let id = made.view.instance.id.to_string();
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    let retention = stack.control().config().retention;
    stack.advance(retention.checked_sub(Duration::from_secs(1)).unwrap());
    stack.background().await;
    stack.read(acme, &id).await;
    assert!(create(stack.control(), acme, keyed(Some("web"), spec(), "k")).await.unwrap().replayed);

    stack.advance(Duration::from_secs(2));
    let statuses = stack.background().await;
    let said = statuses.iter().find(|status| status.name == "retention").unwrap().latest.clone();
    assert!(said.is_some_and(|said| said.starts_with("forgot")));
    let gone = stack.control().get_instance(&acme.principal, &acme.project, &id).await.unwrap_err();
    assert_eq!(gone.code(), "not_found");
    stack.read(acme, &kept).await;
    assert!(!create(stack.control(), acme, keyed(Some("web"), spec(), "k")).await.unwrap().replayed);
}

#[tokio::test]
async fn a_stale_picture_of_the_fleet_corrects_itself() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let (acme, full) = (stack.acme(), sized(1_000, 1_024));
    stack.create(acme, "web", full.clone()).await;
    let behind = stack.replica().await;
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    // The row has room; the replica has not heard of it.
    let background = Background::start(&behind);
    eventually("the replica places again", || async { create(&behind, acme, asked(None, full.clone())).await.ok() })
        .await;
    background.stop().await;
}

#[tokio::test]
async fn the_fleet_in_numbers() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024), Node::sized(2_000, 512)]).start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let wanted = FleetSummary {
        ready_nodes: 2,
        capacity: Capacity { cpu_millis: 3_000, memory_mib: 1_536, instances: 200 },
        used: Capacity { cpu_millis: 250, memory_mib: 64, instances: 1 },
        ..FleetSummary::default()
    };
    assert_eq!(stack.control().fleet_summary().await.unwrap(), wanted);
    assert_eq!(stack.control().nodes(stack.operator()).await.unwrap().len(), 2);
}
