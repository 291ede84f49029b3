//! Connections: who they are of, how many, how slow they may be, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_model::{NodeId, Timestamp};

use super::Port;
use super::arrivals::Ending;
use super::crowd::Stand;
use super::limits::{
    CONNECTION_WINDOW_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_RESETS, PING, STREAM_WINDOW_BYTES, Share,
};
use crate::certificate;

/// Pause after a failed accept: most often there are no file descriptors left, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much is read, and for how long, of a connection whose handshake has failed.
const FAILED_BYTES: u64 = 64 * 1024;
const FAILED_STAY: Duration = Duration::from_secs(2);

/// Whom the certificate of a connection names. One that names nobody is as good as none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) node: Option<NodeId>,
    /// The last moment of the certificate: the connection may outlive it, its requests may not.
    pub(super) not_after: Timestamp,
    pub(super) address: SocketAddr,
}

/// What all connections share.
struct Listening {
    port: Arc<Port>,
    acceptor: TlsAcceptor,
    router: Router,
    builder: Builder<TokioExecutor>,
    /// For connections of nodes.
    places: Arc<Semaphore>,
    hard_stop: CancellationToken,
}

/// What a connection holds until it ends.
enum Place {
    Node(#[expect(dead_code, reason = "held, not read")] (Share, OwnedSemaphorePermit)),
    Stranger(Stand),
}

pub(super) async fn accept(port: Arc<Port>, listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let listening = Arc::new(Listening {
        builder: builder(&port),
        places: Arc::new(Semaphore::new(port.limits.connections)),
        port: Arc::clone(&port),
        acceptor,
        router,
        hard_stop: CancellationToken::new(),
    });
    let graceful = GracefulShutdown::new();
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = port.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let stand = port.gate.handshake(address.ip());
        let (listening, watcher) = (Arc::clone(&listening), graceful.watcher());
        tasks.spawn(async move { listening.connection(stream, address, stand, watcher).await });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(port.limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "agents' requests did not finish in time and are cut off");
    }
    listening.hard_stop.cancel();
    tasks.wait().await;
}

impl Listening {
    async fn connection(&self, stream: TcpStream, address: SocketAddr, stand: Stand, watcher: Watcher) {
        let stream = tokio::select! {
            biased;
            () = self.port.shutdown.cancelled() => return,
            stream = self.shake_hands(stream, address) => stream,
            () = stand.gives_way() => return tracing::debug!(%address, "a handshake gave way to others"),
        };
        let Some(stream) = stream else { return };
        let peer = peer(&stream, address);
        let Some(place) = self.place(&peer) else {
            self.port.gate.ended(Ending::NodeRefused);
            return tracing::warn!(%address, node = ?peer.node, "too many connections: one is closed");
        };
        // Not earlier: whoever counts never finds it nowhere.
        drop(stand);
        let asked = CancellationToken::new();
        let (router, asks) = (self.router.clone(), asked.clone());
        let hang_up = HangUp(CancellationToken::new());
        let hung_up = hang_up.0.clone();
        let service = tower::service_fn(move |mut request: http::Request<Incoming>| {
            asks.cancel();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(hang_up.clone());
            tower::ServiceExt::oneshot(router.clone(), request)
        });
        let served =
            self.builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
        let served = watcher.watch(served);
        tokio::select! {
            biased;
            () = self.hard_stop.cancelled() => {}
            ended = served => if let Err(error) = ended {
                tracing::debug!(%address, %error, "a connection ended in an error");
            },
            () = hung_up.cancelled() => tracing::debug!(%address, "an answer that is not read ends with its connection"),
            () = self.overdue(&asked) => {
                self.port.gate.ended(Ending::Silent);
                tracing::debug!(%address, "a connection asked nothing for too long");
            }
            () = self.overstays(&place) => tracing::debug!(%address, "a connection without a certificate had to go"),
        }
    }

    /// None when it failed or took too long.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
        let _ = stream.set_nodelay(true);
        let handshake = self.acceptor.accept(stream).into_fallible();
        match tokio::time::timeout(self.port.limits.handshake, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, stream))) => {
                self.port.gate.ended(Ending::HandshakeFailed);
                tracing::debug!(%address, %error, "a TLS handshake failed");
                let_it_read(stream).await;
            }
            Err(_) => {
                self.port.gate.ended(Ending::HandshakeLate);
                tracing::debug!(%address, "a TLS handshake took too long");
            }
        }
        None
    }

    /// None for a node when it has its share, or all nodes together have all there is.
    fn place(&self, peer: &Peer) -> Option<Place> {
        match peer.node {
            None => Some(Place::Stranger(self.port.gate.stranger(peer.address.ip()))),
            Some(node) => {
                let share = self.port.connections.take(node)?;
                let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
                Some(Place::Node((share, place)))
            }
        }
    }

    /// Ends when nothing was asked in time.
    async fn overdue(&self, asked: &CancellationToken) {
        if tokio::time::timeout(self.port.limits.first_request, asked.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when a stranger has to go.
    async fn overstays(&self, place: &Place) {
        match place {
            Place::Node(_) => std::future::pending().await,
            Place::Stranger(stand) => tokio::select! {
                biased;
                () = stand.gives_way() => {}
                () = tokio::time::sleep(self.port.limits.stranger_stay) => self.port.gate.ended(Ending::Overstayed),
            },
        }
    }
}

/// Lets the other side read why its handshake failed: a connection that is closed with something unread takes back what was
/// sent last.
async fn let_it_read(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAILED_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(FAILED_STAY, reading).await;
}

/// Ends the connection of a request, with everything on it.
#[derive(Debug, Clone)]
pub(super) struct HangUp(pub(super) CancellationToken);

fn peer(stream: &tokio_rustls::server::TlsStream<TcpStream>, address: SocketAddr) -> Peer {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let named = leaf.and_then(|der| Some((certificate::node_of(der)?, certificate::validity_of(der)?)));
    Peer {
        node: named.map(|(node, _)| node),
        not_after: named.map(|(_, validity)| validity.not_after).unwrap_or_default(),
        address,
    }
}

fn builder(port: &Port) -> Builder<TokioExecutor> {
    let streams = u32::try_from(port.limits.requests_of_a_node).unwrap_or(u32::MAX);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(port.limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(usize::try_from(MAX_HEADER_BYTES).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}
