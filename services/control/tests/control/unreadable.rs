//! Records that cannot be read for a while: what their nodes say of them meanwhile is not lost, and holds up nobody else.

use wherry_agent_api::ControlError;
use wherry_metering::Resource;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Fact, Instance, InstanceState, Observation};
use wherry_store::DeferredFact;
use wherry_testkit::{MemoryStore, Stack, main_container, spec};

use crate::support::{seconds, state, work};

async fn stack_on(memory: &MemoryStore) -> (Stack, Instance, Instance) {
    let stack = Stack::builder().on(memory).start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let shop = stack.create(stack.acme(), "shop", spec()).await.instance;
    stack.agent().obey().await;
    (stack, web, shop)
}

async fn billed_seconds(stack: &Stack, name: &str) -> i128 {
    let acme = stack.acme();
    let usage = stack.control().instance_usage(&acme.principal, &acme.project, name).await.unwrap();
    usage.bill.quantity(MeterKind::Run, Resource::Cpu) / 250
}

#[tokio::test]
async fn facts_about_an_unreadable_record_are_applied_when_it_can_be_read() {
    let memory = MemoryStore::new();
    let (stack, web, shop) = stack_on(&memory).await;
    let (acme, agent) = (stack.acme(), stack.agent());
    assert!(memory.break_record(web.id, true));
    stack.advance(seconds(10));
    for id in [web.id, shop.id] {
        agent.exit(id, 0, None);
    }
    agent.report().await.unwrap();
    assert!(agent.unacknowledged(10).is_empty(), "they hold up nobody");
    assert_eq!(state(&stack, acme, "shop").await, InstanceState::Succeeded);
    work(&stack).await;
    stack.advance(seconds(30));
    agent.heartbeat().await.unwrap();
    memory.break_record(web.id, false);
    // What is said now does not overtake what waits.
    let held = state(&stack, acme, "web").await;
    assert_eq!(held, InstanceState::Running);
    agent.say(web.id, web.generation, Fact::SandboxStopped);
    agent.report().await.unwrap();
    assert!(agent.unacknowledged(10).is_empty());
    assert!(stack.read(acme, "web").await.instance.holds_resources);
    stack.background().await;
    let ended = stack.read(acme, "web").await.instance;
    assert_eq!((ended.state, ended.holds_resources), (InstanceState::Succeeded, false));
    assert_eq!(billed_seconds(&stack, "web").await, 10, "to its end, not to when it could be read");
    assert!(stack.store().deferred_instances(None, 10).await.unwrap().is_empty());
    let before = stack.store().position();
    work(&stack).await;
    assert_eq!(stack.store().position(), before, "there is nothing left to do");
    // From here on they are applied as they come.
    stack.control().start_instance(&acme.principal, &acme.project, "web").await.unwrap();
    agent.obey().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
}

#[tokio::test]
async fn two_replicas_apply_what_was_put_off_once() {
    let memory = MemoryStore::new();
    let (stack, web, _) = stack_on(&memory).await;
    memory.break_record(web.id, true);
    stack.advance(seconds(5));
    stack.agent().exit(web.id, 1, Some(stack.agent().now()));
    stack.agent().start_again(web.id);
    stack.agent().report().await.unwrap();
    memory.break_record(web.id, false);
    let other = stack.replica().await;
    let (here, there) = (wherry_control::Background::start(stack.control()), wherry_control::Background::start(&other));
    wherry_testkit::eventually("it has caught up", || async {
        let instance = stack.read(stack.acme(), "web").await.instance;
        (instance.containers[0].runs.len() == 2).then_some(())
    })
    .await;
    here.stop().await;
    there.stop().await;
    let exits = crate::events::of(&stack, stack.acme(), Some("web"), 0).await;
    let exits = exits.iter().filter(|stored| stored.event.kind == wherry_model::EventKind::ContainerExited);
    assert_eq!(exits.count(), 1);
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn an_agent_keeps_what_is_too_much_to_put_off() {
    let memory = MemoryStore::new();
    let (stack, web, shop) = stack_on(&memory).await;
    let agent = stack.agent();
    memory.break_record(web.id, true);
    let readiness = |ready| Fact::Readiness { container: main_container(), run: 1, ready, message: None };
    for count in 0..DeferredFact::MAX_PER_INSTANCE {
        agent.say(web.id, web.generation, readiness(count % 2 == 1));
    }
    agent.report().await.unwrap();
    let said: Vec<Observation> = vec![
        agent.say(shop.id, shop.generation, readiness(false)),
        agent.say(web.id, web.generation, readiness(false)),
        agent.say(shop.id, shop.generation, readiness(true)),
    ];
    assert_eq!(agent.deliver(said.clone()).await.unwrap().through, said[0].seq, "what comes before is taken");
    let refused = agent.deliver(said.clone()).await;
    assert!(matches!(refused, Err(ControlError::Unavailable(_))), "{refused:?}");
    // Nothing of it is lost.
    memory.break_record(web.id, false);
    while !stack.store().deferred_instances(None, 1).await.unwrap().is_empty() {
        stack.background().await;
    }
    agent.report().await.unwrap();
    let ready = |name: &'static str| {
        let stack = &stack;
        async move { !stack.read(stack.acme(), name).await.instance.containers[0].unready }
    };
    assert_eq!((ready("web").await, ready("shop").await), (false, true));
}

#[tokio::test]
async fn an_instance_that_could_not_be_read_when_its_node_came_back_is_taken_out_of_doubt_later() {
    let memory = MemoryStore::new();
    let (stack, web, _) = stack_on(&memory).await;
    let acme = stack.acme();
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Unknown);
    memory.break_record(web.id, true);
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(state(&stack, acme, "shop").await, InstanceState::Running);
    memory.break_record(web.id, false);
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Unknown);
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
}
