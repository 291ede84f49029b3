//! On a real socket: bounds of connections, and the order in which a shutdown ends things.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wherry_api_server::serve;

use crate::support::{App, create};

struct Served {
    app: App,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let app = App::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app.router.clone(), stop.clone()));
        Self { app, address, stop, serving }
    }

    /// Sends bytes and reads what comes back until the server closes.
    async fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        let _reset_counts_as_closed = read.expect("the server closes the connection");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn header_bombs_and_smuggled_requests_are_refused() {
    let served = Served::start().await;
    let many = "x-filler: 1\r\n".repeat(100);
    let answer = served.talk(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "y".repeat(100 * 1024);
    let answer = served.talk(format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let smuggled = "POST /oauth2/token HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!";
    let answer = served.talk(smuggled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Of both framings the chunked one counts (RFC 9112 section 6.3), and the connection is not used again.
    let both = "POST /oauth2/token HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = served.talk(both.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{answer}");
    served.stop.cancel();
    served.serving.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_answers_what_was_asked_and_ends_streams() {
    let served = Served::start().await;
    let token = served.app.acme().await;
    let web = "/v1/projects/default/instances/web";
    served.app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let wait = head(&format!("{web}/wait?state=running&timeout=300s"));
    let events = head("/v1/projects/default/events");
    let ended = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        served.stop.cancel();
        served.app.shutdown.cancel();
    };
    let (waited, streamed, ()) = tokio::join!(served.talk(wait.as_bytes()), served.talk(events.as_bytes()), ended);
    assert!(waited.starts_with("HTTP/1.1 200") && waited.contains("\"reached\":false"), "{waited}");
    assert!(streamed.contains("event: created") && streamed.ends_with("0\r\n\r\n"), "ended in order: {streamed}");
    tokio::time::timeout(Duration::from_secs(5), served.serving).await.expect("serving ends").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody is accepted any more");
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let served = Served::start().await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /healthz HTT").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "a head that does not come is not waited for");
    served.stop.cancel();
    served.serving.await.unwrap();
}
