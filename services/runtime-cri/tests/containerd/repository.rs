//! Servers of repositories that mean harm: one that never answers, one that never stops.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;
use wherry_runtime::{ContainerRuntime, ContainerState, DnsConfig, Fetched, RepositoryRequest, SandboxId};

use crate::support::Engine;

/// More than an agent may ever hold of what a server said.
const FLOOD: usize = 256 << 20;
const COMMIT: &str = "1234567890123456789012345678901234567890";

/// A sandbox, and a server's socket at its loopback.
async fn stage(engine: &Engine, name: &str) -> (SandboxId, TcpListener) {
    let (sandbox, container) = engine.run(name, "sleep 600").await;
    let pid = engine.wait_for(&container, ContainerState::Running).await.pid.unwrap();
    let listening = std::thread::spawn(move || {
        let network = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap()
    });
    (sandbox, listening.join().unwrap())
}

fn request(engine: &Engine, name: &str, listener: &TcpListener) -> RepositoryRequest {
    let into = engine.logs().join("repository");
    std::fs::create_dir(&into).unwrap();
    RepositoryRequest {
        repository: format!("git://{}/x.git", listener.local_addr().unwrap()),
        revision: None,
        into,
        cgroup_name: engine.sandbox_config(name).cgroup_name,
        dns: DnsConfig::default(),
        timeout: Duration::from_mins(2),
        file_bytes: 1 << 20,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_given_up_takes_git_along() {
    let engine = Engine::start().await;
    let (sandbox, listener) = stage(&engine, "silent").await;
    let request = request(&engine, "silent", &listener);
    let (asked_sender, asked) = oneshot::channel();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut piece = [0; 4096];
        let first = stream.read(&mut piece).unwrap();
        asked_sender.send(first).unwrap();
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    });
    tokio::select! {
        fetched = engine.runtime.fetch_repository(&sandbox, &request) => panic!("nobody answered: {fetched:?}"),
        asked = asked => assert!(asked.unwrap() > 0, "git asks"),
    }
    let has_hung_up = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    assert!(has_hung_up, "git lives on after the fetch was given up");
    engine.finish().await;
}

/// A line of the git protocol; none where a flush is.
fn read_line(stream: &mut TcpStream) -> Option<String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    let mut line = vec![0; length.checked_sub(4)?];
    stream.read_exact(&mut line).unwrap();
    Some(String::from_utf8(line).unwrap())
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// Promises a commit, then talks beside it until nobody listens. Says how much of that was taken.
fn flood(mut stream: TcpStream) -> usize {
    assert!(read_line(&mut stream).unwrap().starts_with("git-upload-pack /x.git"));
    let head = line(&format!("{COMMIT} HEAD\0side-band-64k shallow agent=x\n"));
    stream.write_all(format!("{head}0000").as_bytes()).unwrap();
    let mut is_shallow = false;
    while let Some(wanted) = read_line(&mut stream) {
        is_shallow |= wanted.starts_with("deepen");
    }
    if is_shallow {
        stream.write_all(format!("{}0000", line(&format!("shallow {COMMIT}"))).as_bytes()).unwrap();
    }
    while read_line(&mut stream).is_none_or(|said| !said.starts_with("done")) {}
    stream.write_all(line("NAK\n").as_bytes()).unwrap();
    let said = line(&format!("\u{2}{}\n", "shallow words ".repeat(1000)));
    let mut taken = 0;
    while taken < FLOOD && stream.write_all(said.as_bytes()).is_ok() {
        taken += said.len();
    }
    taken
}

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stop_talking_fills_nobodys_memory() {
    let engine = Engine::start().await;
    let (sandbox, listener) = stage(&engine, "flood").await;
    let request = request(&engine, "flood", &listener);
    // What the server says makes it be asked again, for the whole history.
    let server = std::thread::spawn(move || [(); 2].map(|()| flood(listener.accept().unwrap().0)));
    let before = peak();
    let fetched = engine.runtime.fetch_repository(&sandbox, &request).await.unwrap();
    let taken = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    let grown = peak() - before;
    let Fetched::Refused(why) = fetched else { panic!("there is no commit: {fetched:?}") };
    assert!(why.len() <= 500 && why.contains("shallow words"), "{why}");
    assert!(taken.iter().all(|taken| *taken > 0), "it was asked twice and talked: {taken:?}");
    assert!(grown < FLOOD / 4, "{grown} bytes more were held; the server said {taken:?}");
    engine.finish().await;
}
