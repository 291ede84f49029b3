//! As root, on the real machine: each kind of leftover is seen, and nothing is once it is gone.

use std::process::{Command, Stdio};
use std::time::Duration;

use wherry_demo_images::{HostState, Marks};

fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status().expect("the program starts");
    assert!(status.success(), "`{line}` failed: this test needs root, iproute2 and nftables (`cargo xtask setup`)");
}

#[tokio::test]
async fn every_kind_of_leftover_is_named_until_it_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path();
    let mark = format!("probe{}", std::process::id());
    let network = "192.0.2.";
    let marks = Marks::new([path.to_str().unwrap().to_owned(), mark.clone(), network.to_owned()]);
    let before = HostState::look(&marks).unwrap();

    let cgroup = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .map(|root| std::path::Path::new(root).join(&mark))
        .into_iter()
        .find(|folder| std::fs::create_dir(folder).is_ok())
        .expect("a cgroup can be made: this test needs root");
    run(&format!("nft add table inet {mark}"));
    let mounted = path.join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    run(&format!("mount -t tmpfs probe {}", mounted.display()));
    run(&format!("ip netns add {mark}"));
    // Interface names have at most 15 characters.
    let link = mark.as_str();
    run(&format!("ip link add {link} type veth peer name peer netns {mark}"));
    run(&format!("ip address add {network}1/32 dev {link}"));
    let script = path.join("waits.sh");
    std::fs::write(&script, "read line\n").unwrap();
    let mut child = Command::new("sh").arg(&script).stdin(Stdio::piped()).spawn().unwrap();

    let found = before.left_behind(&marks, Duration::ZERO).await.unwrap().join("\n");

    child.kill().unwrap();
    child.wait().unwrap();
    run(&format!("ip link del {link}"));
    run(&format!("ip netns del {mark}"));
    run(&format!("umount {}", mounted.display()));
    run(&format!("nft delete table inet {mark}"));
    std::fs::remove_dir(&cgroup).unwrap();

    let [table, address, namespace] =
        [format!("nft table inet {mark}"), format!("{network}1"), format!("/run/netns/{mark}")];
    for part in [table.as_str(), "mounted", &address, &namespace, "waits.sh", cgroup.to_str().unwrap()] {
        assert!(found.contains(part), "{part} is missing in:\n{found}");
    }
    assert!(before.left_behind(&marks, Duration::from_secs(2)).await.unwrap().is_empty());
}
