//! Programs inside containers.

use std::time::Duration;

use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerId, ContainerRuntime, ContainerState, ExecOutput, ExecRequest, RuntimeError};

const MOST_BYTES: usize = 1 << 20;

fn shell(text: &str, timeout: Duration) -> ExecRequest {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    ExecRequest { command, timeout, max_output_bytes: MOST_BYTES }
}

/// A container that runs and does nothing.
async fn host(stage: &Stage<'_>) -> Result<ContainerId, Failure> {
    let (_, id) = stage.container("a", "sleep 1000").await?;
    stage.runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    Ok(id)
}

/// Exit code, and both streams apart; what is too much is cut off, and that is said.
pub async fn programs_end_with_their_code_and_output(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "exec").await?;
    let id = host(&stage).await?;
    let told = runtime.exec(&id, &shell("echo out; echo bad >&2; exit 3", PATIENCE)).await?;
    let expected = ExecOutput { exit_code: 3, stdout: b"out\n".to_vec(), stderr: b"bad\n".to_vec(), truncated: false };
    ensure!(told == expected, "the program ended as {told:?}");

    let just = runtime.exec(&id, &shell(&format!("head -c {MOST_BYTES} /dev/zero"), PATIENCE)).await?;
    ensure!(
        just.stdout.len() == MOST_BYTES && !just.truncated,
        "{} bytes came, cut: {}",
        just.stdout.len(),
        just.truncated
    );
    // More than either side carries, and than the memory of the container.
    for count in [MOST_BYTES + 1, 80 << 20] {
        let much = runtime.exec(&id, &shell(&format!("head -c {count} /dev/zero; exit 4"), PATIENCE)).await?;
        let size = much.stdout.len();
        ensure!(size == MOST_BYTES && much.truncated, "{size} bytes of {count} came, cut: {}", much.truncated);
        ensure!(much.exit_code == 4, "it ended with {}", much.exit_code);
    }
    let words = ExecRequest { command: vec!["echo".into(), "a b".into(), "$HOME".into()], ..shell("", PATIENCE) };
    let plain = runtime.exec(&id, &words).await?;
    ensure!(plain.stdout == b"a b $HOME\n", "without a shell it printed {:?}", String::from_utf8_lossy(&plain.stdout));
    stage.close().await
}

/// Its time is over, it is killed; the container and other programs are not.
pub async fn programs_past_their_time_are_killed(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "exec-time").await?;
    let id = host(&stage).await?;
    let late = runtime.exec(&id, &shell("trap '' TERM; sleep 1000", Duration::from_millis(900))).await;
    let expected = RuntimeError::ProgramTimeout { after: Duration::from_secs(1) };
    ensure!(late == Err(expected), "a program past its time gave {late:?}");
    let next = runtime.exec(&id, &shell("echo on", PATIENCE)).await?;
    ensure!(next.stdout == b"on\n", "the next one printed {:?}", next.stdout);
    ensure!(stage.status(&id).await?.state == ContainerState::Running, "the container ended with the program");
    stage.close().await
}

/// No program, no container, and a container that has ended are different errors; one that ends takes its programs along.
pub async fn programs_need_a_container_that_runs(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "exec-where").await?;
    let nowhere = runtime.exec(&ContainerId::new("no-such-container"), &shell("echo", PATIENCE)).await;
    ensure!(matches!(nowhere, Err(RuntimeError::NotFound { what: "container", .. })), "in no container: {nowhere:?}");
    let (_, created) = stage.container("b", "sleep 1000").await?;
    let early = runtime.exec(&created, &shell("echo", PATIENCE)).await;
    ensure!(matches!(early, Err(RuntimeError::NotRunning { .. })), "before the start: {early:?}");

    let id = host(&stage).await?;
    let missing = ExecRequest { command: vec!["/no/such/command".into()], ..shell("", PATIENCE) };
    let missing = runtime.exec(&id, &missing).await;
    ensure!(matches!(missing, Err(RuntimeError::CannotStart { .. })), "no such program gave {missing:?}");
    let empty = runtime.exec(&id, &ExecRequest { command: vec![], ..shell("", PATIENCE) }).await;
    ensure!(empty.is_err(), "no words gave {empty:?}");

    let endless = shell("sleep 1000", PATIENCE * 2);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        runtime.stop_container(&id, Duration::ZERO).await
    };
    let (cut_short, stopped) = tokio::join!(runtime.exec(&id, &endless), stop);
    stopped?;
    // It may also not have begun before the stop.
    let is_told = match &cut_short {
        Ok(output) => output.exit_code == 137,
        Err(error) => matches!(error, RuntimeError::NotRunning { .. }),
    };
    ensure!(is_told, "a program whose container was stopped gave {cut_short:?}");
    stage.wait_for(&id, ContainerState::Exited).await?;
    let late = runtime.exec(&id, &shell("echo", PATIENCE)).await;
    ensure!(matches!(late, Err(RuntimeError::NotRunning { .. })), "after the end: {late:?}");
    stage.close().await
}
