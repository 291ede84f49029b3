//! Restarts, updates in place, and the end of the time that an instance is kept.

use wherry_control::{Error, InstanceView};
use wherry_model::{
    Clock, ContainerName, CpuMillis, EndReason, Generation, InstanceName, InstanceSpec, InstanceState, OnNodeLoss,
    RestartPolicy,
};
use wherry_testkit::{Node, Stack, main_container, sized, spec};

use crate::support::{delete, seconds, state, stop, used, work};

async fn restart(stack: &Stack, name: &str, pull: bool) -> Result<InstanceView, Error> {
    let acme = stack.acme();
    stack.control().restart_instance(&acme.principal, &acme.project, name, pull).await
}

async fn restart_main(stack: &Stack, container: &ContainerName, pull: bool) -> Result<InstanceView, Error> {
    let acme = stack.acme();
    stack.control().restart_container(&acme.principal, &acme.project, "web", container, pull).await
}

async fn update(stack: &Stack, if_match: Option<u64>, edit: fn(&mut InstanceSpec)) -> Result<InstanceView, Error> {
    let acme = stack.acme();
    let if_match = if_match.map(Generation);
    let edit = |instance: &wherry_model::Instance| {
        let mut spec = instance.spec.clone();
        edit(&mut spec);
        Ok(spec)
    };
    stack.control().update_instance(&acme.principal, &acme.project, "web", if_match, edit).await
}

/// An instance `web` that runs.
async fn running(stack: &Stack, spec: InstanceSpec) -> InstanceView {
    stack.create(stack.acme(), "web", spec).await;
    stack.agent().obey().await;
    stack.read(stack.acme(), "web").await
}

#[tokio::test]
async fn a_restart_keeps_place_address_and_generation() {
    let stack = Stack::start().await;
    let before = running(&stack, spec()).await.instance;
    restart_main(&stack, &main_container(), false).await.unwrap();
    stack.agent().obey().await;
    let after = stack.read(stack.acme(), "web").await.instance;
    assert_eq!((after.state, after.generation), (InstanceState::Running, before.generation));
    assert_eq!((after.node, after.address), (before.node, before.address));
    let runs = &after.containers[0].runs;
    assert_eq!((runs.len(), runs[0].end.as_ref().unwrap().reason), (2, EndReason::Restarted));
    assert_eq!(after.containers[0].image_digest, before.containers[0].image_digest);
    // Again, with another look at the registry.
    let asked = restart(&stack, "web", true).await.unwrap().instance;
    assert_eq!(asked.containers[0].image_digest, None);
    stack.agent().obey().await;
    let pulled = stack.read(stack.acme(), "web").await.instance;
    assert_eq!((pulled.containers[0].runs.len(), pulled.containers[0].image_digest.is_some()), (3, true));
}

#[tokio::test]
async fn a_restart_of_what_has_ended_is_a_start() {
    let stack = Stack::start().await;
    running(&stack, spec()).await;
    stop(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    let refused = restart_main(&stack, &main_container(), false).await.unwrap_err();
    assert_eq!(refused.code(), "instance_ended");
    let started = restart(&stack, "web", true).await.unwrap().instance;
    assert_eq!((started.state, started.generation), (InstanceState::Scheduled, Generation(2)));
    assert_eq!(started.containers[0].image_digest, None);
    delete(&stack, stack.acme(), "web").await.unwrap();
    assert_eq!(restart(&stack, "web", false).await.unwrap_err().code(), "not_found");
    let unknown = ContainerName::new("other").unwrap();
    assert_eq!(restart_main(&stack, &unknown, false).await.unwrap_err().code(), "not_found");
}

#[tokio::test]
async fn an_update_restarts_only_what_must_and_is_guarded() {
    let stack = Stack::start().await;
    running(&stack, spec()).await;
    let labelled = update(&stack, Some(1), |spec| drop(spec.labels.insert("team".into(), "net".into()))).await.unwrap();
    assert_eq!((labelled.instance.version(), labelled.instance.containers[0].revision), (Generation(2), 0));
    stack.agent().obey().await;
    assert_eq!(stack.read(stack.acme(), "web").await.instance.containers[0].runs.len(), 1);
    let late = update(&stack, Some(1), |spec| spec.containers[0].args.push("x".into())).await.unwrap_err();
    assert!(matches!(late, Error::GenerationMismatch(2)), "{late}");
    update(&stack, Some(2), |spec| spec.containers[0].args.push("x".into())).await.unwrap();
    stack.agent().obey().await;
    let after = stack.read(stack.acme(), "web").await.instance;
    assert_eq!((after.containers[0].runs.len(), after.state), (2, InstanceState::Running));
    let fixed = update(&stack, None, |spec| spec.on_node_loss = OnNodeLoss::Replace).await.unwrap_err();
    assert_eq!((fixed.code(), fixed.field()), ("cannot_change_in_place", Some("on_node_loss")));
    assert!(fixed.to_string().contains("stop it"), "{fixed}");
    let wrong = update(&stack, None, |spec| spec.containers[0].cpu = CpuMillis::new(1)).await.unwrap_err();
    assert_eq!(wrong.code(), "invalid_field");
    assert_eq!(stack.read(stack.acme(), "web").await.instance.version(), after.version());
}

#[tokio::test]
async fn another_size_is_taken_from_the_machine_or_refused_with_a_way_out() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let acme = stack.acme();
    running(&stack, sized(250, 64)).await;
    stack.create(acme, "neighbour", sized(500, 64)).await;
    let node = stack.agent().node();
    let resize = |cpu: u32| {
        move |instance: &wherry_model::Instance| {
            let mut spec = instance.spec.clone();
            spec.containers[0].cpu = CpuMillis::new(cpu);
            Ok::<_, Error>(spec)
        }
    };
    let control = stack.control();
    let preview = control.preview_update(&acme.principal, &acme.project, "web", None, resize(501)).await.unwrap();
    assert!(!preview.dry_run.fits && preview.dry_run.why_not.unwrap().contains("stop the instance"));
    let full = control.update_instance(&acme.principal, &acme.project, "web", None, resize(501)).await.unwrap_err();
    assert_eq!(full.code(), "capacity_unavailable");
    assert!(full.to_string().contains("stop the instance"), "{full}");
    assert_eq!(used(&stack, node).await.cpu_millis, 750);
    let preview = control.preview_update(&acme.principal, &acme.project, "web", None, resize(500)).await.unwrap();
    assert_eq!((preview.dry_run.fits, preview.plan.restarts[0].because.join(" ")), (true, "cpu".to_owned()));
    assert_eq!(used(&stack, node).await.cpu_millis, 750, "a preview takes nothing");
    stack.clock().advance(seconds(10));
    control.update_instance(&acme.principal, &acme.project, "web", None, resize(500)).await.unwrap();
    assert_eq!(used(&stack, node).await.cpu_millis, 1_000);
    // The picture knows it too: nothing else fits now, and does when there is less again.
    let other = crate::support::asked(Some("other"), sized(10, 4));
    let refused = control.create_instance(&acme.principal, other.clone()).await.unwrap_err();
    assert_eq!(refused.code(), "capacity_unavailable");
    control.update_instance(&acme.principal, &acme.project, "web", None, resize(100)).await.unwrap();
    control.create_instance(&acme.principal, other).await.unwrap();
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(used(&stack, node).await.cpu_millis, 510);
}

#[tokio::test]
async fn another_size_waits_for_a_proof_that_the_machine_lives() {
    let stack = Stack::start().await;
    running(&stack, sized(250, 64)).await;
    stack.clock().advance(seconds(16));
    let silent = update(&stack, None, |spec| spec.containers[0].cpu = CpuMillis::new(300)).await.unwrap_err();
    assert_eq!(silent.code(), "machine_silent");
    update(&stack, None, |spec| drop(spec.labels.insert("team".into(), "net".into()))).await.unwrap();
    stack.agent().heartbeat().await.unwrap();
    update(&stack, None, |spec| spec.containers[0].cpu = CpuMillis::new(300)).await.unwrap();
}

#[tokio::test]
async fn what_ended_is_deleted_exactly_when_its_time_is_over() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    let kept = InstanceSpec { ttl_seconds: Some(60), restart_policy: RestartPolicy::Never, ..spec() };
    let made = running(&stack, kept.clone()).await.instance;
    let behind = stack.replica().await;
    stack.clock().advance(seconds(3_600));
    work(&stack).await;
    stack.agent().obey().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running, "it runs for as long as it wants");
    stack.agent().exit(made.id, 0, None);
    stack.agent().obey().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Succeeded);
    let left = stack.read(acme, "web").await.instance.expires_at.unwrap().since(stack.clock().now());
    stack.clock().advance(left.checked_sub(seconds(1)).unwrap());
    work(&stack).await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Succeeded);
    stack.clock().advance(seconds(1));
    work(&stack).await;
    assert_eq!(
        behind.get_instance(&acme.principal, &acme.project, "web").await.unwrap().instance.state,
        InstanceState::Deleting
    );
    stack.agent().obey().await;
    let id = made.id.to_string();
    assert_eq!(stack.read(acme, &id).await.instance.state, InstanceState::Deleted);
    // What somebody stopped stays.
    let name = InstanceName::new("kept").unwrap();
    stack.create(acme, name.as_str(), kept).await;
    stack.agent().obey().await;
    stop(&stack, acme, "kept").await.unwrap();
    stack.agent().obey().await;
    stack.clock().advance(seconds(7_200));
    work(&stack).await;
    assert_eq!(state(&stack, acme, "kept").await, InstanceState::Stopped);
}
