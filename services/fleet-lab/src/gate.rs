//! A TCP door between the machine's loopback and a namespace, in either direction: so tests talk to what is inside, and what is
//! inside reaches the registry and the database, and nothing is routed between the two.
//!
//! It runs on a thread of its own, because a socket belongs to the namespace of the thread that makes it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::namespace::Namespace;

const MOST_CONNECTIONS: usize = 512;

/// Open until it is dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Shut,
    Over,
}

impl Gate {
    /// A free port of the machine's loopback that leads to `target` inside the namespace.
    pub fn into(namespace: &Namespace, target: SocketAddr) -> Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port on loopback")?;
        Self::open(listener, target, Some(namespace.clone()))
    }

    /// This port of the namespace's loopback, any free one for 0, that leads to `target` on the machine.
    pub fn out_of(namespace: &Namespace, port: u16, target: SocketAddr) -> Result<Self> {
        let listener = namespace.within(|| StdListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let listener = listener.with_context(|| format!("port {port} of {} is in use", namespace.name()))?;
        Self::open(listener, target, None)
    }

    /// Where to connect to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; new ones are accepted and ended at once, until [`Gate::reopen`].
    pub fn shut(&self) {
        self.state.send_replace(State::Shut);
    }

    /// Undoes [`Gate::shut`].
    pub fn reopen(&self) {
        self.state.send_replace(State::Open);
    }

    fn open(listener: StdListener, target: SocketAddr, dial_in: Option<Namespace>) -> Result<Self> {
        let address = listener.local_addr().context("cannot read the port of a gate")?;
        listener.set_nonblocking(true).context("cannot make a gate's socket non-blocking")?;
        let (state, watched) = watch::channel(State::Open);
        let (told, heard) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("gate".to_owned()).spawn(move || {
            let begun = begin(dial_in.as_ref());
            match begun {
                Ok(runtime) => {
                    let _ = told.send(Ok(()));
                    runtime.block_on(serve(listener, target, watched));
                }
                Err(error) => drop(told.send(Err(error))),
            }
        });
        let thread = thread.context("cannot start the thread of a gate")?;
        heard.recv().context("the thread of a gate ended at once")??;
        Ok(Self { address, state: Arc::new(state), thread: Some(thread) })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.send_replace(State::Over);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn begin(dial_in: Option<&Namespace>) -> Result<tokio::runtime::Runtime> {
    if let Some(namespace) = dial_in {
        namespace.enter()?;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime of a gate")
}

async fn serve(listener: StdListener, target: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    // Dropped with this function, and everything in it is aborted.
    let mut connections = JoinSet::new();
    loop {
        let now = *state.borrow_and_update();
        match now {
            State::Over => return,
            State::Shut => connections.abort_all(),
            State::Open => {}
        }
        tokio::select! {
            biased;
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                if let (Ok((client, _)), State::Open) = (accepted, now) {
                    connections.spawn(forward(client, target));
                }
            }
        }
    }
}

/// Errors end the connection, which is all that a door would do.
async fn forward(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
