//! What is done to a container from outside of it: a connection to the instance's address, a signal to its main process.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::TcpStream;
use wherry_runtime::{ContainerId, Result, RuntimeError};

use crate::connection::{Connection, READ_LIMIT, answered, namespaced_within};
use crate::cri_sandboxes::gone_is_fine;
use crate::failure::About;
use crate::generated::containerd::services::tasks::v1::KillRequest;

/// The machine itself has a way to every instance on it, which its packet filter does not touch.
pub(crate) async fn reach(address: Ipv4Addr, port: u16) -> Result<wherry_runtime::Connection> {
    use io::ErrorKind as E;
    match TcpStream::connect((address, port)).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => match error.kind() {
            E::ConnectionRefused | E::ConnectionReset | E::HostUnreachable | E::NetworkUnreachable | E::TimedOut => {
                Err(RuntimeError::NothingListens { port })
            }
            _ => Err(RuntimeError::Internal { message: format!("{address}:{port} cannot be reached: {error}") }),
        },
    }
}

/// CRI has no call for it; the container's task at containerd has the container's id.
pub(crate) async fn signal(connection: &Connection, id: &ContainerId, signal: u8) -> Result<()> {
    let (container_id, exec_id) = (id.to_string(), String::new());
    let message = KillRequest { container_id, exec_id, signal: u32::from(signal), all: false };
    let mut client = connection.tasks();
    let answer = client.kill(namespaced_within(message, READ_LIMIT));
    gone_is_fine(answered("Kill", About::Container(id.as_str()), READ_LIMIT, answer).await.map(drop))
}
