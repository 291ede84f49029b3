//! Going inside: programs with their input, output and end, the main program, ports, files.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use wherry_api_client::{ExecOptions, Heard, SessionReader};
use wherry_api_types::{Instance, TerminalSize};

use crate::support::{PROJECT, World, binary, eventually, said};

const SLEEPER: &str = "while :; do sleep 1 & wait; done";

fn options(words: &[&str], stdin: bool, tty: Option<TerminalSize>) -> ExecOptions {
    ExecOptions { command: words.iter().map(|word| (*word).to_owned()).collect(), stdin, tty }
}

impl World {
    /// The command line of this installation, with what stands in `input` as its input.
    pub(crate) async fn cli_given(&self, arguments: &[&str], input: Vec<u8>) -> (Option<i32>, Vec<u8>, String) {
        let mut command = Command::new(binary());
        command.arg("--data").arg(self.wherry.data()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let feeder = std::thread::spawn(move || stdin.write_all(&input));
            let output = child.wait_with_output().unwrap();
            // A program that does not read to its end closes the pipe: that is its right.
            let _ = feeder.join().unwrap();
            output
        });
        let output = tokio::time::timeout(Duration::from_mins(2), ended).await.expect("it ends").unwrap();
        (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Process id of the container's main program, on this machine.
    fn main_pid(&self, instance: &Instance) -> u32 {
        let engine = self.wherry.engine();
        let main = engine.iter().find(|thing| thing.is_container() && thing.instance() == Some(&instance.id));
        main.and_then(|main| main.pid).expect("it runs")
    }
}

#[tokio::test]
async fn exec_is_as_a_local_program_in_a_pipe() {
    let world = World::start().await;
    world.run(&world.script("web", SLEEPER)).await;
    let exec = async |arguments: &[&str], input: &[u8]| {
        world.cli_given(&[&["exec"], arguments].concat(), input.to_vec()).await
    };
    assert_eq!(exec(&["web", "--", "sh", "-c", "exit 3"], b"").await.0, Some(3));
    let (code, out, err) =
        exec(&["web", "--", "sh", "-c", "echo \"$1\"; echo >&2 \"$2\"", "x", "a b", "c  d"], b"").await;
    assert_eq!((code, out.as_slice(), err.as_str()), (Some(0), b"a b\n".as_slice(), "c  d\n"));
    let (code, out, _) = exec(&["-i", "web", "wc", "-c"], b"twelve bytes").await;
    assert_eq!((code, String::from_utf8_lossy(&out).trim()), (Some(0), "12"), "the input has an end");
    let (code, out, _) = exec(&["web", "wc", "-c"], b"not given").await;
    assert_eq!((code, String::from_utf8_lossy(&out).trim()), (Some(0), "0"), "without -i there is none");
    // A program that does not read to the end ends all the same.
    assert_eq!(exec(&["-i", "web", "true"], &vec![b'x'; 4 << 20]).await.0, Some(0));
    assert_eq!(exec(&["web", "--", "sh", "-c", "kill -9 $$"], b"").await.0, Some(137));
    let (code, _, err) = exec(&["web", "/no/such/program"], b"").await;
    assert_eq!(code, Some(125), "{err}");
    let (code, _, err) = exec(&["--timeout", "2s", "web", "sleep", "888"], b"").await;
    assert_eq!(code, Some(124), "{err}");
    eventually("the program that was left is gone", Duration::from_secs(20), async || {
        let left = world.wherry.cli(&["exec", "web", "--", "sh", "-c", "ps | grep -c '[s]leep 888'"]).await;
        (left.out.trim() == "0").then_some(())
    })
    .await;
    // All input in one request.
    let body = serde_json::json!({"command": ["sh", "-c", "cat; echo >&2 x; exit 4"], "stdin": "hello"});
    let answer = reqwest::Client::new()
        .post(world.wherry.url("/v1/projects/default/instances/web/containers/main/exec"))
        .bearer_auth(world.wherry.token().await)
        .json(&body)
        .send()
        .await
        .unwrap();
    let done: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((&done["exit_code"], &done["stdout"], &done["stderr"]), (&4.into(), &"hello".into(), &"x\n".into()));
    // Who did all of this is on record.
    let audit = reqwest::Client::new()
        .get(world.wherry.url("/v1/projects/default/audit?limit=200"))
        .bearer_auth(world.wherry.token().await)
        .send()
        .await
        .unwrap();
    let audit: serde_json::Value = audit.json().await.unwrap();
    let killed = audit["items"].as_array().unwrap().iter().find(|entry| entry["exit_code"] == 137).unwrap();
    assert_eq!(killed["command"], serde_json::json!(["sh", "-c", "kill -9 $$"]));
    assert_eq!((&killed["instance"], &killed["state"]), (&"web".into(), &"ended".into()));
    world.finish().await;
}

#[tokio::test]
async fn a_terminal_has_the_size_of_this_one_and_follows_it() {
    let world = World::start().await;
    world.run(&world.script("web", SLEEPER)).await;
    // `script` gives the command line a terminal of its own.
    let data = world.wherry.data().display().to_string();
    let inner = format!(
        "stty cols 101 rows 37; '{}' --data '{data}' exec -it web sh -c 'test -t 0 && test -t 1 && until stty size | grep .; do sleep 0.1; done; exit 5'",
        binary().display()
    );
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &inner, "/dev/null"]).env("SHELL", "/bin/sh");
    let seen = said(command).await;
    assert_eq!(seen.code, Some(5), "{seen:?}");
    assert!(seen.out.contains("37 101"), "{seen:?}");
    let alone = world.wherry.cli(&["exec", "-it", "web", "sh"]).await;
    alone.badly(2, &["terminal", "-t"]);

    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done";
    let size = TerminalSize { columns: 80, rows: 24 };
    let asked = options(&["sh", "-c", script], true, Some(size));
    let (mut writer, mut reader) = world.client.exec_session(PROJECT, "web", "main", &asked).await.unwrap();
    hear(&mut reader, "24 80").await;
    writer.resize(TerminalSize { columns: 132, rows: 50 }).await.unwrap();
    hear(&mut reader, "50 132").await;
    // Ctrl-C is a key there, and a signal inside.
    writer.data(&[3]).await.unwrap();
    let code = loop {
        match tokio::time::timeout(Duration::from_secs(20), reader.next()).await.unwrap().unwrap() {
            Heard::Ended(code) => break code,
            Heard::Stdout(_) | Heard::Stderr(_) => {}
        }
    };
    assert_eq!(code, 130);
    world.finish().await;
}

/// Reads until the output holds `word`.
async fn hear(reader: &mut SessionReader, word: &str) {
    let mut heard = String::new();
    let reading = async {
        while !heard.contains(word) {
            match reader.next().await.unwrap() {
                Heard::Stdout(bytes) | Heard::Stderr(bytes) => heard.push_str(&String::from_utf8_lossy(&bytes)),
                Heard::Ended(code) => panic!("it ended with {code}"),
            }
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(30), reading).await;
    assert!(within.is_ok(), "{word:?} was not heard, but {heard:?}");
}

#[tokio::test]
async fn attaching_hears_the_main_program_and_leaving_leaves_it() {
    let world = World::start().await;
    world.run(&world.script("web", "while :; do echo tick; sleep 0.2; done")).await;
    let attached = world.wherry.cli_until_interrupted(&["attach", "web"], Duration::from_secs(4)).await;
    assert!(attached.out.contains("tick\ntick\n"), "{attached:?}");
    assert_eq!(world.get("web").await.containers[0].restart_count, 0, "it runs on");
    let (_writer, mut reader) = world.client.attach(PROJECT, "web", "main", false, None).await.unwrap();
    hear(&mut reader, "tick").await;
    world.finish().await;
}

#[tokio::test]
async fn a_port_on_loopback_is_reached_from_here() {
    let world = World::start().await;
    let script = "mkdir -p /pages; echo a page > /pages/index.html; httpd -f -p 127.0.0.1:8080 -h /pages & wait";
    world.run(&world.script("web", script)).await;
    let mut command = tokio::process::Command::new(binary());
    command.arg("--data").arg(world.wherry.data()).args(["port-forward", "web", ":8080", ":81"]);
    let mut forward = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
        addresses.push(line.split_whitespace().next().unwrap().to_owned());
    }
    let page = eventually("the page comes", Duration::from_secs(20), async || {
        let answer = crate::support::plain_client().get(format!("http://{}/", addresses[0])).send().await.ok()?;
        answer.text().await.ok().filter(|text| text.contains("a page"))
    })
    .await;
    assert_eq!(page, "a page\n");
    // Many at once, and one that nobody listens for: it is closed, and the others go on.
    assert!(crate::support::plain_client().get(format!("http://{}/", addresses[1])).send().await.is_err());
    let many = (0..20).map(|_| async {
        let client = crate::support::plain_client();
        client.get(format!("http://{}/", addresses[0])).send().await.unwrap().text().await.unwrap()
    });
    assert!(futures_util::future::join_all(many).await.iter().all(|page| page == "a page\n"));
    kill_process(Pid::from_raw(forward.id().unwrap().cast_signed()).unwrap(), Signal::INT).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), forward.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    let mut complaints = String::new();
    forward.stderr.take().unwrap().read_to_string(&mut complaints).await.unwrap();
    assert!(complaints.contains("port 81"), "{complaints}");
    world.finish().await;
}

#[tokio::test]
async fn files_are_copied_both_ways() {
    let world = World::start().await;
    world.run(&world.script("web", SLEEPER)).await;
    let scratch = world.wherry.scratch().join("copies");
    fs::create_dir_all(scratch.join("site/sub")).unwrap();
    let large: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(scratch.join("site/large"), &large).unwrap();
    fs::write(scratch.join("site/sub/small"), "hello").unwrap();
    std::os::unix::fs::symlink("sub/small", scratch.join("site/link")).unwrap();
    let (site, back) = (scratch.join("site").display().to_string(), scratch.join("back").display().to_string());
    world.wherry.cli(&["exec", "web", "--", "mkdir", "-p", "/tmp"]).await.well();
    world.wherry.cli(&["cp", &site, "web:/tmp/"]).await.well();
    let listed = world.wherry.cli(&["exec", "web", "--", "cat", "/tmp/site/link"]).await.well();
    assert_eq!(listed, "hello");
    world.wherry.cli(&["cp", "web:/tmp/site", &back]).await.well();
    assert!(fs::read(scratch.join("back/large")).unwrap() == large, "all of it came back");
    assert!(scratch.join("back/link").symlink_metadata().unwrap().is_symlink());
    world.wherry.cli(&["cp", "web:/tmp/site/sub/small", &scratch.join("one").display().to_string()]).await.well();
    assert_eq!(fs::read_to_string(scratch.join("one")).unwrap(), "hello");
    world.wherry.cli(&["cp", "web:/no/such/file", &back]).await.badly(1, &["tar"]);
    world.wherry.cli(&["cp", &site, &back]).await.badly(2, &["INSTANCE:PATH"]);
    world.finish().await;
}

/// What one process holds open.
fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Processes in the same PID namespace.
fn companions(pid: u32) -> usize {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = space(&pid.to_string());
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(|name| space(name) == own).count()
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Programs that are run, one after the other; a thousand with `WHERRY_E2E_PROGRAMS=1000`.
fn programs() -> usize {
    std::env::var("WHERRY_E2E_PROGRAMS").map_or(300, |text| text.parse().unwrap())
}

#[tokio::test]
async fn hundreds_of_programs_leave_nothing_behind() {
    let world = World::start().await;
    let mut fast = world.script("web", "sleep 9999 & wait");
    fast.containers[0].cpu = Some("1".to_owned());
    let web = world.run(&fast).await;
    let main = world.main_pid(&web);
    let watched = [
        world.wherry.pid(),
        world.wherry.containerd_pid().unwrap().as_raw_nonzero().get().cast_unsigned(),
        parent_of(main),
    ];
    let asked = options(&["true"], false, None);
    let once = async || {
        let (_writer, mut reader) = world.client.exec_session(PROJECT, "web", "main", &asked).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Heard::Ended(0));
    };
    // What is made once and kept, pools and the like, is made by the first ones.
    for _ in 0..20 {
        once().await;
    }
    let before = (watched.map(open_files), companions(main));
    for _ in 0..programs() {
        once().await;
    }
    eventually("files and processes are as before", Duration::from_secs(30), async || {
        let now = (watched.map(open_files), companions(main));
        // A handful is the breathing of pools; so many programs would leave as many.
        let grown = now.0.iter().zip(before.0).any(|(now, before)| *now > before + 8);
        (!grown && now.1 == before.1).then_some(())
    })
    .await;
    world.finish().await;
}

/// Mebibytes that go through each way; a gigabyte with `WHERRY_E2E_STREAM_MIB=1024`.
fn stream_mib() -> u64 {
    std::env::var("WHERRY_E2E_STREAM_MIB").ok().map_or(64, |text| text.parse().expect("a number of MiB"))
}

/// Resident memory of a process, in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// What `yes 0123456789abcdef` prints, as much as is asked for.
fn pattern(bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let block = "0123456789abcdef\n".repeat(1927).into_bytes();
    let length = block.len() as u64;
    (0..bytes.div_ceil(length)).map(move |number| {
        let rest = usize::try_from((bytes - number * length).min(length)).unwrap();
        block[..rest].to_vec()
    })
}

#[tokio::test]
async fn a_stream_of_any_length_costs_no_memory() {
    let world = World::start().await;
    let mut fast = world.script("web", SLEEPER);
    fast.containers[0].cpu = Some("1".to_owned());
    world.run(&fast).await;
    let bytes = stream_mib() << 20;
    let mut wanted = Sha256::new();
    pattern(bytes).for_each(|block| wanted.update(&block));
    let wanted = wanted.finalize();
    let pid = world.wherry.pid();
    let script = format!("yes 0123456789abcdef | head -c {bytes}");
    let begun = std::time::Instant::now();
    let (_writer, mut reader) =
        world.client.exec_session(PROJECT, "web", "main", &options(&["sh", "-c", &script], false, None)).await.unwrap();
    let (mut heard, mut count, mut first, mut most) = (Sha256::new(), 0_u64, None, 0);
    loop {
        match reader.next().await.unwrap() {
            Heard::Stdout(piece) => {
                let before = count >> 22;
                count += piece.len() as u64;
                heard.update(&piece);
                if count >> 22 != before {
                    most = most.max(resident_mib(pid));
                    first.get_or_insert(most);
                }
            }
            Heard::Stderr(words) => panic!("{}", String::from_utf8_lossy(&words)),
            Heard::Ended(code) => break assert_eq!(code, 0),
        }
    }
    assert_eq!(count, bytes);
    assert!(heard.finalize() == wanted, "every byte came as it was printed");
    let grown = most.saturating_sub(first.unwrap_or(0));
    println!("{} MiB of output in {:?}: {grown} MiB grown to {most}", bytes >> 20, begun.elapsed());
    assert!(grown < 48, "memory grew by {grown} MiB");

    let begun = std::time::Instant::now();
    let (mut writer, mut reader) =
        world.client.exec_session(PROJECT, "web", "main", &options(&["sha256sum"], true, None)).await.unwrap();
    let (mut first, mut most) = (None, 0);
    for (number, block) in pattern(bytes).enumerate() {
        writer.data(&block).await.unwrap();
        if number % 128 == 127 {
            most = most.max(resident_mib(pid));
            first.get_or_insert(most);
        }
    }
    writer.end_of_input().await.unwrap();
    let hexadecimal = data_encoding::HEXLOWER.encode(&wanted);
    hear(&mut reader, &hexadecimal).await;
    assert_eq!(reader.next().await.unwrap(), Heard::Ended(0));
    let grown = most.saturating_sub(first.unwrap_or(0));
    println!("{} MiB of input in {:?}: {grown} MiB grown to {most}", bytes >> 20, begun.elapsed());
    assert!(grown < 48, "memory grew by {grown} MiB");
    world.finish().await;
}
