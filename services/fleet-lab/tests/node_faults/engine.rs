//! containerd dies and is restarted: F17.

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use wherry_api_client::LogOptions;
use wherry_api_types::InstanceState;
use wherry_fleet_lab::PROJECT;

use crate::lab::{Lab, SHORT, STEADY, eventually};

/// F17. The same on one machine is `machine_faults` of the e2e tests.
#[tokio::test(flavor = "multi_thread")]
async fn f17_containers_do_not_notice_that_containerd_was_killed_or_restarted() {
    let mut lab = Lab::start(1, SHORT).await;
    let ticking = lab.run(lab.script("ticking", "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.3; done")).await;
    let steady = lab.run(lab.script("steady", STEADY)).await;
    let before = [lab.run_number(&ticking.id, 1).await.pid, lab.run_number(&steady.id, 1).await.pid];
    for (number, signal) in [Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut stream = lab.client.logs(PROJECT, "ticking", "main", &follow).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        let old = lab.machine("node-0").containerd_pid().unwrap();
        kill_process(Pid::from_raw(old.cast_signed()).unwrap(), signal).unwrap();
        let meanwhile = lab.history.plan(lab.script(&format!("meanwhile-{number}"), STEADY));
        let meanwhile = lab.history.create(&lab.client, &meanwhile).await.unwrap();
        eventually("another containerd runs", async || {
            lab.machine("node-0").containerd_pid().filter(|pid| *pid != old)
        })
        .await;
        lab.reach(&meanwhile.id, InstanceState::Running).await;
        // What is printed is kept again, also for who was following before: the stream goes on or has ended, it does not hang.
        let printed = log_lines(&lab).await;
        eventually("what it prints is kept again", async || (log_lines(&lab).await > printed + 2).then_some(())).await;
        let next = tokio::time::timeout(crate::lab::PATIENCE, stream.next()).await;
        assert!(next.is_ok(), "whoever followed the log hangs");
    }
    for (id, pid) in [(&ticking.id, before[0]), (&steady.id, before[1])] {
        let now = lab.reach(id, InstanceState::Running).await;
        assert_eq!((now.containers[0].restart_count, now.containers[0].runs.len()), (0, 1), "{now:#?}");
        let runs = lab.history.runs(id);
        assert_eq!(runs.iter().map(|run| run.pid).collect::<Vec<_>>(), [pid], "{runs:?}");
    }
    lab.finish().await;
}

async fn log_lines(lab: &Lab) -> usize {
    let Ok(mut pieces) = lab.client.logs(PROJECT, "ticking", "main", &LogOptions::default()).await else { return 0 };
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        bytes.extend(piece);
    }
    String::from_utf8_lossy(&bytes).lines().count()
}
