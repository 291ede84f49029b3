//! A TCP path in front of a server that lets only so many bytes a second through: a slow registry, on purpose.
//!
//! Only what the server sends is slowed. The budget is shared by all connections, as on a thin line.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};

const TICK: Duration = Duration::from_millis(20);
const MOST_CONNECTIONS: usize = 64;

/// Forwards until it is dropped.
#[derive(Debug)]
pub struct SlowPath {
    address: SocketAddr,
    listener: AbortHandle,
}

impl SlowPath {
    /// Listens on a free loopback port and forwards to `target` (`host:port`) at `bytes_per_second` or less.
    pub async fn start(target: &str, bytes_per_second: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free TCP port on loopback")?;
        let address = listener.local_addr().context("cannot read the port that the kernel chose")?;
        let task = tokio::spawn(accept(listener, target.to_owned(), bytes_per_second));
        Ok(Self { address, listener: task.abort_handle() })
    }

    /// `127.0.0.1:port`: use it where the address of the server would stand.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, target: String, bytes_per_second: usize) {
    let line = Arc::new(Mutex::new(()));
    // Dropped with this task, and everything in it is aborted.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        connections.spawn(forward(client, target.clone(), bytes_per_second, Arc::clone(&line)));
    }
}

/// Errors end the connection, which is all that a line would do.
async fn forward(client: TcpStream, target: String, bytes_per_second: usize, line: Arc<Mutex<()>>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = trickle(from_server, to_client, bytes_per_second, &line) => {}
    }
}

async fn trickle(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes_per_second: usize, line: &Mutex<()>) {
    let ticks_per_second = usize::try_from(1000 / TICK.as_millis()).unwrap_or(1);
    let mut buffer = vec![0; (bytes_per_second / ticks_per_second).max(1)];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let turn = line.lock().await;
        tokio::time::sleep(TICK).await;
        drop(turn);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
