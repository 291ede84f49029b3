//! Main programs with an input or a terminal, and who attaches to them.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wherry_api_client::{Heard, SessionReader, SessionWriter};
use wherry_api_types::{InstanceCreate, RestartPolicy, TerminalSize};

use crate::support::{PROJECT, World, binary};

const ANSWERS: &str = "while read line; do echo \"got $line\"; stty size; done; echo over";

fn with_streams(mut create: InstanceCreate, stdin_once: bool, tty: bool) -> InstanceCreate {
    let container = &mut create.containers[0];
    (container.stdin, container.stdin_once, container.tty) = (true, stdin_once, tty);
    create
}

/// Reads until the output has all of this.
async fn hear(reader: &mut SessionReader, words: &[&str]) {
    let mut heard = String::new();
    let reading = async {
        while !words.iter().all(|word| heard.contains(word)) {
            match reader.next().await.unwrap() {
                Heard::Stdout(bytes) => heard.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("instead of {words:?} came {other:?}, after {heard:?}"),
            }
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(30), reading).await;
    assert!(within.is_ok(), "{words:?} was not heard, but {heard:?}");
}

/// Types a line each second until all have heard this: a size is in force some time after it was asked for, and what is typed
/// before then is answered with the old one.
async fn typed_until(writer: &mut SessionWriter, line: &str, readers: [&mut SessionReader; 2], words: &[&str]) {
    let hearing = async {
        for reader in readers {
            hear(reader, words).await;
        }
    };
    tokio::select! {
        () = hearing => {}
        () = type_again_and_again(writer, line) => {}
    }
}

async fn type_again_and_again(writer: &mut SessionWriter, line: &str) {
    let line = format!("{line}\n");
    loop {
        writer.data(line.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_terminal_is_shared_and_left_without_ending_it() {
    let world = World::start().await;
    world.run(&with_streams(world.script("shell", ANSWERS), false, true)).await;
    let attach =
        |columns, rows| world.client.attach(PROJECT, "shell", "main", true, Some(TerminalSize { columns, rows }));
    let (mut writer, mut reader) = attach(100, 40).await.unwrap();
    let (mut other, mut other_reader) = attach(90, 30).await.unwrap();
    // All hear what any of them types, and the terminal has the size of who came last, or changed it last.
    let both = [&mut reader, &mut other_reader];
    typed_until(&mut writer, "hello", both, &["got hello\r\n", "30 90"]).await;
    other.resize(TerminalSize { columns: 132, rows: 50 }).await.unwrap();
    let both = [&mut reader, &mut other_reader];
    typed_until(&mut other, "resized", both, &["got resized", "50 132"]).await;
    drop((writer, reader, other, other_reader));

    assert_eq!(world.get("shell").await.containers[0].restart_count, 0, "it runs on");

    // What is typed at the end is an end: Ctrl-D is a key.
    let (mut writer, mut reader) = attach(80, 24).await.unwrap();
    writer.data(&[4]).await.unwrap();
    hear(&mut reader, &["over"]).await;
    world.finish().await;
}

#[tokio::test]
async fn an_input_that_is_there_once_ends_with_who_gave_it() {
    let world = World::start().await;
    let mut once = with_streams(world.script("sum", "cat; echo >&2 summed; sleep 2; exit 3"), true, false);
    once.restart_policy = Some(RestartPolicy::Never);
    world.run(&once).await;
    let (code, out, err) = world.cli_given(&["attach", "-i", "sum"], b"one\ntwo\n".to_vec()).await;
    assert_eq!((code, out.as_slice()), (Some(3), b"one\ntwo\n".as_slice()), "{err}");
    assert!(err.contains("summed"), "{err}");

    // An input that stays: each who attaches gives some.
    world.run(&with_streams(world.script("stays", "while read line; do echo \"got $line\"; done"), false, false)).await;
    for line in ["first", "second"] {
        let (mut writer, mut reader) = world.client.attach(PROJECT, "stays", "main", true, None).await.unwrap();
        writer.data(format!("{line}\n").as_bytes()).await.unwrap();
        hear(&mut reader, &[&format!("got {line}\n")]).await;
        writer.end_of_input().await.unwrap();
    }
    world.logged("stays", "got second").await;

    world.run(&world.script("plain", "while :; do sleep 1 & wait; done")).await;
    let (code, _, err) = world.cli_given(&["attach", "-i", "plain"], Vec::new()).await;
    assert!(code != Some(0) && err.contains("without an input"), "{code:?} {err}");
    let sized = Some(TerminalSize { columns: 80, rows: 24 });
    let refused = world.client.attach(PROJECT, "plain", "main", false, sized).await.unwrap_err();
    assert!(refused.to_string().contains("without a terminal"), "{refused}");
    world.finish().await;
}

/// The command line on a terminal of its own, which `script` gives it, typed to by hand.
struct Typist {
    process: tokio::process::Child,
    heard: String,
}

impl Typist {
    fn attach(world: &World, name: &str) -> Self {
        let data = world.wherry.data().display().to_string();
        let inner = format!("'{}' --data '{data}' attach -it {name}", binary().display());
        let mut command = tokio::process::Command::new("script");
        command.args(["-q", "-e", "-c", &inner, "/dev/null"]).env("SHELL", "/bin/sh").kill_on_drop(true);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { process, heard: String::new() }
    }

    async fn press(&mut self, keys: &[u8]) {
        let keyboard = self.process.stdin.as_mut().unwrap();
        keyboard.write_all(keys).await.unwrap();
        keyboard.flush().await.unwrap();
    }

    /// Presses the keys each second until the screen shows the words: nobody listens before it is attached.
    async fn press_until_shown(&mut self, keys: &[u8], words: &str) {
        let begun = std::time::Instant::now();
        while !self.heard.contains(words) {
            assert!(begun.elapsed() < Duration::from_mins(1), "{words:?} was not shown, but {:?}", self.heard);
            self.press(keys).await;
            let mut piece = [0; 4096];
            let screen = self.process.stdout.as_mut().unwrap();
            if let Ok(read) = tokio::time::timeout(Duration::from_secs(1), screen.read(&mut piece)).await {
                let count = read.unwrap();
                assert!(count > 0, "it has ended, after {:?}", self.heard);
                self.heard.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        }
    }

    /// What it ends with.
    async fn ended(mut self) -> Option<i32> {
        let mut rest = Vec::new();
        let screen = self.process.stdout.as_mut().unwrap();
        tokio::time::timeout(Duration::from_mins(1), screen.read_to_end(&mut rest)).await.expect("it ends").unwrap();
        self.process.wait().await.unwrap().code()
    }
}

#[tokio::test]
async fn two_keys_leave_a_terminal_and_its_program_runs_on() {
    let world = World::start().await;
    world.run(&with_streams(world.script("shell", ANSWERS), false, true)).await;
    let mut typist = Typist::attach(&world, "shell");
    typist.press_until_shown(b"one\r", "got one").await;
    // The first key alone is one of the program's.
    typist.press(&[0x10]).await;
    typist.press(b"\r").await;
    typist.press(&[0x10]).await;
    typist.press(&[0x11]).await;
    assert_eq!(typist.ended().await, Some(0));

    let mut typist = Typist::attach(&world, "shell");
    typist.press_until_shown(b"two\r", "got two").await;
    let main = &world.get("shell").await.containers[0];
    assert_eq!((main.restart_count, main.runs.len()), (0, 1), "it runs on");
    // Both at once leave too.
    typist.press(&[0x10, 0x11]).await;
    assert_eq!(typist.ended().await, Some(0));
    world.finish().await;
}
