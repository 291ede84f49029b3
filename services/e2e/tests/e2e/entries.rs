//! Who goes inside: which keys may, how a browser does, and what is on record of each way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use wherry_api_client::{Heard, SessionReader};

use crate::support::{PROJECT, World, eventually, plain_client};

const PATIENCE: Duration = Duration::from_secs(30);
const EXEC: &str = "/v1/projects/default/instances/web/containers/main/exec";

/// What a page in a browser can do, which can set no header: it asks with these subprotocols. Answers the status, the subprotocol that
/// was chosen, and the messages until the end.
fn as_a_browser(api: SocketAddr, path: &str, protocols: &str) -> (u16, Option<String>, Vec<Vec<u8>>) {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {api}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    };
    let status = line().split(' ').nth(1).unwrap().parse().unwrap();
    let mut protocol = None;
    loop {
        let header = line();
        if header.is_empty() {
            break;
        }
        if let Some(chosen) = header.strip_prefix("sec-websocket-protocol: ") {
            protocol = Some(chosen.to_owned());
        }
    }
    let messages = if status == 101 { messages(&mut reader) } else { Vec::new() };
    (status, protocol, messages)
}

/// Frames of RFC 6455 section 5.2, as a server sends them: without a mask, and here each message whole.
fn messages(reader: &mut impl std::io::Read) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut head = [0; 2];
    while reader.read_exact(&mut head).is_ok() {
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length).unwrap();
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                reader.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        let mut carried = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut carried).unwrap();
        match head[0] {
            0x82 => messages.push(carried),
            // Close.
            0x88 => break,
            // Ping.
            0x89 => {}
            other => panic!("a frame that begins with {other:#x}"),
        }
    }
    messages
}

async fn hear(reader: &mut SessionReader, word: &str) {
    let reading = async {
        let mut heard = String::new();
        while !heard.contains(word) {
            match reader.next().await.unwrap() {
                Heard::Stdout(bytes) => heard.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("instead of {word:?} came {other:?}, after {heard:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is heard");
}

/// What is on record of the instance, newest first.
async fn record(world: &World, token: &str) -> Vec<Value> {
    let asked = plain_client().get(world.wherry.url("/v1/projects/default/audit?limit=200")).bearer_auth(token);
    let mut answer: Value = asked.send().await.unwrap().json().await.unwrap();
    serde_json::from_value(answer["items"].take()).unwrap()
}

#[tokio::test]
async fn each_way_inside_needs_its_scope_and_is_on_record() {
    let world = World::start().await;
    let listens = "until grep -qi :1FA3 /proc/net/tcp*; do sleep 0.1; done; echo LISTENS";
    let script = format!("nc -ll -p 8099 -e cat & {listens}; while :; do echo tick; sleep 1 & wait $!; done");
    world.run(&world.script("web", &script)).await;
    world.logged("web", "LISTENS").await;
    let token = world.wherry.token().await;

    // A key for deployments sees and changes it, and does not get inside, whichever way.
    let file = world.wherry.scratch().join("deploys.json").display().to_string();
    let scopes = ["--scope", "instances:read", "--scope", "instances:write"];
    world.wherry.cli(&[&["key", "create", "deploys", "--save", &file], &scopes[..]].concat()).await.well();
    world.wherry.cli(&["update", "web", "--label", "a=b", "--key", &file]).await.well();
    world.wherry.cli(&["exec", "web", "--key", &file, "--", "true"]).await.badly(125, &["instances:exec"]);
    world.wherry.cli(&["attach", "web", "--key", &file]).await.badly(6, &["instances:exec"]);
    assert!(record(&world, &token).await.is_empty(), "nobody was inside yet");

    // A browser.
    let script = "command=sh&command=-c&command=echo%20out%3B%20echo%20err%20%3E%262%3B%20exit%203";
    let path = format!("{EXEC}?{script}");
    let (status, protocol, heard) = as_a_browser(world.wherry.api, &path, &format!("wherry.v1, bearer.{token}"));
    assert_eq!((status, protocol.as_deref()), (101, Some("wherry.v1")), "the token is not sent back");
    assert!(heard.contains(&b"\x01out\n".to_vec()) && heard.contains(&b"\x02err\n".to_vec()), "{heard:?}");
    let (channel, end) = heard.last().and_then(|message| message.split_first()).unwrap();
    assert_eq!((*channel, serde_json::from_slice::<Value>(end).unwrap()), (3, json!({"exit_code": 3})));
    assert_eq!(as_a_browser(world.wherry.api, &path, "wherry.v1, bearer.forged").0, 401);

    let (mut writer, mut reader) = world.client.attach(PROJECT, "web", "main", false, None).await.unwrap();
    hear(&mut reader, "tick").await;
    writer.close().await;
    let (mut writer, mut reader) = world.client.port_forward(PROJECT, "web", 8099).await.unwrap();
    writer.data(b"hello").await.unwrap();
    hear(&mut reader, "hello").await;
    writer.close().await;

    let actor = format!("key:{}", world.wherry.key().key_id);
    eventually("each way is on record with its end", PATIENCE, async || {
        let all = record(&world, &token).await;
        let of = |kind: &str| all.iter().find(|entry| entry["kind"] == kind && entry["state"] != "open");
        let (exec, attach, port) = (of("exec")?, of("attach")?, of("port_forward")?);
        assert_eq!(all.len(), 3, "a row for each that was let in: {all:#?}");
        for entry in [exec, attach, port] {
            assert_eq!((&entry["instance"], &entry["actor"]), (&json!("web"), &json!(actor)), "{entry:#}");
            assert!(entry["ended_at"].is_string(), "{entry:#}");
        }
        assert_eq!((&exec["container"], &exec["exit_code"]), (&json!("main"), &json!(3)), "{exec:#}");
        assert_eq!(exec["command"], json!(["sh", "-c", "echo out; echo err >&2; exit 3"]), "{exec:#}");
        assert_eq!((&attach["container"], &attach["state"]), (&json!("main"), &json!("left")), "{attach:#}");
        assert_eq!((&port["port"], &port["bytes_in"], &port["bytes_out"]), (&json!(8099), &json!(5), &json!(5)));
        Some(())
    })
    .await;
    world.finish().await;
}
