//! The client against a server that behaves as it is told: drops connections, is busy, forgets tokens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wherry_api_client::{Client, ClientError, Credentials, EventOptions, LogOptions};
use wherry_api_types::{ContainerSpec, DrainThen, ExecRequest, FleetEventKind, InstanceCreate, NodeDrainRequest};

/// What the server does with the next request that is not for a token.
enum Deed {
    /// Closes the connection without an answer.
    Hang,
    /// Answers.
    Say(u16, &'static str, String),
}

#[derive(Clone, Default)]
struct Script {
    deeds: Arc<Mutex<VecDeque<Deed>>>,
    /// What it does with the next requests for a token; then it gives one to each.
    token_deeds: Arc<Mutex<VecDeque<Deed>>>,
    /// Requests that came, heads and bodies.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn then(self, deed: Deed) -> Self {
        self.deeds.lock().expect("nobody panics with it").push_back(deed);
        self
    }

    fn say(self, status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        self.then(Deed::Say(status, kind, body.into()))
    }

    fn refuse_token(self, status: u16, error: &str) -> Self {
        let body = format!(r#"{{"error":"{error}","error_description":"what to do"}}"#);
        self.token_deeds.lock().expect("nobody panics with it").push_back(Deed::Say(status, JSON, body));
        self
    }

    /// Requests for `path`, in order.
    fn heard(&self, path: &str) -> Vec<String> {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.iter().filter(|request| request.contains(path)).cloned().collect()
    }

    async fn serve(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let script = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script.clone().answer(stream));
            }
        });
        let credentials = Credentials { key_id: "key".to_owned(), key_secret: "secret".to_owned() };
        Client::new(&format!("http://{address}"), credentials).expect("the address is right")
    }

    async fn answer(self, mut stream: TcpStream) {
        let Some(request) = read_request(&mut stream).await else { return };
        let for_token = request.starts_with("POST /oauth2/token");
        self.heard.lock().expect("nobody panics with it").push(request);
        let deed = if for_token {
            let number = self.heard("/oauth2/token").len();
            let body = format!(
                r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":900,"scope":"instances:read"}}"#
            );
            let next = self.token_deeds.lock().expect("nobody panics with it").pop_front();
            next.unwrap_or(Deed::Say(200, JSON, body))
        } else {
            let next = self.deeds.lock().expect("nobody panics with it").pop_front();
            next.unwrap_or(Deed::Hang)
        };
        if let Deed::Say(status, kind, body) = deed {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nretry-after: 0\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // The client may have gone; that is its own affair.
            drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 4096];
    loop {
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(piece.get(..count)?);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
    }
}

fn instance() -> String {
    r#"{"id":"0193573e-7a00-7000-8000-0000000000a1","name":"web","project":"default","generation":1,"state":"scheduled",
        "fqdn":"web.x","containers":[],"cost":{"so_far":"0.00","per_hour":"0.01","currency":"USD"},
        "spec":{"containers":[]},"created_at":"t","updated_at":"t","a_field_of_the_future":true}"#
        .to_owned()
}

fn problem(status: u16, code: &str) -> String {
    format!(r#"{{"type":"about:blank","title":"T","status":{status},"code":"{code}","detail":"what to do"}}"#)
}

fn create() -> InstanceCreate {
    let container = ContainerSpec { image: "r.example/web:1".to_owned(), ..Default::default() };
    InstanceCreate { containers: vec![container], ..Default::default() }
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

#[tokio::test]
async fn a_create_without_an_answer_is_sent_again_with_its_key() {
    let script =
        Script::default().then(Deed::Hang).say(503, PROBLEM, problem(503, "unavailable")).say(201, JSON, instance());
    let client = script.serve().await;
    let made = client.create_instance("default", &create(), Some("order-1")).await.unwrap();
    assert_eq!(made.name, "web");
    let sent = script.heard("/v1/projects/default/instances");
    assert_eq!(sent.len(), 3);
    for request in &sent {
        assert!(request.contains("idempotency-key: order-1") && request.contains("r.example/web:1"), "{request}");
    }
    assert_eq!(script.heard("/oauth2/token").len(), 1, "one token serves all of them");
}

/// Nobody could look whether the key is good: that is no word about the key.
#[tokio::test]
async fn no_token_for_now_is_asked_for_again_and_a_refused_key_is_not() {
    let script = Script::default().refuse_token(503, "temporarily_unavailable").say(200, JSON, instance());
    let client = script.serve().await;
    assert_eq!(client.instance("default", "web").await.unwrap().name, "web");
    assert_eq!(script.heard("/oauth2/token").len(), 2);

    let mut script = Script::default();
    for _ in 0..10 {
        script = script.refuse_token(503, "temporarily_unavailable");
    }
    let error = script.serve().await.instance("default", "web").await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(503), Some("unavailable")), "{error}");

    let script = Script::default().refuse_token(401, "invalid_client");
    let error = script.serve().await.instance("default", "web").await.unwrap_err();
    assert!(matches!(error, ClientError::Token(_)), "{error}");
    assert_eq!(script.heard("/oauth2/token").len(), 1);
}

#[tokio::test]
async fn a_create_without_a_key_is_sent_once() {
    let script = Script::default().then(Deed::Hang).say(201, JSON, instance());
    let client = script.serve().await;
    let error = client.create_instance("default", &create(), None).await.unwrap_err();
    assert!(matches!(error, ClientError::Away { .. }), "{error}");
    assert_eq!(script.heard("/v1/projects/default/instances").len(), 1);
}

#[tokio::test]
async fn retries_end() {
    let mut script = Script::default();
    for _ in 0..10 {
        script = script.say(503, PROBLEM, problem(503, "unavailable"));
    }
    let client = script.serve().await;
    let error = client.instance("default", "web").await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(503), Some("unavailable")));
    assert_eq!(script.heard("/instances/web").len(), 4);
}

#[tokio::test]
async fn no_capacity_is_an_answer_and_so_is_a_refusal() {
    for (status, code) in
        [(503, "capacity_unavailable"), (404, "not_found"), (422, "invalid_field"), (409, "name_taken")]
    {
        let script = Script::default().say(status, PROBLEM, problem(status, code));
        let client = script.serve().await;
        let error = client.create_instance("default", &create(), Some("k")).await.unwrap_err();
        assert_eq!(
            (error.status(), error.code(), error.to_string().as_str()),
            (Some(status), Some(code), "what to do")
        );
        assert_eq!(script.heard("/instances").len(), 1, "{code} is not asked again");
        assert_eq!(error.is_not_found(), status == 404);
    }
}

#[tokio::test]
async fn a_token_that_was_forgotten_is_renewed_once() {
    let script = Script::default().say(401, PROBLEM, problem(401, "unauthenticated")).say(200, JSON, instance());
    let client = script.serve().await;
    client.instance("default", "web").await.unwrap();
    let sent = script.heard("/instances/web");
    assert!(sent[0].contains("Bearer token-1") && sent[1].contains("Bearer token-2"), "{sent:?}");
    let twice = Script::default().say(401, PROBLEM, problem(401, "unauthenticated")).say(
        401,
        PROBLEM,
        problem(401, "unauthenticated"),
    );
    let error = twice.serve().await.instance("default", "web").await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert_eq!(twice.heard("/instances/web").len(), 2);
}

#[tokio::test]
async fn many_callers_share_one_token() {
    let mut script = Script::default();
    for _ in 0..8 {
        script = script.say(200, JSON, instance());
    }
    let client = script.serve().await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.instance("default", "web").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(script.heard("/oauth2/token").len(), 1);
}

#[tokio::test]
async fn what_is_not_wherry_is_not_taken_for_it() {
    let script =
        Script::default().say(200, "text/html", "<h1>router login</h1>").say(404, "text/html", "<h1>gone</h1>");
    let client = script.serve().await;
    for status in [200, 404] {
        match client.instance("default", "web").await.unwrap_err() {
            ClientError::Unexpected { status: found, excerpt, .. } => {
                assert_eq!(found, status);
                assert!(excerpt.starts_with("<h1>"), "{excerpt}");
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn events_and_output_are_streams() {
    let event = |seq: u64| {
        format!(
            ": alive\n\nid: {seq}\nevent: created\ndata: {{\"seq\":{seq},\"instance_id\":\"i\",\"instance\":\"web\",\"kind\":\"created\",\
             \"at\":\"t\",\"state\":\"scheduled\",\"generation\":1,\"message\":\"created\"}}\n\n"
        )
    };
    let script =
        Script::default().say(200, "text/event-stream", event(7) + &event(9)).say(200, "text/plain", "one\ntwo\n");
    let client = script.serve().await;
    let options = EventOptions { after: 6, past_only: true, ..EventOptions::default() };
    let events: Vec<_> = client.events("default", &options).await.unwrap().collect().await;
    let numbers: Vec<u64> = events.into_iter().map(|event| event.unwrap().seq).collect();
    assert_eq!(numbers, [7, 9]);
    assert!(script.heard("/events")[0].contains("after=6&follow=false"));
    let pieces: Vec<_> = client.logs("default", "web", "main", &LogOptions::default()).await.unwrap().collect().await;
    let text: Vec<u8> = pieces.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(text, b"one\ntwo\n");
}

#[tokio::test]
async fn a_program_is_run_once_and_its_end_is_told() {
    let result = r#"{"exit_code":3,"stdout":"out","stdout_encoding":"utf8","stderr":"/w==","stderr_encoding":"base64","truncated":false}"#;
    let script = Script::default().say(200, JSON, result).say(503, PROBLEM, problem(503, "unavailable"));
    let client = script.serve().await;
    let request = ExecRequest {
        command: vec!["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()],
        stdin: None,
        stdin_encoding: None,
        timeout_seconds: None,
    };
    let done = client.exec("default", "web", "main", &request).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_slice(), done.stderr.as_slice()), (3, &b"out"[..], &[0xff][..]));
    let error = client.exec("default", "web", "main", &request).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    let sent = script.heard("POST /v1/projects/default/instances/web/containers/main/exec");
    assert_eq!(sent.len(), 2, "what may have been done is not sent again");
    assert!(sent[0].ends_with(r#"{"command":["sh","-c","exit 3"]}"#), "{sent:?}");
}

#[tokio::test]
async fn machines_are_named_in_paths_that_they_cannot_leave() {
    let node = r#"{"id":"n","name":"a/b","architecture":"amd64","state":"draining","capacity":{"cpu_millis":1,"memory_mib":1,"instances":1},
        "used":{"cpu_millis":0,"memory_mib":0,"instances":0},"address_range":"10.0.0.0/24","proof_at":"t",
        "drain":{"asked_at":"t","grace_until":"t","then":"move","left":0,"moving":0,"stopping":0,"staying":0,"gone":2,"waits_for_node":false}}"#;
    let event =
        "id: 4\nevent: node_silent\ndata: {\"seq\":4,\"at\":\"t\",\"kind\":\"node_silent\",\"message\":\"m\"}\n\n";
    let script = Script::default().say(200, JSON, node).say(204, JSON, "").say(200, "text/event-stream", event);
    let client = script.serve().await;
    let drain = NodeDrainRequest { grace_seconds: Some(30), then: Some(DrainThen::Move) };
    assert_eq!(client.drain_node("a/b", &drain).await.unwrap().drain.unwrap().gone, 2);
    client.remove_node("a:cordon").await.unwrap();
    let events: Vec<_> = client.fleet_events(3, true).await.unwrap().collect().await;
    assert_eq!(events[0].as_ref().unwrap().kind, FleetEventKind::NodeSilent);
    assert!(script.heard("POST /v1/admin/nodes/a%2Fb:drain ")[0].ends_with(r#"{"grace_seconds":30,"then":"move"}"#));
    assert_eq!(script.heard("DELETE /v1/admin/nodes/a%3Acordon ").len(), 1);
    assert_eq!(script.heard("GET /v1/admin/events?after=3&follow=true ").len(), 1);
}
