//! The whole life of an instance, step by step.

use std::time::Duration;

use wherry_model::InstanceState;
use wherry_testkit::{Stack, spec};

#[tokio::test]
async fn the_usual_life() {
    let stack = Stack::start().await;
    let tenant = stack.acme();
    let created = stack.create(tenant, "web", spec()).await;
    assert_eq!(created.instance.state, InstanceState::Scheduled);
    stack.agent().obey().await;

    let running = stack.read(tenant, "web").await;
    assert_eq!(running.instance.state, InstanceState::Running);
    assert_eq!(stack.zone().lookup(&running.fqdn), running.instance.address);
    stack.advance(Duration::from_secs(10));
    stack.agent().heartbeat().await.unwrap();
    let later = stack.read(tenant, "web").await;
    assert_eq!(later.cost.so_far.0, 10 * (250 * 10_000 + 64 * 1_000));

    let control = stack.control();
    let stopping = control.stop_instance(&tenant.principal, &tenant.project, "web").await.unwrap();
    assert_eq!(stopping.instance.state, InstanceState::Stopping);
    stack.agent().obey().await;
    let stopped = stack.read(tenant, "web").await;
    assert_eq!((stopped.instance.state, stopped.instance.holds_resources), (InstanceState::Stopped, false));
    assert_eq!(stack.zone().lookup(&running.fqdn), None);
}
