use std::time::Duration;

use wherry_control::{Awaited, Control, Waited};
use wherry_model::{InstanceState, RestartPolicy};
use wherry_testkit::{PATIENCE, Stack, Tenant, spec};

use crate::schedules::{hourly, until_due};
use crate::support::delete;

async fn wait(control: Control, tenant: Tenant, states: Vec<InstanceState>, timeout: Duration) -> Waited {
    control.wait_instance(&tenant.principal, &tenant.project, "web", &states, timeout).await.unwrap()
}

#[tokio::test]
async fn a_wait_ends_when_the_state_is_reached() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let waiting = wait(stack.control().clone(), stack.acme().clone(), vec![InstanceState::Running], PATIENCE);
    let waiting = tokio::spawn(waiting);
    stack.agent().obey().await;
    let waited = waiting.await.unwrap();
    assert!(waited.reached);
    assert_eq!(waited.view.instance.state, InstanceState::Running);
    let states = vec![InstanceState::Stopped, InstanceState::Running];
    assert!(wait(stack.control().clone(), stack.acme().clone(), states, Duration::ZERO).await.reached);
}

#[tokio::test]
async fn a_wait_ends_at_its_timeout() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let patience = Duration::from_millis(20);
    let waited = wait(stack.control().clone(), stack.acme().clone(), vec![InstanceState::Running], patience).await;
    assert_eq!((waited.reached, waited.view.instance.state), (false, InstanceState::Scheduled));
}

#[tokio::test]
async fn a_wait_ends_when_the_state_cannot_be_reached_any_more() {
    let stack = Stack::start().await;
    let mut spec = spec();
    spec.restart_policy = RestartPolicy::Never;
    let made = stack.create(stack.acme(), "web", spec).await;
    stack.agent().obey().await;
    let waiting = wait(stack.control().clone(), stack.acme().clone(), vec![InstanceState::Stopped], PATIENCE);
    let waiting = tokio::spawn(waiting);
    stack.agent().exit(made.instance.id, 1, None);
    stack.agent().obey().await;
    let waited = waiting.await.unwrap();
    assert_eq!((waited.reached, waited.view.instance.state), (false, InstanceState::Failed));
}

#[tokio::test]
async fn readiness_and_any_end_can_be_waited_for() {
    let stack = Stack::start().await;
    let mut spec = spec();
    spec.restart_policy = RestartPolicy::Never;
    let made = stack.create(stack.acme(), "web", spec).await;
    let wait = |wanted: Awaited| {
        let (control, acme) = (stack.control().clone(), stack.acme().clone());
        async move { control.wait_instance(&acme.principal, &acme.project, "web", &[wanted], PATIENCE).await.unwrap() }
    };
    let ready = tokio::spawn(wait(Awaited::Ready));
    stack.agent().obey().await;
    assert!(ready.await.unwrap().reached);
    let ended = tokio::spawn(wait(Awaited::Ended));
    stack.agent().exit(made.instance.id, 1, None);
    stack.agent().obey().await;
    let ended = ended.await.unwrap();
    assert_eq!((ended.reached, ended.view.instance.state), (true, InstanceState::Failed));
    // It does not become ready by itself any more.
    assert!(!wait(Awaited::Ready).await.reached);
    // Who waits for its delete waits for somebody to ask for that.
    let gone = tokio::spawn(wait(Awaited::State(InstanceState::Deleted)));
    tokio::task::yield_now().await;
    delete(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    assert!(gone.await.unwrap().reached);
}

#[tokio::test]
async fn a_delete_can_be_waited_for() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    delete(&stack, stack.acme(), "web").await.unwrap();
    let waiting = wait(stack.control().clone(), stack.acme().clone(), vec![InstanceState::Deleted], PATIENCE);
    let waiting = tokio::spawn(waiting);
    // The wait has found the instance by its name before that is gone.
    tokio::task::yield_now().await;
    crate::support::used(&stack, stack.agent().node()).await;
    stack.agent().obey().await;
    assert!(waiting.await.unwrap().reached);
}

#[tokio::test]
async fn what_a_schedule_starts_again_is_waited_for() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", hourly()).await;
    let waiting = wait(stack.control().clone(), stack.acme().clone(), vec![InstanceState::Running], PATIENCE);
    let mut waiting = tokio::spawn(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "it gets there by itself: {early:?}");
    until_due(&stack, "web").await;
    stack.agent().obey().await;
    assert!(waiting.await.unwrap().reached);
    // Between two runs none is there to be waited for when it is suspended.
    let acme = stack.acme();
    let suspended = |instance: &wherry_model::Instance| {
        let mut spec = instance.spec.clone();
        spec.schedule.as_mut().unwrap().suspended = true;
        Ok::<_, wherry_control::Error>(spec)
    };
    stack.control().update_instance(&acme.principal, &acme.project, "web", None, suspended).await.unwrap();
    crate::support::stop(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    let waited = wait(stack.control().clone(), acme.clone(), vec![InstanceState::Running], PATIENCE).await;
    assert_eq!((waited.reached, waited.view.instance.state), (false, InstanceState::Stopped));
}
