//! `wherry up` where it cannot work: one sentence that names the cause and the way out, and nothing left behind.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use wherry_api_types::InstanceState;

use crate::support::{Said, Wherry, World, binary, said};

/// Refused at once and in few words.
#[track_caller]
fn refused(said: Said, words: &[&str]) {
    let took = said.took;
    let complaint = said.badly(1, words);
    // Log lines may come before, but the last word is for people.
    assert!(complaint.lines().any(|line| line.starts_with("wherry: ")), "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
    assert!(took < Duration::from_secs(10), "it took {took:?} to refuse");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_setting_that_moves_it() {
    let wherry = Wherry::prepare("");
    for (address, setting) in
        [(wherry.api, "--listen-api"), (wherry.operator, "--listen-operator"), (wherry.dns, "--listen-dns")]
    {
        let _tcp = TcpListener::bind(address).unwrap();
        refused(wherry.cli(&["up"]).await, &[&address.to_string(), setting]);
        wherry.assert_nothing_left().await;
    }
    let _udp = UdpSocket::bind(wherry.dns).unwrap();
    refused(wherry.cli(&["up"]).await, &[&wherry.dns.to_string(), "--listen-dns"]);
    wherry.assert_nothing_left().await;
}

#[tokio::test]
async fn a_second_up_on_the_same_data_is_refused_and_harms_nothing() {
    let world = World::start().await;
    let web = world.run(&world.script("steady", "sleep 999 & wait")).await;
    let said = world.wherry.cli(&["up"]).await;
    refused(said, &[&world.wherry.pid().to_string(), "--data"]);
    // With ports of its own it comes further, but no further than the lock.
    let free = ["up", "--listen-api", "127.0.0.1:0", "--listen-operator", "127.0.0.1:0", "--listen-dns", "127.0.0.1:0"];
    refused(world.wherry.cli(&free).await, &[&world.wherry.pid().to_string(), "--data"]);
    world.wherry.cli(&["down"]).await.badly(1, &["Ctrl-C"]);
    assert_eq!(world.get(&web.id).await.state, InstanceState::Running);
    assert_eq!(world.wherry.readiness().await.0, 200);
    world.finish().await;
}

#[tokio::test]
async fn without_root_it_says_so() {
    let open = tempfile::Builder::new().prefix("we-").permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let copy = open.path().join("wherry");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let data = open.path().join("data");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("--data").arg(&data);
        command.args(arguments);
        command
    };
    refused(said(as_nobody(&["up"])).await, &["root"]);
    assert!(!data.exists());

    let mut wherry = Wherry::prepare("");
    wherry.start().await;
    let mut ps = as_nobody(&["ps"]);
    ps.env("WHERRY_SERVER", wherry.url(""));
    let complaint = said(ps).await.badly(5, &["WHERRY_KEY_ID"]);
    assert!(!complaint.contains("denied"), "{complaint}");
    fs::set_permissions(wherry.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut ps = Command::new("setpriv");
    ps.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("--data").arg(wherry.data()).arg("ps");
    said(ps).await.badly(1, &["root", "client.json"]);
    wherry.finish().await;
}

#[tokio::test]
async fn damaged_settings_and_keys_are_named() {
    let mut wherry = Wherry::prepare("");
    for (more, words) in [
        ("[containerd]\nruntim = \"crun\"\n", ["wherry.toml", "runtim"]),
        ("[containerd]\nruntime = \"docker\"\n", ["docker", "crun"]),
        ("[names]\nttl_seconds = 3600\n", ["wherry.toml", "ttl_seconds"]),
        ("[names\n", ["wherry.toml", "line"]),
        ("[node]\ncpu_millis = -1\n", ["wherry.toml", "cpu_millis"]),
    ] {
        wherry.write_settings(more);
        refused(wherry.cli(&["up"]).await, &words);
    }
    wherry.write_settings("");
    refused(wherry.cli(&["up", "--config", "/nowhere/wherry.toml"]).await, &["/nowhere/wherry.toml"]);
    wherry.assert_nothing_left().await;

    // A key file that is garbage: the CLI says what to do, and that mends it.
    wherry.start().await;
    let client_file = wherry.data().join("client.json");
    let whole = fs::read(&client_file).unwrap();
    for garbage in [b"\xff\xfe\x00".as_slice(), b"{}", b"", &whole[..whole.len() / 2]] {
        fs::write(&client_file, garbage).unwrap();
        wherry.cli(&["ps"]).await.badly(1, &["client.json", "wherry up"]);
    }
    assert!(wherry.interrupt().await.success());
    wherry.start().await;
    wherry.cli(&["ps"]).await.well();
    assert!(wherry.interrupt().await.success());

    for (file, garbage) in [("keys/naming.key", "short"), ("keys/token.pem", "no key"), ("node/id", "no id")] {
        let path = wherry.data().join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, garbage).unwrap();
        refused(wherry.cli(&["up"]).await, &[file.rsplit('/').next().unwrap()]);
        wherry.assert_nothing_left().await;
        fs::write(&path, whole).unwrap();
    }
    // After an orderly end everything is in the database file; before it the journal beside it would mend the damage.
    wherry.start().await;
    assert!(wherry.interrupt().await.success());
    // On PostgreSQL it is the server that looks after its files.
    if !wherry.is_on_postgres() {
        let database = wherry.data().join("wherry.db");
        let whole = fs::read(&database).unwrap();
        fs::write(&database, [b"garbage".as_slice(), &whole[7..]].concat()).unwrap();
        refused(wherry.cli(&["up"]).await, &["wherry.db"]);
        wherry.assert_nothing_left().await;
        fs::write(&database, whole).unwrap();
    }
    wherry.start().await;
    wherry.cli(&["ps"]).await.well();
    wherry.finish().await;
}
