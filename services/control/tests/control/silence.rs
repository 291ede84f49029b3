use wherry_control::Background;
use wherry_metering::Resource;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Clock, EventKind, InstanceState, NodeState};
use wherry_testkit::{Node, Stack, eventually, interrupted, spec};

use crate::support::{asked, create, delete, seconds, state, stop};

async fn billed_seconds(stack: &Stack, name: &str) -> i128 {
    let acme = stack.acme();
    let usage = stack.control().instance_usage(&acme.principal, &acme.project, name).await.unwrap();
    usage.bill.quantity(MeterKind::Run, Resource::Cpu) / 250
}

/// Runs `web` for ten proved seconds, then silence for as long as it takes to be noticed.
async fn silent_stack() -> Stack {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.let_pass(seconds(10)).await;
    stack.agent().heartbeat().await.unwrap();
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    stack
}

#[tokio::test]
async fn a_silent_node_makes_its_instances_unknown_and_closes_their_meters() {
    let stack = silent_stack().await;
    let acme = stack.acme();
    let web = stack.read(acme, "web").await;
    assert_eq!(web.instance.state, InstanceState::Unknown);
    assert_eq!(stack.zone().lookup(&web.fqdn), None);
    assert_eq!(billed_seconds(&stack, "web").await, 10, "closed at the last proof, not at the detection");
    let node = stack.store().node(stack.agent().node()).await.unwrap().unwrap();
    assert_eq!(node.state, NodeState::Silent);
    let refused = create(stack.control(), acme, asked(None, spec())).await.unwrap_err();
    assert_eq!(refused.code(), "capacity_unavailable");
    stack.background().await;
    let kinds: Vec<_> =
        crate::events::of(&stack, acme, Some("web"), 0).await.iter().map(|stored| stored.event.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Unknown).count(), 1, "said once: {kinds:?}");
}

#[tokio::test]
async fn patience_is_not_silence() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    for _ in 0..4 {
        stack.let_pass(seconds(14)).await;
        stack.background().await;
        stack.agent().heartbeat().await.unwrap();
    }
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
}

#[tokio::test]
async fn what_ran_on_is_billed_late_and_answers_again() {
    let stack = silent_stack().await;
    stack.let_pass(seconds(34)).await;
    stack.agent().heartbeat().await.unwrap();
    let web = stack.read(stack.acme(), "web").await;
    assert_eq!(web.instance.state, InstanceState::Running);
    assert_eq!(stack.zone().lookup(&web.fqdn), web.instance.address);
    assert_eq!(billed_seconds(&stack, "web").await, 60);
    let (acme, control) = (stack.acme(), stack.control());
    let bill = control.instance_usage(&acme.principal, &acme.project, "web").await.unwrap().bill;
    let late: Vec<_> = bill.lines.iter().map(|line| (line.late, line.seconds)).collect();
    assert_eq!(late, [(false, 10), (false, 10), (true, 50), (true, 50)]);
    create(control, acme, asked(None, spec())).await.expect("the node takes new instances again");
}

/// A heartbeat that was on its way since before the start shows nothing of it, and nothing else would say again that it runs.
#[tokio::test]
async fn a_proof_that_a_start_has_overtaken_leaves_it_in_doubt_until_the_next() {
    let stack = silent_stack().await;
    stack.agent().heartbeat_with(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
}

#[tokio::test]
async fn what_ended_meanwhile_is_billed_to_its_end() {
    for report_first in [true, false] {
        let stack = silent_stack().await;
        let web = stack.read(stack.acme(), "web").await.instance;
        stack.agent().exit(web.id, 0, None);
        stack.let_pass(seconds(100)).await;
        if report_first {
            stack.agent().report().await.unwrap();
        }
        stack.agent().heartbeat().await.unwrap();
        stack.agent().report().await.unwrap();
        assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Succeeded, "{report_first}");
        assert_eq!(billed_seconds(&stack, "web").await, 26, "{report_first}");
        let (acme, control) = (stack.acme(), stack.control());
        let bill = control.instance_usage(&acme.principal, &acme.project, "web").await.unwrap().bill;
        assert!(bill.lines.iter().all(|line| line.late == (line.number == 2)), "{report_first}: {:?}", bill.lines);
    }
}

#[tokio::test]
async fn asks_during_silence_are_done_afterwards() {
    let stack = silent_stack().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    stop(&stack, acme, "web").await.unwrap();
    stack.background().await;
    stack.let_pass(seconds(4)).await;
    agent.obey().await;
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Stopped);
    assert_eq!(billed_seconds(&stack, "web").await, 30);
    let id = stack.read(acme, "web").await.instance.id.to_string();
    delete(&stack, acme, "web").await.unwrap();
    agent.obey().await;
    assert_eq!(state(&stack, acme, &id).await, InstanceState::Deleted);
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn nobody_is_judged_by_the_time_that_the_control_plane_was_away() {
    let mut stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.crash();
    stack.let_pass(seconds(3_600)).await;
    stack.restart().await;
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(billed_seconds(&stack, "web").await, 3_600);
    // Silence counts from the start of this process.
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
}

#[tokio::test]
async fn doubt_survives_a_restart() {
    let mut stack = silent_stack().await;
    stack.reopen().await;
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    create(stack.control(), stack.acme(), asked(None, spec())).await.unwrap();
}

#[tokio::test]
async fn one_silent_node_leaves_the_others_alone() {
    let stack = Stack::builder().nodes([Node::sized(300, 1_024), Node::sized(300, 1_024)]).start().await;
    for name in ["one", "two"] {
        stack.create(stack.acme(), name, spec()).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    stack.let_pass(seconds(10)).await;
    stack.agents()[1].heartbeat().await.unwrap();
    stack.let_pass(seconds(6)).await;
    stack.background().await;
    for name in ["one", "two"] {
        let instance = stack.read(stack.acme(), name).await.instance;
        let silent = instance.node == Some(stack.agents()[0].node());
        let wanted = if silent { InstanceState::Unknown } else { InstanceState::Running };
        assert_eq!(instance.state, wanted, "{name}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_bills_no_future() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.let_pass(seconds(7_200)).await;
    stack.agent().heartbeat().await.unwrap();
    stack.clock().turn_back(seconds(3_600));
    assert_eq!(billed_seconds(&stack, "web").await, 3_600);
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    let now = stack.clock().now().grid_second();
    let acme = stack.acme();
    let usage = stack.control().instance_usage(&acme.principal, &acme.project, "web").await.unwrap();
    assert!(usage.bill.lines.iter().all(|line| line.to_second <= now), "{:?} is after {now}", usage.bill.lines);
}

#[tokio::test]
async fn hello_alone_proves_nothing() {
    let stack = silent_stack().await;
    stack.agent().hello().await.unwrap();
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
    let node = stack.store().node(stack.agent().node()).await.unwrap().unwrap();
    assert_eq!(node.state, NodeState::Silent, "an agent whose engine is stuck takes nothing new");
}

#[tokio::test]
async fn a_return_that_is_cut_off_is_finished_by_the_next_heartbeat() {
    let stack = silent_stack().await;
    for polls in (1..400).step_by(7) {
        if interrupted(polls, stack.agent().heartbeat()).await.is_some() {
            break;
        }
        stack.quiet().await;
        if polls % 2 == 0 {
            stack.let_pass(seconds(16)).await;
            stack.background().await;
        }
    }
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    create(stack.control(), stack.acme(), asked(None, spec())).await.expect("the node takes new instances again");
}

#[tokio::test]
async fn the_time_in_which_this_process_stood_still_counts_against_nobody() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    let background = Background::start(stack.control());
    let activations = || background.statuses().iter().find(|status| status.name == "node silence").unwrap().activations;
    eventually("it looks", || async { (activations() > 0).then_some(()) }).await;
    // As if it was stopped and continued: its timers are all late.
    stack.let_pass(seconds(600)).await;
    let seen = activations();
    eventually("it looks again", || async { (activations() > seen + 1).then_some(()) }).await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    background.stop().await;
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
}
