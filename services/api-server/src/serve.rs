//! Connections: how many, how slow they may be, and how they end.
//!
//! A connection that has not sent its request's head in [`HEADER_TIMEOUT`] is closed, one that does nothing else is kept for
//! the next request no longer than that. Beyond [`MAX_CONNECTIONS`] nobody is accepted until somebody leaves; the kernel's
//! queue holds the rest. On shutdown nothing new is accepted, what is under way may finish for [`GRACE`], then it is cut off.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that are open at once.
const MAX_CONNECTIONS: usize = 4_096;
/// How long a request's head may take, and how long an idle HTTP/1 connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Headers of one request.
const MAX_HEADERS: usize = 64;
/// Bytes of all headers of one request.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_HTTP2_STREAMS: u32 = 128;
/// Streams that a client may open and reset before its connection is closed (rapid reset, CVE-2023-44487).
const MAX_HTTP2_RESETS: usize = 50;
/// How often a silent HTTP/2 connection is asked whether it is alive.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// How long requests may finish after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after a failed accept: most often there are no file descriptors left, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`, then lets requests finish, then returns.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let builder = connection_builder();
    let graceful = GracefulShutdown::new();
    let tasks = TaskTracker::new();
    let hard_stop = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small and somebody waits for each of them.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        let cut_off = hard_stop.clone();
        tasks.spawn(async move {
            let _held_until_closed = place;
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error = %error, "a connection ended in an error");
                    }
                }
                () = cut_off.cancelled() => {}
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests did not finish in time and are cut off");
    }
    hard_stop.cancel();
    tasks.wait().await;
}

fn connection_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(usize::try_from(MAX_HEADER_BYTES).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_HTTP2_RESETS)
        .max_local_error_reset_streams(MAX_HTTP2_RESETS)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HEADER_TIMEOUT);
    builder
}
