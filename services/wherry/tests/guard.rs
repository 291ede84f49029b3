//! The guard as a process: it stays while its agent is there, learns of its end by the pipe, and gives way to the next.

#![expect(clippy::unwrap_used, reason = "all of it is a test; clippy knows only the test functions for one")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// Ends with the test, whatever becomes of that.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn begin(data: &Path) -> Guard {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wherry"));
    command.arg("--data").arg(data);
    command.args(["node-guard", "--node", "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a", "--range", "10.77.0.0/16"]);
    let guard = Guard(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let me = guard.0.id().to_string();
    until("it has begun", || std::fs::read_to_string(data.join("node/guard.pid")).is_ok_and(|pid| pid == me));
    guard
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_outlives_its_agent_only_for_as_long_as_it_is_needed_and_gives_way_to_the_next() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("node")).unwrap();
    let mut first = begin(data.path());
    assert!(first.0.try_wait().unwrap().is_none(), "its agent is there");
    let mut second = begin(data.path());
    until("the first gives way", || first.0.try_wait().unwrap().is_some_and(|status| status.success()));
    assert!(second.0.try_wait().unwrap().is_none());
    drop(second.0.stdin.take());
    until("it ends", || second.0.try_wait().unwrap().is_some_and(|status| status.success()));
}
