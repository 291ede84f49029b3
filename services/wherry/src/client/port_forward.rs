//! `wherry port-forward`: ports of this machine's loopback address that are ports inside of an instance.
//!
//! Every connection is a session of its own. One that cannot be made is closed at once and said on standard error; the
//! command goes on until Ctrl-C.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wherry_api_client::{Heard, SessionReader, SessionWriter};

use super::failure::{Exit, Failure};
use super::session::Session;
use super::{output, terminal};
use crate::cli::PortForwardArgs;

/// Connections of all ports at once; the next ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;

const PIECE_BYTES: usize = 32 * 1024;

pub(super) async fn run(session: Arc<Session>, args: &PortForwardArgs) -> Result<(), Failure> {
    // Said at once, not at the first connection.
    session.get(&args.name).await?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut listening = JoinSet::new();
    for pair in &args.ports {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, pair.here));
        let cannot = |error| Failure::new(Exit::Failed, format!("{wanted} cannot be listened on: {error}"));
        let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
        let here = listener.local_addr()?;
        output::line(&format!("{here} is port {} of {}", pair.inside, args.name))?;
        let (session, name, places) = (Arc::clone(&session), args.name.clone(), Arc::clone(&places));
        listening.spawn(accept(listener, session, name, pair.inside, places));
    }
    tokio::select! {
        biased;
        signal = terminal::leave() => match signal? {
            // Ctrl-C is how it is meant to end.
            130 => Ok(()),
            other => Err(Failure::Ended(other)),
        },
        ended = listening.join_next() => match ended {
            Some(Ok(Err(failure))) => Err(failure),
            _ => Err(Failure::failed("a listener ended")),
        },
    }
}

async fn accept(
    listener: TcpListener,
    session: Arc<Session>,
    name: String,
    port: u16,
    places: Arc<Semaphore>,
) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted?.0,
        };
        let (session, name) = (Arc::clone(&session), name.clone());
        connections.spawn(async move {
            let _held_until_closed = place;
            let failed = match session.port_forward(&name, port).await {
                Ok(both) => splice(stream, both).await.err(),
                Err(failure) => Some(failure),
            };
            if let Some(Failure::Told { message, .. }) = failed {
                eprintln!("wherry: port {port}: {message}");
            }
        });
    }
}

async fn splice(stream: TcpStream, (mut writer, mut reader): (SessionWriter, SessionReader)) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let (mut from_here, mut to_here) = stream.into_split();
    let inward = async {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match from_here.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => writer.data(buffer.get(..count).unwrap_or_default()).await?,
                // Reset: nobody is there to hear the rest.
                Err(_) => return Ok(()),
            }
        }
        writer.end_of_input().await?;
        std::future::pending::<Result<(), Failure>>().await
    };
    let outward = async {
        loop {
            match reader.next().await? {
                Heard::Stdout(bytes) | Heard::Stderr(bytes) => {
                    if to_here.write_all(&bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Heard::Ended(_) => {
                    to_here.shutdown().await.ok();
                    return Ok(());
                }
            }
        }
    };
    tokio::select! {
        biased;
        done = outward => done,
        done = inward => done,
    }
}
