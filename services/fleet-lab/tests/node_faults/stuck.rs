//! A containerd that is stopped (SIGSTOP) while what runs in it may run elsewhere: F26 without anybody who answers.

use rustix::process::{Pid, Signal, kill_process};
use wherry_api_types::{EndReason, InstanceState};

use crate::lab::{Lab, SHORT, eventually};

/// Lets it go on, also when the test fails.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that was replaced meanwhile is gone.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The agent lives. It proves no life of what containerd does not show, so its lease runs out by that alone.
#[tokio::test(flavor = "multi_thread")]
async fn f26_copies_in_a_containerd_that_hangs_have_ended_before_the_new_ones_begin() {
    ended_before_the_new_one_begins(false).await;
}

/// Nobody but the guard is left.
#[tokio::test(flavor = "multi_thread")]
async fn f26_copies_of_a_dead_agent_in_a_containerd_that_hangs_have_ended_before_the_new_ones_begin() {
    ended_before_the_new_one_begins(true).await;
}

async fn ended_before_the_new_one_begins(agent_dies: bool) {
    let mut lab = Lab::start(2, SHORT).await;
    lab.client.cordon_node("node-1").await.unwrap();
    let stubborn = "trap '' TERM; while :; do sleep 0.2; done";
    let replaced = wherry_api_types::InstanceCreate {
        on_node_loss: Some(wherry_api_types::OnNodeLoss::Replace),
        ..lab.script("replaced", stubborn)
    };
    let replaced = lab.run(replaced).await;
    let kept = lab.run(lab.script("kept", crate::lab::STEADY)).await;
    lab.client.uncordon_node("node-1").await.unwrap();
    lab.history.doubt("node-0");
    let machine = lab.machine("node-0");
    let containerd = machine.containerd_pid().unwrap();
    let stopped = Stopped::stop(containerd);
    if agent_dies {
        machine.kill();
    }
    let second = lab.run_number(&replaced.id, 2).await;
    let first = lab.run_number(&replaced.id, 1).await;
    let ended = first.missed.unwrap_or_else(|| panic!("two copies: {first:?} {second:?}"));
    assert!(second.machine == "node-1" && ended < second.made, "{first:?} {second:?}");
    assert!(lab.history.runs(&kept.id)[0].missed.is_none(), "what may stay was ended");

    drop(stopped);
    if agent_dies {
        lab.machine("node-0").begin().unwrap();
    }
    lab.reach(&kept.id, InstanceState::Running).await;
    lab.reach(&replaced.id, InstanceState::Running).await;
    assert_eq!(lab.history.runs(&kept.id).len(), 1);
    assert_eq!(lab.history.runs(&replaced.id).len(), 2, "the old copy was begun again");
    let told = lab.client.instance(wherry_fleet_lab::PROJECT, &replaced.id).await.unwrap();
    assert_eq!(told.containers[0].runs[0].reason, Some(EndReason::NodeLost), "{told:#?}");
    // Nothing of it stays in the containerd that has gone on, or in the one that the agent has put in its place.
    eventually("the old copy is removed", async || {
        let things = lab.machine("node-0").engine().ok()?;
        (!things.iter().any(|thing| thing.instance() == Some(replaced.id.as_str()))).then_some(())
    })
    .await;
    lab.history.doubt_ends("node-0");
    lab.finish().await;
}
