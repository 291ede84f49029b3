//! Connections to ports inside sandboxes.
//!
//! A socket belongs to the network namespace of the thread that made it, so a thread of its own goes there, connects, hands the
//! socket over and ends. The namespace is found by the sandbox's first process; that this was not another process by then is
//! made sure by asking the engine again once the namespace is held, and the machine's own is never entered.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use wherry_runtime::{Connection, Result, RuntimeError, SandboxId};

use crate::cri_sandboxes::CriSandboxes;
use crate::sandbox;

/// How long each of the two loopback addresses may take; a full queue of a busy server is the only thing that takes any.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) async fn connect(sandboxes: &CriSandboxes, id: &SandboxId, port: u16) -> Result<Connection> {
    let namespace = network_of(sandboxes, id).await?;
    let (sender, connected) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("port-{port}")).spawn(move || {
        let _ = sender.send(dial(&namespace, port));
    });
    thread.map_err(|error| internal(port, &error))?;
    let stream = connected.await.map_err(|_| internal(port, &io::Error::other("the thread ended")))??;
    let stream = TcpStream::from_std(stream).map_err(|error| internal(port, &error))?;
    Ok(Box::new(stream))
}

/// The network namespace of a sandbox that is ready, held open; never the machine's own.
pub(crate) async fn network_of(sandboxes: &CriSandboxes, id: &SandboxId) -> Result<File> {
    let gone = || RuntimeError::NotFound { what: "sandbox", id: id.to_string() };
    let pid = ready_pid(sandboxes, id).await?.ok_or_else(gone)?;
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|_| gone())?;
    if ready_pid(sandboxes, id).await? != Some(pid) {
        return Err(gone());
    }
    let failed = |error: io::Error| RuntimeError::Internal {
        message: format!("the network of a sandbox cannot be seen: {error}"),
    };
    let own = std::fs::metadata("/proc/self/ns/net").map_err(failed)?;
    let theirs = namespace.metadata().map_err(failed)?;
    if (own.dev(), own.ino()) == (theirs.dev(), theirs.ino()) {
        return Err(failed(io::Error::other("it has none of its own")));
    }
    Ok(namespace)
}

/// The first process of a sandbox that is ready.
pub(crate) async fn ready_pid(sandboxes: &CriSandboxes, id: &SandboxId) -> Result<Option<u64>> {
    let is_ready = sandboxes.status(id.as_str()).await?.is_some_and(|status| sandbox::is_ready(&status));
    Ok(if is_ready { sandbox::pid(&sandboxes.information(id.as_str()).await?) } else { None })
}

/// To be called on a thread that does nothing else afterwards.
fn dial(namespace: &File, port: u16) -> Result<std::net::TcpStream> {
    let failed = |error: io::Error| internal(port, &error);
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network).map_err(|error| failed(error.into()))?;
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match std::net::TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT) {
            Ok(stream) => {
                stream.set_nonblocking(true).map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                return Ok(stream);
            }
            Err(error) => tracing::debug!(%error, %address, port, "a port inside a sandbox"),
        }
    }
    Err(RuntimeError::NothingListens { port })
}

fn internal(port: u16, error: &io::Error) -> RuntimeError {
    RuntimeError::Internal { message: format!("port {port} of a sandbox cannot be reached: {error}") }
}
