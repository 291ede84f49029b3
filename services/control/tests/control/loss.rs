//! Machines that are lost: nothing is run elsewhere before its old copy has ended.

use wherry_agent_api::ControlError;
use wherry_control::{Background, FleetEventKind};
use wherry_model::{Capacity, EndReason, EventKind, Generation, InstanceState, NodeState};
use wherry_testkit::{Node, ScriptedAgent, Stack, replaceable, sized, spec};

use crate::support::{asked, create, delete, seconds, start, state, stop, used, work};

const HALF: Node = Node::sized(1_000, 2_048);

/// The agent of the node that the instance is on.
async fn agent_of<'s>(stack: &'s Stack, name: &str) -> &'s ScriptedAgent {
    let node = stack.read(stack.acme(), name).await.instance.node;
    stack.agents().iter().find(|agent| Some(agent.node()) == node).expect("it is on a node")
}

/// Lets time pass in which only these agents prove life, and every reconciler works each few seconds.
async fn pass(stack: &Stack, count: u64, heard: &[&ScriptedAgent]) {
    let mut left = count;
    while left > 0 {
        let step = left.min(5);
        stack.let_pass(seconds(step)).await;
        for agent in heard {
            agent.heartbeat().await.unwrap();
        }
        stack.background().await;
        left -= step;
    }
}

/// So many instances that have left a lost node and wait for a place: there is none yet.
pub(crate) async fn displaced(stack: &mut Stack, count: u32) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("web-{number}")).collect();
    for name in &names {
        stack.create(stack.acme(), name, replaceable()).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    let lost = agent_of(stack, &names[0]).await;
    let stays = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap().node().to_string();
    stack.control().cordon_node(stack.operator(), &stays).await.unwrap();
    stack.let_pass(seconds(20)).await;
    stack.control().confirm_node_off(stack.operator(), &lost.node().to_string()).await.unwrap();
    for name in &names {
        assert_eq!(state(stack, stack.acme(), name).await, InstanceState::Pending);
    }
    stack.control().uncordon_node(stack.operator(), &stays).await.unwrap();
    let heard = stack.agents().iter().find(|agent| agent.node().to_string() == stays).unwrap();
    heard.heartbeat().await.unwrap();
    names
}

#[tokio::test]
async fn what_may_be_replaced_is_placed_anew_only_after_its_old_copy_has_ended() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    stack.create(acme, "moves", replaceable()).await;
    stack.create(acme, "stays", spec()).await;
    for agent in stack.agents() {
        agent.obey().await;
    }
    let before = stack.read(acme, "moves").await;
    let lost = agent_of(&stack, "moves").await;
    assert_eq!(stack.read(acme, "stays").await.instance.node, Some(lost.node()), "both are on one machine");
    let heard = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap();
    let asked_to_fence = lost.desired().await.unwrap().instances;
    for instance in &asked_to_fence {
        let replaced = instance.id == before.instance.id;
        assert_eq!(instance.fence_after_seconds, replaced.then_some(300));
    }

    // The lease of the agent ends 300 s after its last heartbeat, and with it what may be replaced.
    pass(&stack, 300, &[heard]).await;
    assert_eq!(state(&stack, acme, "moves").await, InstanceState::Unknown);
    lost.fence();
    assert!(!lost.runs(before.instance.id));
    assert!(lost.runs(stack.read(acme, "stays").await.instance.id));
    pass(&stack, 40, &[heard]).await;
    assert_eq!(state(&stack, acme, "moves").await, InstanceState::Unknown, "the margin is not over");
    pass(&stack, 20, &[heard]).await;
    work(&stack).await;
    let moved = stack.read(acme, "moves").await.instance;
    assert_eq!((moved.state, moved.node), (InstanceState::Scheduled, Some(heard.node())));
    assert_eq!(moved.generation, before.instance.generation.next());
    assert_eq!(state(&stack, acme, "stays").await, InstanceState::Unknown, "never run twice");
    heard.obey().await;
    let running = stack.read(acme, "moves").await;
    assert_eq!(stack.zone().lookup(&running.fqdn), running.instance.address);
    assert_eq!((running.instance.state, &running.fqdn), (InstanceState::Running, &before.fqdn));

    // The old copy had ended before the new one began.
    let old = lost.history().into_iter().find(|ran| ran.instance == moved.id).unwrap();
    let new = heard.history().into_iter().find(|ran| ran.instance == moved.id).unwrap();
    assert!(old.to.unwrap() <= new.from, "{old:?} {new:?}");
    let usage = stack.control().instance_usage(&acme.principal, &acme.project, "moves").await.unwrap();
    assert!(usage.bill.lines.iter().all(|line| line.to_second <= stack.agent().now().grid_second()));

    // The machine comes back: it is told first, and takes up what is still its own.
    let fenced = lost.heartbeat().await.unwrap_err();
    assert_eq!(fenced, ControlError::Fenced { epoch: 1 });
    assert_eq!(state(&stack, acme, "stays").await, InstanceState::Unknown, "a fenced heartbeat proves nothing");
    lost.obey().await;
    assert_eq!(state(&stack, acme, "stays").await, InstanceState::Running);
    assert_eq!(state(&stack, acme, "moves").await, InstanceState::Running);
    assert_eq!(stack.read(acme, "moves").await.instance.node, Some(heard.node()));
    let node = stack.store().node(lost.node()).await.unwrap().unwrap();
    assert_eq!((node.state, node.epoch), (NodeState::Ready, 1));
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_heard_in_time_loses_nothing() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    stack.create(acme, "web", replaceable()).await;
    for agent in stack.agents() {
        agent.obey().await;
    }
    let lost = agent_of(&stack, "web").await;
    let heard = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap();
    for _ in 0..3 {
        pass(&stack, 335, &[heard]).await;
        assert_eq!(state(&stack, acme, "web").await, InstanceState::Unknown);
        lost.heartbeat().await.unwrap();
        assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
    }
    assert_eq!(stack.read(acme, "web").await.instance.generation, Generation(1));
    assert_eq!(stack.store().node(lost.node()).await.unwrap().unwrap().epoch, 0);
}

#[tokio::test]
async fn a_replica_that_takes_over_begins_to_wait_anew() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    stack.create(acme, "web", replaceable()).await;
    for agent in stack.agents() {
        agent.obey().await;
    }
    let lost = agent_of(&stack, "web").await;
    let heard = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap();
    pass(&stack, 335, &[heard]).await;
    let fresh = stack.replica().await;
    stack.control().close().await.unwrap();
    for _ in 0..68 {
        stack.let_pass(seconds(5)).await;
        heard.heartbeat().await.unwrap();
        Stack::background_of(&fresh).await;
        assert_eq!(
            stack.read(acme, "web").await.instance.generation,
            Generation(1),
            "it cannot know when it was heard"
        );
    }
    for _ in 0..3 {
        stack.let_pass(seconds(5)).await;
        heard.heartbeat().await.unwrap();
        Stack::background_of(&fresh).await;
    }
    assert_eq!(stack.read(acme, "web").await.instance.node, Some(heard.node()));
}

#[tokio::test]
async fn when_many_are_silent_at_once_nothing_is_replaced_and_it_is_said() {
    let stack = Stack::builder().nodes([HALF; 5]).start().await;
    let acme = stack.acme();
    for number in 0..5 {
        stack.create(acme, &format!("web-{number}"), sized(700, 64)).await;
    }
    let mut replaced = replaceable();
    replaced.containers[0].cpu = wherry_model::CpuMillis::new(300);
    for number in 0..5 {
        stack.create(acme, &format!("r-{number}"), replaced.clone()).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    let heard: Vec<&ScriptedAgent> = stack.agents().iter().skip(2).collect();
    pass(&stack, 400, &heard).await;
    let brake = stack.control().brake().expect("two of five are more than a third");
    assert_eq!((brake.silent, brake.nodes), (2, 5));
    assert!(stack.control().fleet_summary().await.unwrap().brake);
    let said = stack.control().fleet_events(stack.operator(), 0, 1_000).unwrap();
    assert!(said.iter().any(|event| event.kind == FleetEventKind::BrakeOn), "{said:?}");
    for agent in stack.agents() {
        assert_eq!(stack.store().node(agent.node()).await.unwrap().unwrap().epoch, 0);
    }
    let unknown = stack.store().instances_on(stack.agents()[0].node()).await.unwrap().unwrap().instances;
    assert!(!unknown.is_empty() && unknown.iter().all(|one| one.state == InstanceState::Unknown), "detection goes on");

    // An operator who knows better: one machine is really off. That is one silent machine less, and one is no mass.
    let lost = stack.agents()[0].node().to_string();
    stack.control().confirm_node_off(stack.operator(), &lost).await.unwrap();
    assert_eq!(stack.control().brake(), None);
    pass(&stack, 10, &heard).await;
    assert_eq!(stack.store().node(stack.agents()[1].node()).await.unwrap().unwrap().epoch, 1);
    let said = stack.control().fleet_events(stack.operator(), 0, 1_000).unwrap();
    assert!(said.iter().any(|event| event.kind == FleetEventKind::BrakeOff), "{said:?}");
}

#[tokio::test]
async fn machines_that_were_lost_long_ago_do_not_hold_the_brake_also_after_a_restart() {
    let mut stack = Stack::builder().nodes([HALF; 5]).start().await;
    let acme = stack.acme();
    for number in 0..5 {
        stack.create(acme, &format!("web-{number}"), sized(700, 64)).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    // One after the other, two die with instances that wait for their machine: nothing leaves them.
    let agents: Vec<ScriptedAgent> = stack.agents().to_vec();
    for dead in 1..=2 {
        let heard: Vec<&ScriptedAgent> = agents.iter().skip(dead).collect();
        pass(&stack, 400, &heard).await;
        assert_eq!(stack.control().brake(), None);
    }
    stack.crash();
    stack.restart().await;
    let acme = stack.acme();
    let heard: Vec<&ScriptedAgent> = agents.iter().skip(2).collect();
    pass(&stack, 30, &heard).await;
    assert_eq!(stack.control().brake(), None, "the rows tell that both were dealt with");
    // The next one is a single loss, and what it may lose runs elsewhere.
    let mut replaced = replaceable();
    replaced.containers[0].cpu = wherry_model::CpuMillis::new(300);
    stack.create(acme, "r", replaced).await;
    let lost = agent_of(&stack, "r").await;
    lost.obey().await;
    let heard: Vec<&ScriptedAgent> = agents.iter().skip(2).filter(|agent| agent.node() != lost.node()).collect();
    pass(&stack, 400, &heard).await;
    assert_ne!(stack.read(acme, "r").await.instance.node, Some(lost.node()));
    // Both come back: they are told, go on with what they have, and count again.
    for agent in &agents[..2] {
        assert!(matches!(agent.heartbeat().await, Err(ControlError::Fenced { .. })));
        agent.obey().await;
        assert!(!stack.store().node(agent.node()).await.unwrap().unwrap().fenced);
        let kept = stack.store().instances_on(agent.node()).await.unwrap().unwrap().instances;
        assert!(!kept.is_empty() && kept.iter().all(|one| one.state == InstanceState::Running), "{kept:?}");
    }
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn confirmed_off_ends_what_would_wait_for_ever() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    for name in ["kept", "stopped", "deleting", "stopping"] {
        stack.create(acme, name, sized(200, 64)).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    let lost = agent_of(&stack, "kept").await;
    let id = lost.node().to_string();
    stop(&stack, acme, "stopped").await.unwrap();
    lost.obey().await;
    let refused = stack.control().confirm_node_off(stack.operator(), &id).await.unwrap_err();
    assert_eq!(refused.code(), "node_heard");
    let deleting = delete(&stack, acme, "deleting").await.unwrap().instance.id.to_string();
    stop(&stack, acme, "stopping").await.unwrap();
    let refused = stack.control().remove_node(stack.operator(), &id).await.unwrap_err();
    assert_eq!(refused.code(), "node_not_empty");

    let heard = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap();
    pass(&stack, 20, &[heard]).await;
    let status = stack.control().confirm_node_off(stack.operator(), &id).await.unwrap();
    assert!(status.silent_for.is_some());
    let kept = stack.read(acme, "kept").await.instance;
    assert_eq!((kept.state, kept.reason), (InstanceState::Failed, Some(EndReason::NodeLost)));
    assert_eq!(state(&stack, acme, &deleting).await, InstanceState::Deleted);
    assert_eq!(state(&stack, acme, "stopping").await, InstanceState::Stopped);
    assert_eq!(used(&stack, lost.node()).await, Capacity::default());
    stack.control().remove_node(stack.operator(), &id).await.unwrap();
    assert!(stack.control().get_node(stack.operator(), &id).await.is_err());
    assert!(matches!(lost.hello().await, Err(ControlError::Forbidden(_))), "it is no node any more");
    assert_eq!(lost.heartbeat().await, Err(ControlError::UnknownNode));

    // What ended there can be deleted and started although its machine is gone.
    let stopped = stack.read(acme, "stopped").await.instance.id.to_string();
    delete(&stack, acme, "stopped").await.unwrap();
    assert_eq!(state(&stack, acme, &stopped).await, InstanceState::Deleted);
    start(&stack, acme, "kept").await.unwrap();
    heard.obey().await;
    assert_eq!(state(&stack, acme, "kept").await, InstanceState::Running);
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_place_is_told_why_and_gets_the_next_room() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    stack.create(acme, "web", replaceable()).await;
    let lost = agent_of(&stack, "web").await;
    lost.obey().await;
    let heard = stack.agents().iter().find(|agent| agent.node() != lost.node()).unwrap();
    let lost_id = lost.node().to_string();
    stack.control().cordon_node(stack.operator(), &lost_id).await.unwrap();
    stack.create(acme, "full", sized(1_000, 64)).await;
    heard.obey().await;
    stack.let_pass(seconds(20)).await;
    heard.heartbeat().await.unwrap();
    stack.background().await;
    stack.control().confirm_node_off(stack.operator(), &lost_id).await.unwrap();
    stack.background().await;
    let waiting = stack.read(acme, "web").await.instance;
    let message = waiting.message.clone().unwrap();
    assert!(message.starts_with("it waits for a place: ") && message.contains("250m CPU"), "{message}");
    assert_eq!(waiting.state, InstanceState::Pending);
    assert_eq!(stack.control().fleet_summary().await.unwrap().pending_instances, 1);
    for _ in 0..3 {
        stack.background().await;
    }
    assert_eq!(stack.read(acme, "web").await.instance.revision, waiting.revision, "said once");

    delete(&stack, acme, "full").await.unwrap();
    heard.obey().await;
    work(&stack).await;
    heard.obey().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
    let kinds: Vec<EventKind> =
        crate::events::of(&stack, acme, Some("web"), 0).await.iter().map(|stored| stored.event.kind).collect();
    let displaced = kinds.iter().position(|kind| *kind == EventKind::Displaced).unwrap();
    assert_eq!(kinds[displaced + 1], EventKind::Scheduled);
}

#[tokio::test]
async fn waiting_can_be_stopped_and_deleted() {
    let mut stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let names = displaced(&mut stack, 2).await;
    let acme = stack.acme();
    assert_eq!(stop(&stack, acme, &names[0]).await.unwrap().instance.state, InstanceState::Stopped);
    assert_eq!(delete(&stack, acme, &names[1]).await.unwrap().instance.state, InstanceState::Deleted);
    work(&stack).await;
    assert_eq!(state(&stack, acme, &names[0]).await, InstanceState::Stopped);
    assert_eq!(start(&stack, acme, &names[0]).await.unwrap().instance.state, InstanceState::Scheduled);
    create(stack.control(), acme, asked(Some(&names[1]), spec())).await.expect("the name is free");
}

#[tokio::test]
async fn who_found_no_room_is_tried_again_when_there_is() {
    let mut stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let names = displaced(&mut stack, 1).await;
    let acme = stack.acme();
    let heard = stack.agents().iter().find(|agent| agent.running().is_empty()).unwrap();
    stack.create(acme, "full", sized(1_000, 64)).await;
    heard.obey().await;
    let background = Background::start(stack.control());
    let mut passed = 0;
    let mut pass_one = async || {
        stack.let_pass(seconds(1)).await;
        heard.obey().await;
        stack.quiet().await;
        passed += 1;
        passed
    };
    while pass_one().await < 100 {}
    assert_eq!(state(&stack, acme, &names[0]).await, InstanceState::Pending);
    delete(&stack, acme, "full").await.unwrap();
    // Its tries are thirty seconds apart by now.
    while state(&stack, acme, &names[0]).await != InstanceState::Running {
        assert!(pass_one().await < 400, "it is not tried again");
    }
    background.stop().await;
}
