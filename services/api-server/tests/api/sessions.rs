//! Conversations over WebSockets, on a real socket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;
use wherry_api_server::serve;
use wherry_testkit::eventually;

use crate::support::{App, create};

const WEB: &str = "/v1/projects/default/instances/web";
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    app: App,
    token: String,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

type Socket = WebSocketStream<TcpStream>;

impl Served {
    /// With an instance `web` that runs.
    async fn start() -> Self {
        let app = App::start().await;
        let token = app.acme().await;
        app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
        app.stack.agent().obey().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = app.shutdown.clone();
        let serving = tokio::spawn(serve(listener, app.router.clone(), stop.clone()));
        Self { app, token, address, stop, serving }
    }

    async fn ask(&self, path: &str, protocols: &str, authorization: Option<&str>) -> Result<Socket, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_str(protocols).unwrap());
        if let Some(token) = authorization {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, answer) = client_async(request, stream).await?;
        assert_eq!(answer.headers()["sec-websocket-protocol"], "wherry.v1");
        Ok(socket)
    }

    async fn open(&self, path: &str) -> Socket {
        self.ask(path, "wherry.v1", Some(&self.token)).await.unwrap()
    }

    /// The refusal before the upgrade.
    async fn refused(&self, path: &str, protocols: &str, authorization: Option<&str>) -> (u16, Value) {
        match self.ask(path, protocols, authorization).await {
            Err(Error::Http(answer)) => {
                let problem = serde_json::from_slice(answer.body().as_deref().unwrap_or_default());
                (answer.status().as_u16(), problem.unwrap_or(Value::Null))
            }
            Err(error) => panic!("{path}: {error}"),
            Ok(_) => panic!("{path} was not refused"),
        }
    }
}

async fn say(socket: &mut Socket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
}

/// The next message that is not a ping: its channel and what it carries.
async fn hear(socket: &mut Socket) -> (u8, Vec<u8>) {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("something is said");
        match message.expect("it goes on").unwrap() {
            Message::Ping(_) => {}
            Message::Binary(bytes) => return (bytes[0], bytes[1..].to_vec()),
            other => panic!("{other:?}"),
        }
    }
}

async fn last_words(socket: &mut Socket) -> Value {
    let (channel, words) = hear(socket).await;
    assert_eq!(channel, 3, "{}", String::from_utf8_lossy(&words));
    serde_json::from_slice(&words).unwrap()
}

#[tokio::test]
async fn a_program_hears_is_heard_and_says_how_it_ended() {
    let served = Served::start().await;
    let mut socket = served.open(&format!("{WEB}/containers/main/exec?command=cat&stdin=true")).await;
    say(&mut socket, 0, b"hello").await;
    assert_eq!(hear(&mut socket).await, (1, b"hello".to_vec()));
    say(&mut socket, 3, br#"{"end_of_input":true}"#).await;
    assert_eq!(last_words(&mut socket).await, json!({"exit_code": 0}));

    let mut socket = served.open(&format!("{WEB}/containers/main/exec?command=exit&command=3")).await;
    assert_eq!(hear(&mut socket).await, (2, b"exit 3".to_vec()));
    assert_eq!(last_words(&mut socket).await, json!({"exit_code": 3}));

    let path = format!("{WEB}/containers/main/exec?command=size&stdin=true&tty=true&columns=100&rows=30");
    let mut socket = served.open(&path).await;
    assert_eq!(hear(&mut socket).await, (1, b"100x30\n".to_vec()));
    say(&mut socket, 3, br#"{"resize":{"columns":132,"rows":50}}"#).await;
    assert_eq!(hear(&mut socket).await, (1, b"132x50\n".to_vec()));

    let mut attached = served.open(&format!("{WEB}/containers/main/attach")).await;
    assert_eq!(hear(&mut attached).await, (1, b"attached\n".to_vec()));
    let mut port = served.open(&format!("{WEB}/port-forward?port=8080")).await;
    say(&mut port, 0, b"GET /").await;
    assert_eq!(hear(&mut port).await, (1, b"GET /".to_vec()));
}

#[tokio::test]
async fn refusals_come_before_the_upgrade() {
    let served = Served::start().await;
    let token = served.token.clone();
    let exec = format!("{WEB}/containers/main/exec");
    for (path, status, code) in [
        (format!("{exec}?command=no-such-program"), 409, "cannot_begin"),
        (format!("{WEB}/port-forward?port=81"), 409, "cannot_begin"),
        (format!("{WEB}/port-forward?port=0"), 400, "invalid_request"),
        (format!("{WEB}/port-forward"), 400, "invalid_request"),
        (exec.clone(), 422, "invalid_field"),
        (format!("{exec}?command=cat&columns=80"), 422, "invalid_field"),
        (format!("{exec}?command=cat&tty=true&rows=0"), 400, "invalid_request"),
        (exec.replace("main", "side") + "?command=cat", 404, "not_found"),
        (exec.replace("web", "other") + "?command=cat", 404, "not_found"),
    ] {
        let (found, problem) = served.refused(&path, "wherry.v1", Some(&token)).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{path}: {problem}");
    }
    let cat = format!("{exec}?command=cat");
    assert_eq!(served.refused(&cat, "chat", Some(&token)).await.0, 400);
    assert_eq!(served.refused(&cat, "wherry.v1", None).await.0, 401);
    let plain = served.app.get(&token, &cat).await;
    assert_eq!(plain.headers["upgrade"], "websocket");
    plain.expect_problem(426, "upgrade_required");
    assert_eq!(served.app.stack.agent().conversations(), 0);
}

#[tokio::test]
async fn a_browser_brings_its_token_as_a_subprotocol() {
    let served = Served::start().await;
    let cat = format!("{WEB}/containers/main/exec?command=cat&stdin=true");
    let mut socket = served.ask(&cat, &format!("wherry.v1, bearer.{}", served.token), None).await.unwrap();
    say(&mut socket, 0, b"x").await;
    assert_eq!(hear(&mut socket).await, (1, b"x".to_vec()));
    assert_eq!(served.refused(&cat, "wherry.v1, bearer.forged", None).await.0, 401);
    let twice = format!("wherry.v1, bearer.{0}, bearer.{0}", served.token);
    assert_eq!(served.refused(&cat, &twice, None).await.0, 401);
    // Where no WebSocket is asked for it is no token.
    let request = http::Request::get("/v1/projects")
        .header("sec-websocket-protocol", format!("bearer.{}", served.token))
        .body(axum::body::Body::empty())
        .unwrap();
    served.app.ask(request).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn who_goes_away_ends_the_program_and_who_talks_nonsense_is_told() {
    let served = Served::start().await;
    let sleep = format!("{WEB}/containers/main/exec?command=sleep&stdin=true");
    let socket = served.open(&sleep).await;
    assert_eq!(served.app.stack.agent().conversations(), 1);
    drop(socket);
    let agent = served.app.stack.agent();
    eventually("the program is left", || async { (agent.conversations() == 0).then_some(()) }).await;
    for nonsense in [&b"\x01x"[..], b"\x09", b"", b"\x03{}", b"\x03{\"resize\":{\"columns\":0,\"rows\":1}}"] {
        let mut socket = served.open(&sleep).await;
        socket.send(Message::Binary(nonsense.to_vec().into())).await.unwrap();
        let words = last_words(&mut socket).await;
        assert_eq!(words["error"]["code"], "invalid_request", "{words}");
    }
    let mut socket = served.open(&sleep).await;
    let huge = vec![0; 64 * 1024];
    socket.send(Message::Binary(huge.into())).await.ok();
    eventually("too long a message ends it", || async { (agent.conversations() == 0).then_some(()) }).await;
    let audit = served.app.get(&served.token, "/v1/projects/default/audit?instance=web").await.expect(200).json();
    let first = audit["items"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&first["kind"], &first["command"], &first["container"]),
        (&json!("exec"), &json!(["sleep"]), &json!("main"))
    );
}

#[tokio::test]
async fn a_shutdown_sends_everybody_away() {
    let served = Served::start().await;
    let mut socket = served.open(&format!("{WEB}/containers/main/exec?command=sleep")).await;
    served.stop.cancel();
    let words = last_words(&mut socket).await;
    assert_eq!(words["error"]["code"], "unavailable", "{words}");
    served.serving.await.unwrap();
}

#[tokio::test]
async fn input_stands_in_a_request_as_text_or_base64() {
    let served = Served::start().await;
    let exec = format!("{WEB}/containers/main/exec");
    let run = async |body: Value| served.app.call(&served.token, "POST", &exec, body).await;
    let done = run(json!({"command": ["cat"], "stdin": "caf\u{e9}"})).await.expect(200).json();
    assert_eq!((&done["stdout"], &done["exit_code"]), (&json!("caf\u{e9}"), &json!(0)));
    let done = run(json!({"command": ["cat"], "stdin": "/wA=", "stdin_encoding": "base64"})).await.expect(200).json();
    assert_eq!((&done["stdout"], &done["stdout_encoding"]), (&json!("/wA="), &json!("base64")));
    for (wrong, field) in [
        (json!({"command": ["cat"], "stdin_encoding": "base64"}), "stdin_encoding"),
        (json!({"command": ["cat"], "stdin": "!", "stdin_encoding": "base64"}), "stdin"),
    ] {
        let problem = run(wrong).await.expect_problem(422, "invalid_field");
        assert_eq!(problem["field"], field);
    }
}
