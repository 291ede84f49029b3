//! Programs that are talked to, and ports.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{
    Connection, ContainerId, ContainerRuntime, ContainerState, Conversation, Reading, RuntimeError, SandboxId,
    StreamExec, TerminalSize, Writing,
};

/// More than all buffers on the way hold.
pub(super) const MUCH: usize = 8 << 20;

fn shell(text: &str) -> StreamExec {
    StreamExec { command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(), stdin: false, tty: None }
}

fn fed(text: &str) -> StreamExec {
    StreamExec { stdin: true, ..shell(text) }
}

pub(super) fn broken(what: &str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Broken(format!("{what}: {error}"))
}

/// A container that runs this.
async fn host(stage: &Stage<'_>, name: &str, text: &str) -> Result<(SandboxId, ContainerId), Failure> {
    let (sandbox, id) = stage.container(name, text).await?;
    stage.runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    Ok((sandbox, id))
}

pub(super) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::Broken(format!("{what} did not happen within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, work).await.map_err(late)
}

pub(super) async fn to_end(mut from: Reading) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    in_time("the end of the output", from.read_to_end(&mut all)).await?.map_err(broken("output"))?;
    Ok(all)
}

/// Reads until this has come.
pub(super) async fn until(from: &mut Reading, text: &str) -> Result<String, Failure> {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            if from.read_buf(&mut seen).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    };
    in_time(text, reading).await?.map_err(broken(text))?;
    Ok(String::from_utf8_lossy(&seen).into_owned())
}

pub(super) async fn feed(mut input: Writing, bytes: &[u8]) -> Check {
    in_time("taking the input", input.write_all(bytes)).await?.map_err(broken("input"))?;
    input.shutdown().await.map_err(broken("end of input"))
}

pub(super) fn input_of(conversation: &mut Conversation) -> Result<Writing, Failure> {
    conversation.input.take().ok_or_else(|| Failure::Broken("there is no input".to_owned()))
}

pub(super) async fn code(conversation: &Conversation) -> Result<i32, Failure> {
    Ok(in_time("the end of the program", conversation.program.ended()).await??)
}

pub(super) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

/// Both outputs apart, input to its end and back in any size, and the exit code.
pub async fn conversations_carry_both_directions(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "talk").await?;
    let (_, id) = host(&stage, "a", "sleep 1000").await?;
    let mut apart = runtime.exec_stream(&id, &shell("echo out; echo bad >&2; cat; exit 3")).await?;
    ensure!(apart.input.is_none(), "there is input that nobody asked for");
    let stderr = apart.stderr.take().ok_or_else(|| Failure::Broken("complaints are not apart".to_owned()))?;
    let (stdout, stderr) = tokio::try_join!(to_end(std::mem::replace(&mut apart.stdout, nothing())), to_end(stderr))?;
    ensure!((stdout.as_slice(), stderr.as_slice()) == (b"out\n", b"bad\n"), "it printed {stdout:?} and {stderr:?}");
    ensure!(code(&apart).await? == 3 && code(&apart).await? == 3, "it did not end with 3, twice");

    for size in [0, 5, MUCH] {
        let mut echo = runtime.exec_stream(&id, &fed("cat; echo done; exit 4")).await?;
        let sent = pattern(size);
        let input = input_of(&mut echo)?;
        let stdout = std::mem::replace(&mut echo.stdout, nothing());
        let (received, ()) = tokio::try_join!(to_end(stdout), feed(input, &sent))?;
        let echoed = received.strip_suffix(b"done\n");
        ensure!(echoed == Some(sent.as_slice()), "of {size} bytes {} came back, or others", received.len());
        ensure!(code(&echo).await? == 4, "it did not end with 4");
    }

    // One that does not read is not waited for.
    let mut deaf = runtime.exec_stream(&id, &fed("exit 5")).await?;
    let mut input = input_of(&mut deaf)?;
    let refused = in_time("a broken pipe", input.write_all(&pattern(MUCH))).await?;
    ensure!(refused.is_err(), "a program that has ended took all the input");
    ensure!(code(&deaf).await? == 5, "it did not end with 5");
    stage.close().await
}

/// How often a first size is looked at: each is a race between a program and its terminal.
const FIRST_SIZES: usize = 5;

/// One output, a size, and another size.
pub async fn conversations_have_terminals(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "tty").await?;
    let (_, id) = host(&stage, "a", "sleep 1000").await?;
    let size = TerminalSize { columns: 100, rows: 40 };
    // Some OCI runtimes begin the program before its terminal has a size. It has one before it is told anything, whatever the
    // moment.
    for _ in 0..FIRST_SIZES {
        let request = StreamExec { tty: Some(size), ..fed("cat; stty size; echo over") };
        let mut terminal = runtime.exec_stream(&id, &request).await?;
        let mut input = input_of(&mut terminal)?;
        in_time("Ctrl-D", input.shutdown()).await?.map_err(broken("Ctrl-D"))?;
        let seen = until(&mut terminal.stdout, "over").await?;
        ensure!(seen.contains("40 100"), "its first size was {seen:?}");
    }
    let request = StreamExec { tty: Some(size), ..fed("echo bad >&2; cat; stty size; exit 6") };
    let mut terminal = runtime.exec_stream(&id, &request).await?;
    ensure!(terminal.stderr.is_none(), "a terminal has two outputs");
    until(&mut terminal.stdout, "bad").await?;
    terminal.program.resize(TerminalSize { columns: 120, rows: 50 }).await?;
    let mut input = input_of(&mut terminal)?;
    in_time("typing", input.write_all(b"typed\n")).await?.map_err(broken("typing"))?;
    until(&mut terminal.stdout, "typed").await?;
    in_time("Ctrl-D", input.shutdown()).await?.map_err(broken("Ctrl-D"))?;
    until(&mut terminal.stdout, "50 120").await?;
    ensure!(code(&terminal).await? == 6, "it did not end with 6");
    terminal.program.resize(size).await?;
    stage.close().await
}

/// The errors are those of a program that is only run.
pub async fn conversations_need_a_container_that_runs(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "talk-where").await?;
    let nowhere = runtime.exec_stream(&ContainerId::new("no-such-container"), &shell("echo")).await;
    ensure!(matches!(nowhere, Err(RuntimeError::NotFound { what: "container", .. })), "in no container: {nowhere:?}");
    let (_, created) = stage.container("b", "sleep 1000").await?;
    let early = runtime.exec_stream(&created, &shell("echo")).await;
    ensure!(matches!(early, Err(RuntimeError::NotRunning { .. })), "before the start: {early:?}");
    let (_, id) = host(&stage, "a", "sleep 1000").await?;
    let missing = StreamExec { command: vec!["/no/such/command".into()], ..StreamExec::default() };
    for request in [missing.clone(), StreamExec { stdin: true, ..missing.clone() }] {
        let missing = runtime.exec_stream(&id, &request).await;
        ensure!(matches!(missing, Err(RuntimeError::CannotStart { .. })), "no such program gave {missing:?}");
    }
    let empty = runtime.exec_stream(&id, &StreamExec::default()).await;
    ensure!(matches!(empty, Err(RuntimeError::InvalidArgument { .. })), "no words gave {empty:?}");
    stage.close().await
}

/// Whoever drops a conversation leaves the container and other programs alone; a container takes its programs along.
pub async fn conversations_end_with_their_container(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "talk-end").await?;
    let (_, id) = host(&stage, "a", "sleep 1000").await?;
    let mut dropped = runtime.exec_stream(&id, &fed("echo begun; sleep 1000")).await?;
    until(&mut dropped.stdout, "begun").await?;
    let mut left = runtime.exec_stream(&id, &fed("echo begun; cat")).await?;
    drop(dropped);
    until(&mut left.stdout, "begun").await?;
    let mut input = input_of(&mut left)?;
    in_time("more input", input.write_all(b"more\n")).await?.map_err(broken("more input"))?;
    until(&mut left.stdout, "more").await?;
    ensure!(stage.status(&id).await?.state == ContainerState::Running, "the container ended with the program");
    runtime.stop_container(&id, Duration::ZERO).await?;
    ensure!(code(&left).await? == 137, "it did not end with its container");
    to_end(left.stdout).await?;
    stage.close().await
}

/// A port is reached where somebody listens, and told where nobody does.
pub async fn ports_inside_are_reached(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "port").await?;
    let (sandbox, _) = host(&stage, "a", "nc -ll -p 7001 -e cat").await?;
    let (other, _) = host(&stage, "b", "sleep 1000").await?;
    let started = Instant::now();
    let connection = loop {
        match runtime.connect(&sandbox, 7001).await {
            Err(RuntimeError::NothingListens { port: 7001 }) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connected => break connected?,
        }
    };
    let sent = pattern(MUCH);
    ensure!(echoed(connection, &sent).await? == sent, "other bytes came back");
    for (sandbox, port) in [(&sandbox, 7002), (&other, 7001)] {
        let nobody = runtime.connect(sandbox, port).await.map(drop);
        ensure!(nobody == Err(RuntimeError::NothingListens { port }), "where nobody listens: {nobody:?}");
    }
    let nowhere = runtime.connect(&SandboxId::new("no-such-sandbox"), 7001).await.map(drop);
    ensure!(matches!(nowhere, Err(RuntimeError::NotFound { what: "sandbox", .. })), "in no sandbox: {nowhere:?}");
    runtime.stop_sandbox(&sandbox).await?;
    let stopped = runtime.connect(&sandbox, 7001).await.map(drop);
    ensure!(matches!(stopped, Err(RuntimeError::NotFound { what: "sandbox", .. })), "after its end: {stopped:?}");
    stage.close().await
}

async fn echoed(connection: Connection, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let (read, write) = tokio::io::split(connection);
    let (received, ()) = tokio::try_join!(to_end(Box::new(read)), feed(Box::new(write), bytes))?;
    Ok(received)
}

fn nothing() -> Reading {
    Box::new(tokio::io::empty())
}
