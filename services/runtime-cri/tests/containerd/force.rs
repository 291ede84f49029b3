//! Ending past an engine that is stopped (SIGSTOP): the processes end, and the engine tells it when it goes on.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wherry_model::Timestamp;
use wherry_runtime::{ContainerConfig, ContainerRuntime, ContainerState, RuntimeError, SandboxState};
use wherry_runtime_cri::containerd::OciRuntime;

use crate::support::Engine;
use crate::warm::wait_for_warm;

/// Forks all the time, and is not impressed by SIGTERM.
const FORKS: &str = "trap '' TERM; i=0; while [ $i -lt 12 ]; do (while :; do sleep 0.05; done) & i=$((i+1)); done; while :; do sleep 1; done";

/// Lets containerd go on, also when the test fails.
struct Stopped(Pid);

impl Stopped {
    fn stop(engine: &Engine) -> Self {
        let pid = Pid::from_raw(engine.containerd.pid().unwrap().cast_signed()).unwrap();
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

/// By the file system's clock, which is the machine's.
fn now(engine: &Engine) -> Timestamp {
    let path = engine.logs().join("now");
    std::fs::write(&path, b"").unwrap();
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    let since = written.duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(since.as_nanos().try_into().unwrap())
}

async fn ends_past_it(oci_runtime: OciRuntime, warm: usize) {
    let engine = Engine::start_warm(oci_runtime, warm.try_into().unwrap()).await;
    wait_for_warm(&engine, warm).await;
    let (sandbox, id) = engine.run("forks", FORKS).await;
    let (_, beside) = engine.run("beside", "sleep 1000").await;
    let config = ContainerConfig {
        name: "late".into(),
        image: engine.pull("busybox").await.pinned_reference,
        command: ["sh", "-c", "sleep 2; exit 4"].map(str::to_owned).to_vec(),
        log_path: "late.log".into(),
        memory_bytes: 32 << 20,
        ..ContainerConfig::default()
    };
    let cgroup = engine.sandbox_config("forks").cgroup_name;
    let has_forked = async || {
        let folder = std::path::PathBuf::from("/sys/fs/cgroup");
        let pids = [folder.join("pids"), folder].map(|mount| {
            let path =
                mount.join(engine.options.cgroup_root.trim_start_matches('/')).join(&cgroup).join("pids.current");
            std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0)
        });
        pids.iter().any(|count| *count > 12)
    };
    for _ in 0..1000 {
        if has_forked().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(has_forked().await, "it does not fork");

    let process = std::path::PathBuf::from(format!("/proc/{}", engine.status(&id).await.pid.unwrap()));
    let stopped = Stopped::stop(&engine);
    let alive = engine.runtime.alive_in_cgroup(&cgroup).await.unwrap();
    assert!(alive.contains(&id) && !alive.contains(&beside), "{alive:?}");
    engine.runtime.end_by_force(&cgroup).await.unwrap();
    assert!(engine.runtime.alive_in_cgroup(&cgroup).await.unwrap().is_empty());
    // The shim has seen it by then.
    for _ in 0..1000 {
        if !process.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!process.exists(), "nobody has waited for the process");
    // It does not answer within the time that a call has, which is seconds.
    assert!(matches!(engine.runtime.version().await, Err(RuntimeError::Timeout { .. })), "containerd is not stopped");
    let went_on_at = now(&engine);
    drop(stopped);

    let status = engine.wait_for(&id, ContainerState::Exited).await;
    assert_eq!(status.exit_code, Some(137));
    let finished_at = status.finished_at.unwrap();
    assert!(finished_at < went_on_at, "{finished_at} was told, and containerd went on at {went_on_at}");
    assert_eq!(engine.status(&beside).await.state, ContainerState::Running);
    // Its sandbox lives on when its own process is in another cgroup, as that of one that was made in advance.
    let is_wanted = |state: SandboxState| (state == SandboxState::Ready) == (warm > 0);
    let mut looks = 0;
    while !is_wanted(engine.runtime.sandbox(&sandbox).await.unwrap().unwrap().sandbox.state) {
        looks += 1;
        assert!(looks < 1000, "the sandbox does not become what it should be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if warm > 0 {
        let sandbox_config = engine.sandbox_config("forks");
        let late = engine.runtime.create_container(&sandbox, &sandbox_config, &config).await.unwrap();
        engine.runtime.start_container(&late).await.unwrap();
        assert_eq!(engine.wait_for(&late, ContainerState::Exited).await.exit_code, Some(4), "it cannot fork any more");
    }
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_by_force_while_containerd_is_stopped_under_runc() {
    ends_past_it(OciRuntime::Runc, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_by_force_while_containerd_is_stopped_under_crun() {
    ends_past_it(OciRuntime::Crun, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_made_in_advance_outlives_the_end_by_force_and_can_be_used_again() {
    ends_past_it(OciRuntime::Automatic, 2).await;
}

/// The engine was told to start it, and gets to it only when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_engine_comes_to_later_starts_nothing_that_stays() {
    let engine = Engine::start_with(OciRuntime::Runc).await;
    let image = engine.pull("busybox").await;
    let sandbox_config = engine.sandbox_config("late");
    let sandbox = engine.runtime.run_sandbox(&sandbox_config).await.unwrap();
    let config = ContainerConfig {
        name: "late".into(),
        image: image.pinned_reference,
        command: ["sh", "-c", "sleep 1000"].map(str::to_owned).to_vec(),
        log_path: "late.log".into(),
        memory_bytes: 32 << 20,
        ..ContainerConfig::default()
    };
    let id = engine.runtime.create_container(&sandbox, &sandbox_config, &config).await.unwrap();
    let stopped = Stopped::stop(&engine);
    let start = tokio::spawn({
        let (runtime, id) = (engine.runtime.clone(), id.clone());
        async move { runtime.start_container(&id).await }
    });
    // The call is on its way; whether containerd has taken it does not matter.
    tokio::time::sleep(Duration::from_millis(500)).await;
    engine.runtime.end_by_force(&sandbox_config.cgroup_name).await.unwrap();
    drop(stopped);
    let started = start.await.unwrap();
    assert!(started.is_err(), "a closed cgroup has taken a container");
    assert!(engine.runtime.alive_in_cgroup(&sandbox_config.cgroup_name).await.unwrap().is_empty());
    engine.finish().await;
}
