//! A server obeys, and nothing of it is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wherry_pg_cluster::{Cluster, Settings, Shared, Stop};

const CHILD: &str = "WHERRY_PG_CLUSTER_CHILD";

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.log().parent().expect("a file in a folder").to_owned()
}

fn gone(path: &Path) -> bool {
    let began = Instant::now();
    while path.exists() && began.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    !path.exists()
}

#[test]
fn a_server_starts_stops_freezes_and_is_gone() {
    let settings = Settings { listen: Some(std::net::Ipv4Addr::LOCALHOST), ..Settings::default() };
    let cluster = Cluster::start(&settings).unwrap();
    let database = cluster.create_database().unwrap();
    cluster.psql(&database, "CREATE TABLE numbers (n bigint); INSERT INTO numbers VALUES (7)").unwrap();
    for how in [Stop::Immediate, Stop::Fast] {
        cluster.stop(how).unwrap();
        assert!(cluster.psql(&database, "SELECT 1").is_err());
        cluster.start_again().unwrap();
        assert_eq!(cluster.psql(&database, "SELECT n FROM numbers").unwrap(), "7\n");
    }
    let url = cluster.tcp_url(&database).unwrap();
    assert!(url.starts_with("postgres://wherry:") && url.contains("@127.0.0.1:"), "{url}");
    cluster.freeze();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| cluster.psql(&database, "SELECT n FROM numbers"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!asked.is_finished(), "a frozen server has answered");
        cluster.thaw();
        assert_eq!(asked.join().unwrap().unwrap(), "7\n");
    });
    // Also a frozen one goes.
    cluster.freeze();
    let folder = folder(&cluster);
    drop(cluster);
    assert!(!folder.exists());
}

/// The child's part: starts a server and dies with it in hand.
#[test]
fn child_that_is_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let cluster = Cluster::start(&Settings::default()).unwrap();
    println!("folder: {}", folder(&cluster).display());
    std::process::abort();
}

#[test]
fn a_server_does_not_outlive_a_killed_test() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_that_is_killed", "--nocapture"]).env(CHILD, "1").stderr(Stdio::null());
    let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
    let folder = output.lines().find_map(|line| line.split_once("folder: ")).map(|(_, folder)| PathBuf::from(folder));
    let folder = folder.unwrap_or_else(|| panic!("the child has said: {output}"));
    assert!(gone(&folder.join("data")), "{} is still there", folder.display());
    // The empty folder was to be removed by the child.
    drop(std::fs::remove_dir_all(folder));
}

/// Two who join at once are on one server, each in a database of its own, made from one template.
#[test]
fn databases_of_one_server_are_apart() {
    let join = || {
        let shared = Shared::join().unwrap();
        let prepare = async |url: String| {
            let made = Command::new("psql").args([&url, "-qc", "CREATE TABLE numbers (n bigint)"]).status();
            if made.is_ok_and(|status| status.success()) { Ok(()) } else { Err("psql failed") }
        };
        let database = block_on(shared.database("of_its_own_test", prepare)).unwrap();
        database.psql("INSERT INTO numbers VALUES (1)").unwrap();
        (shared, database)
    };
    let (first, second) = std::thread::scope(|scope| {
        let (first, second) = (scope.spawn(join), scope.spawn(join));
        (first.join().unwrap(), second.join().unwrap())
    });
    for (_, database) in [&first, &second] {
        assert_eq!(database.psql("SELECT count(*) FROM numbers").unwrap(), "1\n");
    }
    assert_ne!(first.1.name(), second.1.name());
    let name = first.1.name().to_owned();
    drop(first);
    let left = second.1.psql(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")).unwrap();
    assert_eq!(left, "0\n");
}

/// Nothing in here waits for anything but threads.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
