//! As root, on the real machine: each kind of leftover is seen, and nothing is once it is gone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use wherry_demo_images::HostState;

fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status().expect("the program starts");
    assert!(status.success(), "`{line}` failed: this test needs root, iproute2 and nftables (`cargo xtask setup`)");
}

async fn new_since(before: &HostState, scratch: &Path) -> Vec<String> {
    before.left_behind(scratch, Duration::ZERO).await.expect("the machine can be looked at")
}

#[tokio::test]
async fn every_kind_of_leftover_is_named_until_it_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path();
    let mark = std::process::id();
    let before = HostState::look(path).unwrap();

    let table = format!("wherry_probe_{mark}");
    run(&format!("nft add table inet {table}"));
    let mounted = path.join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    run(&format!("mount -t tmpfs probe {}", mounted.display()));
    let namespace = format!("probe-{mark}");
    run(&format!("ip netns add {namespace}"));
    let script = path.join("waits.sh");
    std::fs::write(&script, "read line\n").unwrap();
    let mut child = Command::new("sh").arg(&script).stdin(Stdio::piped()).spawn().unwrap();

    let found = new_since(&before, path).await.join("\n");

    child.kill().unwrap();
    child.wait().unwrap();
    run(&format!("ip netns del {namespace}"));
    run(&format!("umount {}", mounted.display()));
    run(&format!("nft delete table inet {table}"));

    for part in [table.as_str(), "mounted", &namespace, "waits.sh"] {
        assert!(found.contains(part), "{part} is missing in:\n{found}");
    }
    let after = before.left_behind(path, Duration::from_secs(2)).await.unwrap();
    let ours: Vec<_> =
        after.iter().filter(|line| line.contains(path.to_str().unwrap()) || line.contains(&table)).collect();
    assert!(ours.is_empty(), "{ours:?}");
}
