//! Main programs with an input or a terminal, and who attaches to them.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::conversations::{broken, code, feed, in_time, input_of, to_end, until};
use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{
    AttachRequest, ContainerConfig, ContainerId, ContainerRuntime, ContainerState, Conversation, RuntimeError,
    TerminalSize,
};

const WITH_INPUT: AttachRequest = AttachRequest { stdin: true, tty: None };
const LISTENING: AttachRequest = AttachRequest { stdin: false, tty: None };

/// A container that runs this, with streams as `streams` has them.
async fn main_of(stage: &Stage<'_>, name: &str, text: &str, streams: &ContainerConfig) -> Result<ContainerId, Failure> {
    let ContainerConfig { stdin, stdin_once, tty, .. } = *streams;
    let image = stage.pull(&stage.fixture.image).await?;
    let sandbox_config = stage.sandbox_config(name);
    let sandbox = stage.runtime.run_sandbox(&sandbox_config).await?;
    let config = ContainerConfig { stdin, stdin_once, tty, ..stage.container_config(&image, name, text) };
    drop(std::fs::remove_file(stage.fixture.log_root.join(&config.log_path)));
    let id = stage.runtime.create_container(&sandbox, &sandbox_config, &config).await?;
    stage.runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    Ok(id)
}

async fn typed(conversation: &mut Conversation, text: &str) -> Check {
    let input = conversation.input.as_mut().ok_or_else(|| Failure::Broken("there is no input".to_owned()))?;
    in_time("typing", input.write_all(text.as_bytes())).await?.map_err(broken("typing"))?;
    in_time("typing", input.flush()).await?.map_err(broken("typing"))
}

/// The streams that the log has, until it has this text.
async fn logged(stage: &Stage<'_>, name: &str, text: &str) -> Result<Vec<String>, Failure> {
    let path = stage.fixture.log_root.join(format!("{}-{name}.log", stage.check));
    let started = Instant::now();
    loop {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if log.contains(text) {
            let streams = log.lines().filter_map(|line| line.split(' ').nth(1));
            return Ok(streams.map(str::to_owned).collect());
        }
        ensure!(started.elapsed() < PATIENCE, "the log has no {text:?}: {log:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever attaches is heard, and hears from then on; the end of an input is one where the container says so.
pub async fn attaching_reaches_the_input(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "attach").await?;
    let open = ContainerConfig { stdin: true, ..ContainerConfig::default() };
    let id = main_of(&stage, "a", "cat; echo over", &open).await?;
    // Its end is not the program's: the next one is heard too.
    for text in ["first\n", "second\n"] {
        let mut attached = runtime.attach(&id, &WITH_INPUT).await?;
        let mut listening = runtime.attach(&id, &LISTENING).await?;
        ensure!(listening.input.is_none() && listening.stderr.is_some(), "who listens has other streams");
        // It hears from now on, which may be a moment later than this.
        let seen = loop {
            typed(&mut attached, text).await?;
            let heard = tokio::time::timeout(Duration::from_secs(1), until(&mut listening.stdout, text));
            if let Ok(seen) = heard.await {
                break seen?;
            }
        };
        ensure!(seen.lines().all(|line| line == text.trim_end()), "who attached later heard {seen:?}");
        until(&mut attached.stdout, text).await?;
        let mut input = input_of(&mut attached)?;
        in_time("the end of input", input.shutdown()).await?.map_err(broken("the end of input"))?;
    }
    logged(&stage, "a", "second").await?;
    ensure!(stage.status(&id).await?.state == ContainerState::Running, "it ended with who was attached");

    let once = ContainerConfig { stdin_once: true, ..open };
    let id = main_of(&stage, "b", "cat; echo bad >&2; sleep 1; exit 3", &once).await?;
    let mut attached = runtime.attach(&id, &WITH_INPUT).await?;
    let sent = "line\n".repeat(2_000);
    let input = input_of(&mut attached)?;
    let stdout = std::mem::replace(&mut attached.stdout, Box::new(tokio::io::empty()));
    let stderr = attached.stderr.take().ok_or_else(|| Failure::Broken("the streams are not apart".to_owned()))?;
    let (stdout, stderr, ()) = tokio::try_join!(to_end(stdout), to_end(stderr), feed(input, sent.as_bytes()))?;
    ensure!(stdout == sent.as_bytes(), "of {} bytes {} came back, or others", sent.len(), stdout.len());
    ensure!(stderr == b"bad\n", "it complained {:?}", String::from_utf8_lossy(&stderr));
    ensure!(code(&attached).await? == 3 && code(&attached).await? == 3, "it did not end with 3, twice");
    stage.close().await
}

/// One stream, in the log too; the size is that of who asked last, and whoever leaves leaves the program.
pub async fn attaching_reaches_the_terminal(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "attach-tty").await?;
    let streams = ContainerConfig { stdin: true, tty: true, ..ContainerConfig::default() };
    let id = main_of(&stage, "a", "cat; stty size; echo bad >&2; cat; stty size; exit 6", &streams).await?;
    let sized = |columns, rows| AttachRequest { stdin: true, tty: Some(TerminalSize { columns, rows }) };
    let mut gone = runtime.attach(&id, &sized(80, 24)).await?;
    typed(&mut gone, "hello\n").await?;
    until(&mut gone.stdout, "hello").await?;
    let mut input = input_of(&mut gone)?;
    in_time("the end of input", input.shutdown()).await?.map_err(broken("the end of input"))?;
    drop(gone);
    let mut attached = runtime.attach(&id, &AttachRequest { stdin: true, tty: None }).await?;
    ensure!(attached.stderr.is_none(), "a terminal has two outputs");
    let mut other = runtime.attach(&id, &sized(100, 40)).await?;
    typed(&mut attached, "\u{4}").await?;
    for stdout in [&mut attached.stdout, &mut other.stdout] {
        let seen = until(stdout, "bad").await?;
        ensure!(seen.contains("40 100"), "its size was {seen:?}");
    }
    other.program.resize(TerminalSize { columns: 120, rows: 50 }).await?;
    typed(&mut attached, "\u{4}").await?;
    for stdout in [&mut attached.stdout, &mut other.stdout] {
        until(stdout, "50 120").await?;
    }
    ensure!(code(&attached).await? == 6 && code(&other).await? == 6, "it did not end with 6 for both");
    let streams = logged(&stage, "a", "50 120").await?;
    ensure!(streams.iter().all(|stream| stream == "stdout"), "the log of a terminal has {streams:?}");
    stage.close().await
}

/// Only to what runs, and only to the streams that it has.
pub async fn attaching_needs_an_input_or_a_terminal(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "attach-where").await?;
    let nowhere = runtime.attach(&ContainerId::new("no-such-container"), &LISTENING).await.map(drop);
    ensure!(matches!(nowhere, Err(RuntimeError::NotFound { what: "container", .. })), "in no container: {nowhere:?}");
    let neither = main_of(&stage, "a", "sleep 1000", &ContainerConfig::default()).await?;
    let input = ContainerConfig { stdin: true, ..ContainerConfig::default() };
    let input = main_of(&stage, "b", "sleep 1000", &input).await?;
    let terminal = ContainerConfig { tty: true, ..ContainerConfig::default() };
    let terminal = main_of(&stage, "c", "sleep 1000", &terminal).await?;
    let sized = AttachRequest { tty: Some(TerminalSize { columns: 80, rows: 24 }), ..LISTENING };
    let once = ContainerConfig { stdin: true, stdin_once: true, ..ContainerConfig::default() };
    let once = main_of(&stage, "d", "sleep 1000", &once).await?;
    for (id, request) in [(&neither, LISTENING), (&terminal, WITH_INPUT), (&input, sized), (&once, LISTENING)] {
        let refused = runtime.attach(id, &request).await.map(drop);
        ensure!(matches!(refused, Err(RuntimeError::InvalidArgument { .. })), "{request:?} gave {refused:?}");
    }
    drop(runtime.attach(&terminal, &sized).await?);
    runtime.stop_container(&input, Duration::ZERO).await?;
    stage.wait_for(&input, ContainerState::Exited).await?;
    let late = runtime.attach(&input, &WITH_INPUT).await.map(drop);
    ensure!(matches!(late, Err(RuntimeError::NotRunning { .. })), "after its end: {late:?}");
    stage.close().await
}
