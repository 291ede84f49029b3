//! Programs that are talked to, as far as only a real engine shows it: nothing is left of them, and nothing is held of what they
//! say.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wherry_runtime::{ContainerId, ContainerRuntime as _, Conversation, ExecRequest, StreamExec};
use wherry_runtime_cri::containerd::Containerd;

use crate::support::Engine;

const PATIENCE: Duration = Duration::from_mins(2);

fn shell(text: &str, stdin: bool) -> StreamExec {
    StreamExec { command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(), stdin, tty: None }
}

async fn output(engine: &Engine, id: &ContainerId, text: &str) -> String {
    let command = shell(text, false).command;
    let request = ExecRequest { command, timeout: PATIENCE, max_output_bytes: 1 << 20 };
    String::from_utf8(engine.runtime.exec(id, &request).await.unwrap().stdout).unwrap()
}

/// Waits until the programs of this name in the container are as many.
async fn until_count(engine: &Engine, id: &ContainerId, name: &str, count: usize) {
    let started = Instant::now();
    loop {
        let listed = output(engine, id, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").await;
        if listed.matches(name).count() == count {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not {count} of {name} run: {listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn open_files(pid: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Folders of programs.
fn folders(engine: &Engine) -> usize {
    std::fs::read_dir(engine.options.run_dir.join("exec")).map_or(0, Iterator::count)
}

async fn until_no_folder(engine: &Engine) {
    let started = Instant::now();
    while folders(engine) > 0 {
        assert!(started.elapsed() < PATIENCE, "{} folders stay", folders(engine));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The shims of this engine.
fn shims(engine: &Engine) -> Vec<String> {
    let socket = engine.options.run_dir.to_string_lossy().into_owned();
    let processes =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_shim = |pid: &String| {
        let line = std::fs::read_to_string(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
        line.contains("containerd-shim") && line.contains(&socket)
    };
    processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(is_shim).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_programs_leave_nothing() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let request = ExecRequest { command: vec!["true".into()], timeout: PATIENCE, max_output_bytes: 1 };
    let run = async |count: u32| {
        for _ in 0..count {
            assert_eq!(engine.runtime.exec(&id, &request).await.unwrap().exit_code, 0);
        }
        until_no_folder(&engine).await;
    };
    run(20).await;
    let shims = shims(&engine);
    let [shim] = shims.as_slice() else { panic!("shims: {shims:?}") };
    let before = (open_files("self"), open_files(shim));
    run(300).await;
    let after = (open_files("self"), open_files(shim));
    // A handful may be on their way; a leak would be hundreds.
    assert!(after.0 <= before.0 + 10 && after.1 <= before.1 + 10, "open files {before:?} became {after:?}");
    until_count(&engine, &id, "true", 0).await;
    engine.finish().await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Mebibytes that go through each way; a gigabyte with `WHERRY_E2E_STREAM_MIB=1024`.
fn stream_mib() -> usize {
    std::env::var("WHERRY_E2E_STREAM_MIB").map_or(128, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_any_length_goes_through_either_way_and_memory_stays_flat() {
    const PIECE: usize = 1 << 16;
    let size = stream_mib() << 20;
    let piece = vec![0; PIECE];
    let mut zeros = Sha256::new();
    for _ in 0..size / PIECE {
        zeros.update(&piece);
    }
    let zeros = zeros.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let before = resident_kib();

    let mut printing =
        engine.runtime.exec_stream(&id, &shell(&format!("exec head -c {size} /dev/zero"), false)).await.unwrap();
    let (mut count, mut buffer) = (0, vec![0; PIECE]);
    loop {
        let read = printing.stdout.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].iter().all(|byte| *byte == 0), "other bytes came out at {count}");
        count += read;
        if read == 0 {
            break;
        }
    }
    assert_eq!((count, printing.program.ended().await.unwrap()), (size, 0));
    drop(printing);

    let mut summing = engine.runtime.exec_stream(&id, &shell("exec busybox sha256sum", true)).await.unwrap();
    let mut input = summing.input.take().unwrap();
    for _ in 0..size / PIECE {
        input.write_all(&piece).await.unwrap();
    }
    input.shutdown().await.unwrap();
    let mut sum = String::new();
    summing.stdout.read_to_string(&mut sum).await.unwrap();
    assert_eq!(sum.split(' ').next(), Some(zeros.as_str()));
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "twice {size} bytes made this process grow by {grown} KiB");
    drop((input, summing));
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_dies_with_its_conversation_even_when_nobody_reads_it() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    for text in ["exec sleep 7777", "exec busybox yes 7777"] {
        let talk = engine.runtime.exec_stream(&id, &shell(text, true)).await.unwrap();
        until_count(&engine, &id, "7777", 1).await;
        drop(talk);
        until_count(&engine, &id, "7777", 0).await;
    }
    let background = engine.runtime.exec_stream(&id, &shell("sleep 8888 & echo begun", false)).await.unwrap();
    assert_eq!(
        background.program.ended().await.unwrap(),
        0,
        "what it leaves in the background holds up its output only"
    );
    drop(background);
    until_no_folder(&engine).await;
    engine.finish().await;
}

/// Lets go of a conversation as a process that is killed does: nothing of it runs any more, not even its end.
fn forget(conversation: Conversation) {
    std::mem::forget(conversation.program);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_a_killed_wherry_are_ended_by_the_next() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let left = engine.runtime.exec_stream(&id, &shell("exec sleep 7777", true)).await.unwrap();
    let full = engine.runtime.exec_stream(&id, &shell("exec busybox yes 8888", false)).await.unwrap();
    until_count(&engine, &id, "7777", 1).await;
    until_count(&engine, &id, "8888", 1).await;
    forget(left);
    forget(full);
    let before = shims(&engine);
    // One that knows nothing of them, on the same containerd.
    let next = Containerd::new(engine.options.clone()).unwrap();
    next.ensure_running().await.unwrap();
    until_count(&engine, &id, "7777", 0).await;
    until_count(&engine, &id, "8888", 0).await;
    until_no_folder(&engine).await;
    assert_eq!(shims(&engine), before, "the container's shim lives on");
    drop(next);
    engine.finish().await;
}

/// What is told of a program in its folder, once anything is.
async fn told(engine: &Engine) -> (PathBuf, String) {
    let started = Instant::now();
    loop {
        let folders = std::fs::read_dir(engine.options.run_dir.join("exec")).into_iter().flatten().flatten();
        let mut notes = folders.map(|folder| folder.path().join("process"));
        let read = |note: PathBuf| Some((note.clone(), std::fs::read_to_string(note).ok()?));
        if let Some(told) = notes.find_map(read) {
            return told;
        }
        assert!(started.elapsed() < PATIENCE, "nothing is told of a program that the engine was asked for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_wherry_leaves_that_was_killed_before_it_knew_that_a_program_runs_is_ended_by_the_next() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    output(&engine, &id, "true").await;
    until_no_folder(&engine).await;
    let containerd = Pid::from_raw(i32::try_from(engine.containerd.pid().unwrap()).unwrap()).unwrap();
    kill_process(containerd, Signal::STOP).unwrap();
    // It has nothing in common with what began it but the mark, and that has ended.
    let text = "busybox setsid sh -c '(sleep 7777 > /dev/null 2>&1 &)' > /dev/null 2>&1";
    let (runtime, of) = (engine.containerd.runtime(), id.clone());
    let begun = tokio::spawn(async move { runtime.exec_stream(&of, &shell(text, false)).await.unwrap() });
    let (note, before) = told(&engine).await;
    kill_process(containerd, Signal::CONT).unwrap();
    let talk = begun.await.unwrap();
    assert_eq!(talk.program.ended().await.unwrap(), 0);
    until_count(&engine, &id, "7777", 1).await;
    // As if the answer had not come.
    std::fs::write(&note, &before).unwrap();
    forget(talk);
    let next = Containerd::new(engine.options.clone()).unwrap();
    next.ensure_running().await.unwrap();
    until_count(&engine, &id, "7777", 0).await;
    until_no_folder(&engine).await;
    drop(next);
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_programs_that_begin_together_one_is_killed_alone() {
    const ALL: usize = 20;
    let engine = Engine::start().await;
    let (_, id) = engine.run("host", "sleep 1000").await;
    let exec = shell("exec sleep 7777", false);
    let begun = (0..ALL).map(|_| engine.runtime.exec_stream(&id, &exec));
    let mut talks = futures_util::future::try_join_all(begun).await.unwrap();
    until_count(&engine, &id, "7777", ALL).await;
    talks.pop().unwrap().program.kill().await.unwrap();
    let listed = output(&engine, &id, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").await;
    assert_eq!(listed.matches("7777").count(), ALL - 1, "{listed}");
    drop(talks);
    engine.finish().await;
}
