//! Machines that are cut off, in one direction or both, and bad lines: F24, F26, F27, F29.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wherry_api_types::{InstanceState, NodeState};
use wherry_fleet_lab::{Direction, Machine, PROJECT, dns};

use crate::lab::{Lab, PATIENCE, SHORT, STEADY, UNTIL_TOLD, eventually, signal};

/// F24: longer than the detection time, which is shortened.
#[tokio::test(flavor = "multi_thread")]
async fn f24_a_machine_that_is_cut_off_is_unknown_and_comes_back_as_it_was() {
    let lab = Lab::start(1, SHORT).await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    let ends = lab.run(lab.script("ends", UNTIL_TOLD)).await;
    let host = lab.fleet.machines[0].host.clone();
    for round in 0..2 {
        lab.fleet.network.cut(&host, Direction::Both).unwrap();
        lab.reach(&steady.id, InstanceState::Unknown).await;
        eventually("its name is withdrawn", async || {
            let replica = &lab.fleet.replicas[0];
            let answer = dns::ask_in(&replica.host.namespace, replica.dns(), &steady.fqdn).ok()?;
            answer.addresses.is_empty().then_some(())
        })
        .await;
        lab.node("node-0", "silent", |node| node.state == NodeState::Silent).await;
        // What ends there ends unheard.
        if round == 0 {
            signal(&lab.run_number(&ends.id, 1).await, Signal::USR1);
            eventually("it ends", async || lab.history.runs(&ends.id)[0].missed).await;
        }
        lab.fleet.network.mend(&host).unwrap();
        lab.reach(&steady.id, InstanceState::Running).await;
    }
    let ended = lab.reach(&ends.id, InstanceState::Failed).await;
    assert_eq!(ended.containers[0].runs[0].exit_code, Some(7), "{ended:#?}");
    let runs = lab.history.runs(&steady.id);
    assert!(runs.len() == 1 && runs[0].missed.is_none(), "{runs:?}");
    lab.finish().await;
}

/// An operator was wrong: the machine was said to be off and was only cut off. It was removed, so it hears no desired state again.
#[tokio::test(flavor = "multi_thread")]
async fn f24_a_machine_that_was_removed_while_it_was_cut_off_ends_what_it_has() {
    let lab = Lab::start(1, SHORT).await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    let host = lab.fleet.machines[0].host.clone();
    lab.history.gone("node-0");
    lab.fleet.network.cut(&host, Direction::Both).unwrap();
    lab.reach(&steady.id, InstanceState::Unknown).await;
    lab.client.confirm_node_off("node-0").await.unwrap();
    lab.reach(&steady.id, InstanceState::Failed).await;
    lab.client.remove_node("node-0").await.unwrap();
    assert!(lab.history.runs(&steady.id)[0].missed.is_none(), "it cannot know yet");
    lab.fleet.network.mend(&host).unwrap();
    eventually("it has ended", async || lab.history.runs(&steady.id)[0].missed).await;
    lab.finish().await;
}

/// F37 and then an operator's hurry: with a new token it would be another node, which knows nothing of what runs there.
#[tokio::test(flavor = "multi_thread")]
async fn f37_a_machine_whose_certificate_has_expired_becomes_no_other_node_over_what_runs_on_it() {
    let mut lab = Lab::start(1, &format!("certificate_seconds = 30\n{SHORT}")).await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    lab.machine("node-0").kill();
    lab.history.gone("node-0");
    let invitation = lab.fleet.invite().await.unwrap();
    // It lives no longer than that, and is never renewed now.
    tokio::time::sleep(Duration::from_secs(31)).await;
    let machine = lab.machine("node-0");
    machine.join(&invitation).unwrap();
    let refused = machine.ended(PATIENCE).await.unwrap();
    let said = machine.last_lines();
    assert!(!refused.success() && said.contains("down`") && said.contains("joined with"), "{said}");
    assert!(lab.history.runs(&steady.id)[0].missed.is_none(), "it runs on");
    lab.client.confirm_node_off("node-0").await.unwrap();
    lab.reach(&steady.id, InstanceState::Failed).await;
    lab.finish().await;
}

/// F26.
#[tokio::test(flavor = "multi_thread")]
async fn f26_a_copy_that_is_replaced_has_ended_before_the_new_one_begins() {
    a_cut_machine_is_replaced(Direction::Both).await;
}

/// F27: what it says is heard for as long as connections last, and no answer reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn f27_a_machine_that_hears_no_answer_ends_its_copies_by_itself() {
    a_cut_machine_is_replaced(Direction::Incoming).await;
}

/// F27, the reverse: it is not heard.
#[tokio::test(flavor = "multi_thread")]
async fn f27_a_machine_that_is_not_heard_ends_its_copies_by_itself() {
    a_cut_machine_is_replaced(Direction::Outgoing).await;
}

async fn a_cut_machine_is_replaced(direction: Direction) {
    let lab = Lab::start(2, SHORT).await;
    // Both on the first machine.
    lab.client.cordon_node("node-1").await.unwrap();
    let replaced = lab.run(lab.replaced("replaced")).await;
    let kept = lab.run(lab.script("kept", STEADY)).await;
    lab.client.uncordon_node("node-1").await.unwrap();
    assert_eq!(lab.run_number(&replaced.id, 1).await.machine, "node-0");
    let host = lab.fleet.machines[0].host.clone();
    lab.history.doubt_of("node-0", &replaced.id);
    lab.fleet.network.cut(&host, direction).unwrap();
    lab.reach(&replaced.id, InstanceState::Unknown).await;

    let second = lab.run_number(&replaced.id, 2).await;
    let first = lab.run_number(&replaced.id, 1).await;
    assert_eq!(second.machine, "node-1");
    // By the kernel's own times, and not by a hair: the margin lies between.
    let ended = first.missed.unwrap_or_else(|| panic!("two copies: {first:?} {second:?}"));
    assert!(ended < second.made, "the old copy ended after the new one was made: {first:?} {second:?}");
    lab.reach(&replaced.id, InstanceState::Running).await;
    // The one that is kept still runs where it is.
    assert_eq!(lab.reach(&kept.id, InstanceState::Unknown).await.state, InstanceState::Unknown);
    assert!(lab.history.runs(&kept.id)[0].missed.is_none());

    lab.fleet.network.mend(&host).unwrap();
    lab.reach(&kept.id, InstanceState::Running).await;
    lab.node("node-0", "ready", |node| node.state == NodeState::Ready).await;
    let runs = lab.history.runs(&replaced.id);
    assert_eq!(runs.len(), 2, "the old copy was begun again: {runs:?}");
    lab.history.doubt_ends("node-0");
    lab.finish().await;
}

/// F26 without a cut: there is no agent to end what may run elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn f26_copies_of_an_agent_that_is_dead_have_ended_before_the_new_ones_begin() {
    an_agent_that_does_nothing_is_replaced(Machine::kill, Machine::begin).await;
}

/// The same with an agent that is there and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f26_copies_of_an_agent_that_is_frozen_have_ended_before_the_new_ones_begin() {
    an_agent_that_does_nothing_is_replaced(
        |machine| machine.program.freeze().unwrap(),
        |machine| machine.program.thaw(),
    )
    .await;
}

async fn an_agent_that_does_nothing_is_replaced(
    stop: impl FnOnce(&mut Machine),
    begin: impl FnOnce(&mut Machine) -> anyhow::Result<()>,
) {
    let mut lab = Lab::start(2, SHORT).await;
    lab.client.cordon_node("node-1").await.unwrap();
    let replaced = lab.run(lab.replaced("replaced")).await;
    let kept = lab.run(lab.script("kept", STEADY)).await;
    lab.client.uncordon_node("node-1").await.unwrap();
    lab.history.doubt_of("node-0", &replaced.id);
    stop(lab.machine("node-0"));
    let second = lab.run_number(&replaced.id, 2).await;
    let first = lab.run_number(&replaced.id, 1).await;
    let ended = first.missed.unwrap_or_else(|| panic!("two copies: {first:?} {second:?}"));
    assert!(second.machine == "node-1" && ended < second.made, "{first:?} {second:?}");
    begin(lab.machine("node-0")).unwrap();
    lab.reach(&kept.id, InstanceState::Running).await;
    assert_eq!(lab.history.runs(&kept.id).len(), 1);
    assert_eq!(lab.history.runs(&replaced.id).len(), 2);
    lab.history.doubt_ends("node-0");
    lab.finish().await;
}

/// F29, with the usual detection time: no false verdict.
#[tokio::test(flavor = "multi_thread")]
async fn f29_work_goes_on_over_a_line_that_loses_a_third_and_over_a_thin_one() {
    let lab = Lab::start(1, "").await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    let host = lab.fleet.machines[0].host.clone();
    for (number, bad) in ["lossy", "thin"].into_iter().enumerate() {
        if number == 0 {
            lab.fleet.network.lose(&host, 30).unwrap();
        } else {
            lab.fleet.network.slow(&host, 128).unwrap();
        }
        let begun = Instant::now();
        let mut made = Vec::new();
        for which in 0..3 {
            made.push(lab.run(lab.script(&format!("{bad}-{which}"), STEADY)).await.id);
        }
        lab.history.delete(&lab.client, &made[0]).await.unwrap();
        lab.reach(&made[0], InstanceState::Deleted).await;
        // Longer than the detection time, all in all.
        while begun.elapsed() < Duration::from_secs(20) {
            let node = lab.client.node("node-0").await.unwrap();
            assert!(node.state == NodeState::Ready && node.silent_seconds.is_none(), "a false verdict: {node:?}");
            let now = lab.client.instance(PROJECT, &steady.id).await.unwrap();
            assert_eq!(now.state, InstanceState::Running);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        lab.fleet.network.mend(&host).unwrap();
    }
    lab.finish().await;
}
