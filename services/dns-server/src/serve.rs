//! The loops that read requests and write answers, over UDP and TCP, for any [`Responder`].
//!
//! UDP answers that need no waiting are written by the loop itself: no task, no queue. Those that wait get a task each, as many
//! as the responder hands out permits for. A TCP connection has one request in work at a time; reading, answering and writing
//! each have a time limit, so a slow client costs one connection and nothing else. A panic while a packet is answered (a fault
//! of ours or of a library) costs that packet, not the loop: otherwise one packet could end DNS for everybody.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::{QueryCounters, count};
use crate::limits::{Limits, Permits};
use crate::listen::Sockets;
use crate::wire::{Reply, Transport};

/// Longest request, in bytes. A question with EDNS and a cookie has under 400.
const MAX_REQUEST_BYTES: usize = 4096;
/// Requests taken from a socket before other tasks get a turn.
const BATCH: usize = 64;
/// Rest after an error of a listening socket (out of file descriptors, for example), so as not to spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Decides what a request gets.
pub(crate) trait Responder: Send + Sync + 'static {
    /// A question whose answer takes time, with the permit to work on it.
    type Waiting: Send + 'static;

    /// Answers at once where possible; never blocks.
    fn respond(&self, request: &[u8], client: SocketAddr, transport: Transport) -> Response<Self::Waiting>;

    /// Answers a question that takes time. Ends within a time that the responder bounds.
    fn finish(&self, waiting: Self::Waiting) -> impl Future<Output = Reply> + Send;
}

/// What becomes of a request.
pub(crate) enum Response<Waiting> {
    Ignore,
    Now(Reply),
    Later(Waiting),
}

/// A responder with its sockets: runs until `stop` is cancelled.
pub(crate) struct Service<R> {
    pub(crate) responder: R,
    pub(crate) counters: Arc<QueryCounters>,
    pub(crate) limits: Limits,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<R: Responder> Service<R> {
    pub(crate) fn start(self, sockets: Vec<Sockets>) {
        let service = Arc::new(self);
        let permits = Arc::new(Permits::new(service.limits.tcp_connections, service.limits.tcp_connections_per_client));
        for Sockets { address, udp, tcp } in sockets {
            tracing::info!(%address, "DNS listens over UDP and TCP");
            service.tasks.spawn(Arc::clone(&service).serve_udp(Arc::new(udp)));
            service.tasks.spawn(Arc::clone(&service).serve_tcp(tcp, Arc::clone(&permits)));
        }
        service.tasks.close();
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; MAX_REQUEST_BYTES];
        loop {
            let ready = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                ready = socket.readable() => ready,
            };
            if let Err(error) = ready.and_then(|()| self.drain_udp(&socket, &mut buffer)) {
                tracing::warn!(%error, "reading DNS requests over UDP failed; trying again");
                self.pause().await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Answers what has arrived, at most a batch.
    fn drain_udp(self: &Arc<Self>, socket: &Arc<UdpSocket>, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let (length, client) = match socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // Port 0 cannot be answered; whoever sends from it is up to something.
            if client.port() == 0 {
                count(&self.counters.ignored);
                continue;
            }
            match self.respond(&buffer[..length], client, Transport::Udp) {
                Response::Ignore => count(&self.counters.ignored),
                Response::Now(reply) => self.send(socket, &reply, client),
                Response::Later(waiting) => {
                    let (service, socket) = (Arc::clone(self), Arc::clone(socket));
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = service.stop.cancelled() => {}
                            reply = service.responder.finish(waiting) => service.send(&socket, &reply, client),
                        }
                    });
                }
            }
        }
        Ok(())
    }

    /// The responder owns nothing that a panic could leave half changed: it reads snapshots and takes permits.
    fn respond(&self, request: &[u8], client: SocketAddr, transport: Transport) -> Response<R::Waiting> {
        let respond = AssertUnwindSafe(|| self.responder.respond(request, client, transport));
        catch_unwind(respond).unwrap_or_else(|_| {
            tracing::error!(%client, ?request, "answering a DNS packet panicked; please report this line");
            Response::Ignore
        })
    }

    /// Sends or drops: the client asks again, as it does for any lost packet.
    fn send(&self, socket: &UdpSocket, reply: &Reply, client: SocketAddr) {
        self.counters.answered(Transport::Udp, reply);
        if let Err(error) = socket.try_send_to(&reply.bytes, client) {
            count(&self.counters.unsent);
            tracing::debug!(%error, %client, "a DNS answer could not be sent");
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener, permits: Arc<Permits>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    let Some(permit) = permits.take(client.ip()) else {
                        count(&self.counters.tcp_refused);
                        continue;
                    };
                    let service = Arc::clone(&self);
                    self.tasks.spawn(async move {
                        if let Err(error) = service.converse(stream, client).await {
                            tracing::debug!(%error, %client, "a DNS connection ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting DNS connections failed; trying again");
                    self.pause().await;
                }
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let idle = self.limits.tcp_idle_timeout;
        let mut buffer = Vec::new();
        loop {
            // A stop ends the connection between requests, never within one that has been read.
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                read = timeout(idle, read_request(&mut stream, &mut buffer)) => read,
            };
            match read {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
            let reply = match self.respond(&buffer, client, Transport::Tcp) {
                Response::Ignore => {
                    // Whoever sends that does not speak DNS.
                    count(&self.counters.ignored);
                    return Ok(());
                }
                Response::Now(reply) => reply,
                Response::Later(waiting) => tokio::select! {
                    () = self.stop.cancelled() => return Ok(()),
                    reply = self.responder.finish(waiting) => reply,
                },
            };
            self.counters.answered(Transport::Tcp, &reply);
            let written = timeout(idle, write_reply(&mut stream, &reply.bytes)).await;
            if !matches!(written, Ok(Ok(()))) {
                count(&self.counters.unsent);
                return Ok(());
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(ERROR_PAUSE) => {}
        }
    }
}

/// Reads one request into `buffer`; false if the client has closed or sends more than anybody has to ask.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    };
    if length > MAX_REQUEST_BYTES {
        return Ok(false);
    }
    buffer.resize(length, 0);
    stream.read_exact(buffer).await?;
    Ok(true)
}

async fn write_reply(stream: &mut TcpStream, reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(reply.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(reply);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::Ipv4Addr;

    use hickory_proto::op::ResponseCode;

    use super::*;
    use crate::listen::Presence;

    /// Sends back what it got; panics at `!`.
    struct Echo;

    impl Responder for Echo {
        type Waiting = Infallible;

        fn respond(&self, request: &[u8], _client: SocketAddr, _transport: Transport) -> Response<Infallible> {
            assert_ne!(request, b"!", "the panic that this test wants");
            Response::Now(Reply { bytes: request.to_vec(), code: ResponseCode::NoError, truncated: false })
        }

        async fn finish(&self, waiting: Infallible) -> Reply {
            match waiting {}
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_costs_one_packet() {
        let sockets = Sockets::bind((Ipv4Addr::LOCALHOST, 0).into(), Presence::Required).unwrap();
        let address = sockets.address;
        let counters = Arc::<QueryCounters>::default();
        let service = Service {
            responder: Echo,
            counters: Arc::clone(&counters),
            limits: Limits::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        service.start(vec![sockets]);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(address).await.unwrap();
        for packet in [b"!", b"a", b"!", b"b"] {
            client.send(packet).await.unwrap();
        }
        let mut buffer = [0; 8];
        for expected in [b"a", b"b"] {
            let received = timeout(Duration::from_secs(5), client.recv(&mut buffer)).await.expect("the loop lives");
            assert_eq!(&buffer[..received.unwrap()], expected);
        }
        assert_eq!(counters.read().ignored, 2);
    }
}
