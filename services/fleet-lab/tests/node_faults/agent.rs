//! Agents that are killed, away and replaced by newer ones: F14, F15, F16.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use wherry_api_types::{EndReason, InstanceCreate, InstanceState, RestartPolicy};
use wherry_demo_images::SlowPath;
use wherry_fleet_lab::Gate;

use crate::lab::{Lab, SHORT, STEADY, UNTIL_TOLD, eventually, signal};

/// SIGKILL and a new agent at once. What was begun and not yet proved may be undone, and is not billed then.
async fn crash_agent(lab: &mut Lab) {
    lab.history.doubt("node-0");
    let machine = lab.machine("node-0");
    machine.kill();
    machine.begin().unwrap();
    let names = ["node-0".to_owned()];
    lab.fleet.joined(&names).await.unwrap();
}

/// F14. The two other places where an agent is killed at random moments are `kill_loop` and `machine_faults` of the e2e tests.
#[tokio::test(flavor = "multi_thread")]
async fn f14_an_agent_killed_during_pull_create_start_stop_and_delete_goes_on_where_it_was() {
    let mut lab = Lab::start(1, SHORT).await;
    // Pull: the image comes through a line that takes some seconds for it.
    let slow = SlowPath::start(&lab.fleet.registry.address(), 300_000).await.unwrap();
    let registry = lab.fleet.registry.address();
    let namespace = lab.machine("node-0").host.namespace.clone();
    let gate = Gate::out_of(&namespace, 0, slow.address().parse().unwrap()).unwrap();
    let image = lab.tool.replace(&registry, &gate.address().to_string());
    assert_ne!(image, lab.tool);
    let mut pulled = lab.script("pulled", STEADY);
    pulled.containers[0].image = image;
    let plan = lab.history.plan(pulled);
    let pulled = lab.history.create(&lab.client, &plan).await.unwrap();
    lab.reach(&pulled.id, InstanceState::Pulling).await;
    crash_agent(&mut lab).await;
    lab.reach(&pulled.id, InstanceState::Running).await;
    lab.run(lab.script("first", STEADY)).await;

    // Create and start: the same work, cut short at different points.
    let mut made = Vec::new();
    for (number, delay_ms) in [0_u64, 60, 150, 300, 500].into_iter().enumerate() {
        let plan = lab.history.plan(lab.script(&format!("made-{number}"), STEADY));
        made.push(lab.history.create(&lab.client, &plan).await.unwrap().id);
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        crash_agent(&mut lab).await;
    }
    for id in &made {
        lab.reach(id, InstanceState::Running).await;
    }
    // Stop: this one lets itself be killed only after its grace.
    let stubborn = lab.run(lab.script("stubborn", "trap '' TERM; while :; do sleep 1; done")).await;
    lab.client.stop_instance(wherry_fleet_lab::PROJECT, &stubborn.id).await.unwrap();
    crash_agent(&mut lab).await;
    lab.reach(&stubborn.id, InstanceState::Stopped).await;
    // Delete, one asleep and the others running.
    for (id, delay_ms) in [(&stubborn.id, 0), (&made[0], 30), (&made[1], 120), (&made[2], 400)] {
        lab.history.delete(&lab.client, id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        crash_agent(&mut lab).await;
        lab.reach(id, InstanceState::Deleted).await;
    }
    lab.history.doubt_ends("node-0");
    lab.finish().await;
}

/// F15.
#[tokio::test(flavor = "multi_thread")]
async fn f15_what_ends_while_the_agent_is_away_is_told_and_billed_as_it_was() {
    let mut lab = Lab::start(1, SHORT).await;
    let ends = lab.run(lab.script("ends", UNTIL_TOLD)).await;
    let killed = lab.run(lab.script("killed", STEADY)).await;
    let policy = InstanceCreate { restart_policy: Some(RestartPolicy::Always), ..lab.script("again", STEADY) };
    let again = lab.run(policy).await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    lab.machine("node-0").kill();
    signal(&lab.run_number(&ends.id, 1).await, Signal::USR1);
    for id in [&killed.id, &again.id] {
        signal(&lab.run_number(id, 1).await, Signal::KILL);
    }
    let mut ended = Vec::new();
    for id in [&ends.id, &killed.id, &again.id] {
        let gone = eventually("it has ended", async || lab.history.runs(id)[0].missed).await;
        ended.push(gone);
    }
    // Long enough for nobody to take the end of the absence for theirs, and for the machine to be missed.
    for id in [&ends.id, &steady.id] {
        lab.reach(id, InstanceState::Unknown).await;
    }
    lab.machine("node-0").begin().unwrap();
    let told = [lab.reach(&ends.id, InstanceState::Failed).await, lab.reach(&killed.id, InstanceState::Failed).await];
    let told = told.map(|instance| instance.containers[0].runs[0].clone());
    assert_eq!(told.each_ref().map(|run| run.exit_code), [Some(7), Some(137)], "{told:#?}");
    assert!(told.iter().all(|run| run.reason == Some(EndReason::Exited)), "{told:#?}");
    // The policy starts the third one again; that its first run ended when it did is a matter of the history check.
    let run = lab.run_number(&again.id, 2).await;
    assert!(run.made > ended[2]);
    let now = lab.reach(&again.id, InstanceState::Running).await;
    assert_eq!((now.containers[0].restart_count, now.containers[0].runs.len()), (1, 2), "{now:#?}");
    lab.reach(&steady.id, InstanceState::Running).await;
    assert_eq!(lab.history.runs(&steady.id).len(), 1);
    lab.finish().await;
}

/// F16.
#[tokio::test(flavor = "multi_thread")]
async fn f16_a_new_agent_takes_over_under_load_and_no_container_notices() {
    let mut lab = Lab::start(1, SHORT).await;
    let mut steady = Vec::new();
    for number in 0..4 {
        steady.push(lab.run(lab.script(&format!("steady-{number}"), STEADY)).await.id);
    }
    let pids = |lab: &Lab| -> Vec<(u32, Duration)> {
        steady.iter().flat_map(|id| lab.history.runs(id)).map(|run| (run.pid, run.made)).collect()
    };
    let before = pids(&lab);
    // The same program at another place is what a new version looks like to everything around it.
    let copy = lab.fleet.folder().join("wherry-next");
    let original = lab.fleet.binary().to_owned();
    if std::fs::hard_link(&original, &copy).is_err() {
        std::fs::copy(&original, &copy).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (history, client, stop) = (lab.history.clone(), lab.client.clone(), Arc::clone(&stop));
        let bodies: Vec<InstanceCreate> =
            (0..400).map(|number| lab.script(&format!("load-{number}"), STEADY)).collect();
        async move {
            for body in bodies {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let plan = history.plan(body);
                let made = history.create(&client, &plan).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                history.delete(&client, &made.id).await.unwrap();
            }
        }
    });
    for (number, binary) in [&copy, &original, &copy].into_iter().enumerate() {
        // A start that the stop cuts short is undone.
        lab.history.doubt("node-0");
        let machine = lab.machine("node-0");
        machine.stop().await.unwrap();
        machine.program.set_binary(binary);
        machine.begin().unwrap();
        // The new one works: it takes what was asked for meanwhile, and more.
        lab.run(lab.script(&format!("probe-{number}"), STEADY)).await;
        assert_eq!(pids(&lab), before, "an upgrade has touched containers");
        lab.history.doubt_ends("node-0");
    }
    assert!(!load.is_finished(), "the load ended before the upgrades");
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    for id in &steady {
        let now = lab.reach(id, InstanceState::Running).await;
        assert_eq!((now.containers[0].restart_count, now.containers[0].runs.len()), (0, 1), "{now:#?}");
    }
    assert_eq!(pids(&lab), before);
    lab.finish().await;
}
