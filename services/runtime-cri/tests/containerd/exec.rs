//! Programs inside containers, as far as only a real engine shows it.

use std::time::Duration;

use wherry_runtime::{ContainerId, ContainerRuntime as _, ContainerState, ExecOutput, ExecRequest, RuntimeError};
use wherry_runtime_cri::containerd::OciRuntime;

use crate::support::Engine;

async fn shell(engine: &Engine, id: &ContainerId, text: &str, seconds: u64) -> Result<ExecOutput, RuntimeError> {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let timeout = Duration::from_secs(seconds);
    engine.runtime.exec(id, &ExecRequest { command, timeout, max_output_bytes: 1 << 20 }).await
}

async fn text(engine: &Engine, id: &ContainerId, program: &str) -> String {
    let output = shell(engine, id, program, 60).await.unwrap();
    assert_eq!(output.exit_code, 0, "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is in force for the container must be so for whatever is run in it later.
async fn is_confined(oci_runtime: OciRuntime) {
    let engine = Engine::start_with(oci_runtime).await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    assert_eq!(text(&engine, &id, "cat /proc/self/cgroup").await, text(&engine, &id, "cat /proc/1/cgroup").await);
    let fields = ["CapBnd:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:", "Seccomp:"];
    let of = |status: &str| {
        let found = fields.map(|field| status.lines().find(|line| line.starts_with(field)).map(str::to_owned));
        assert!(found.iter().all(Option::is_some), "{status}");
        found
    };
    let (own, first) =
        (text(&engine, &id, "cat /proc/self/status").await, text(&engine, &id, "cat /proc/1/status").await);
    assert_eq!(of(&own), of(&first));
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_confined_as_its_container_by_crun() {
    is_confined(OciRuntime::Crun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_confined_as_its_container_by_runc() {
    is_confined(OciRuntime::Runc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_past_its_time_is_gone_and_one_that_leaves_its_output_open_ends_the_wait() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let late = shell(&engine, &id, "exec sleep 7777", 1).await;
    assert!(matches!(late, Err(RuntimeError::ProgramTimeout { .. })), "{late:?}");
    let left = text(&engine, &id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
    assert!(left.contains("sleep 1000") && !left.contains("sleep 7777"), "{left}");

    let held = shell(&engine, &id, "sleep 8888 & echo begun", 1).await;
    assert!(matches!(held, Err(RuntimeError::ProgramTimeout { .. })), "{held:?}");
    let freed = shell(&engine, &id, "sleep 9999 > /dev/null 2>&1 & echo begun", 60).await.unwrap();
    assert_eq!(freed.stdout, b"begun\n", "what goes on in the background holds nobody up when it holds no output");
    assert_eq!(engine.status(&id).await.state, ContainerState::Running);
    engine.finish().await;
}

/// Nor what it has started, however that has hidden: without parents, in sessions of its own.
async fn nothing_stays_of_what_a_program_past_its_time_has_started(oci_runtime: OciRuntime) {
    let engine = Engine::start_with(oci_runtime).await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let stays = shell(&engine, &id, "sleep 9999 > /dev/null 2>&1 & echo begun", 60).await.unwrap();
    assert_eq!(stays.stdout, b"begun\n");
    let starts = "(sleep 7771 &); sh -c 'sleep 7772 & exit 0' > /dev/null 2>&1; (busybox setsid sleep 7773 &); \
                  (busybox setsid sh -c '(sleep 7774 &); exec sleep 7775' > /dev/null 2>&1 &); exec sleep 7776";
    let late = shell(&engine, &id, starts, 3).await;
    assert!(matches!(late, Err(RuntimeError::ProgramTimeout { .. })), "{late:?}");
    let left = text(&engine, &id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
    assert!(!left.contains("sleep 777"), "{left}");
    assert!(left.contains("sleep 1000") && left.contains("sleep 9999"), "another program was ended too: {left}");
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_of_what_a_program_past_its_time_has_started_by_crun() {
    nothing_stays_of_what_a_program_past_its_time_has_started(OciRuntime::Crun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_of_what_a_program_past_its_time_has_started_by_runc() {
    nothing_stays_of_what_a_program_past_its_time_has_started(OciRuntime::Runc).await;
}
