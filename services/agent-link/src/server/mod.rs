//! The agents' port of a replica.
//!
//! [`AgentPort`] is built once from the control plane's services and serves any number of listeners. Its certificate renews
//! itself while it serves.

mod accept;
mod admission;
mod answer;
mod arrivals;
mod body;
mod crowd;
mod dial_back;
mod enrolment;
mod limits;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{CallBoard, ControlPlane, Enrolment, PROTOCOL};
use wherry_model::Clock;

use crate::authority::{Authority, AuthorityError};
use crate::tls::{ReplicaCertificate, server_config};
use arrivals::Gate;
use limits::Shares;

pub use arrivals::Arrivals;
pub use dial_back::DialBack;
pub(crate) use dial_back::generation_of;
pub use limits::Limits;

/// The certificate is looked at so often: much less than the shortest life that makes sense.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_millis(500);

/// What answers behind the port.
#[derive(Clone)]
pub struct Services {
    /// Hello, desired state, reports, heartbeats, surroundings.
    pub control: Arc<dyn ControlPlane>,
    /// Questions for nodes.
    pub board: Arc<dyn CallBoard>,
    /// Where answers of nodes go to; its [`DialBack::directory`] is given to the control plane.
    pub dial_back: Arc<DialBack>,
    /// Who may be a node.
    pub enrolment: Arc<dyn Enrolment>,
}

/// How the port behaves.
#[derive(Debug, Clone)]
pub struct AgentPortSettings {
    /// Names and addresses under which people find this replica; they stand in its certificate beside `control.wherry`.
    pub hosts: Vec<String>,
    /// The highest protocol version that is spoken: [`PROTOCOL`], or the one before it to try a rolling upgrade or to roll
    /// back.
    pub protocol: u32,
    /// How much of everything.
    pub limits: Limits,
}

impl Default for AgentPortSettings {
    fn default() -> Self {
        Self { hosts: Vec::new(), protocol: PROTOCOL, limits: Limits::default() }
    }
}

/// Why there is no port.
#[derive(Debug, Error)]
pub enum PortError {
    /// No certificate.
    #[error("the agents' port has no certificate")]
    Authority(#[from] AuthorityError),
    /// TLS cannot be set up.
    #[error("the agents' port cannot speak TLS")]
    Tls(#[from] rustls::Error),
}

/// What requests share.
struct Port {
    services: Services,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    protocol: u32,
    limits: Limits,
    /// Requests under way, by node.
    requests: Shares,
    /// Answers under way, by node.
    answers: Shares,
    /// Connections, by node.
    connections: Shares,
    /// Connections of which no node is known.
    gate: Gate,
    shutdown: CancellationToken,
}

/// The agents' port of a replica.
pub struct AgentPort {
    port: Arc<Port>,
    certificate: Arc<ReplicaCertificate>,
    tls: Arc<rustls::ServerConfig>,
}

impl AgentPort {
    /// Makes the replica's certificate and puts the routes together. Serving begins with [`Self::serve`] and ends with
    /// `shutdown`.
    pub fn new(
        services: Services,
        authority: Arc<Authority>,
        settings: AgentPortSettings,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, PortError> {
        let certificate = Arc::new(ReplicaCertificate::issue(Arc::clone(&authority), settings.hosts)?);
        let tls = server_config(&authority, Arc::clone(&certificate), Arc::clone(&clock))?;
        let limits = settings.limits;
        let port = Arc::new(Port {
            services,
            authority,
            clock,
            protocol: settings.protocol,
            requests: Shares::new(limits.requests_of_a_node),
            answers: Shares::new(limits.answers_of_a_node),
            connections: Shares::new(limits.connections_of_a_node),
            gate: Gate::new(&limits),
            limits,
            shutdown,
        });
        Ok(Self { port, certificate, tls })
    }

    /// How many nodes are connected to this replica now.
    pub fn connected_nodes(&self) -> usize {
        self.port.connections.holders()
    }

    /// Who is at the port without being known as a node, and how many were closed.
    pub fn arrivals(&self) -> Arrivals {
        self.port.gate.read()
    }

    /// Exchanges the replica's certificate now; connections go on with the one that they began with. It also happens by
    /// itself.
    pub fn renew_certificate(&self) -> Result<(), AuthorityError> {
        self.certificate.renew()
    }

    /// Serves until the shutdown, then lets requests finish for a while, then returns. Long polls end at once.
    pub async fn serve(&self, listener: TcpListener) {
        let router = self.router();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.tls));
        tokio::select! {
            biased;
            () = accept::accept(Arc::clone(&self.port), listener, acceptor, router) => {}
            () = self.keep_certificate() => {}
        }
    }

    fn router(&self) -> Router {
        admission::admitted(routes::routes(), &self.port).with_state(Arc::clone(&self.port))
    }

    /// Never ends.
    async fn keep_certificate(&self) {
        loop {
            tokio::time::sleep(LOOK_AT_CERTIFICATE).await;
            if self.port.clock.now() < self.certificate.renew_at() {
                continue;
            }
            match self.certificate.renew() {
                Ok(()) => tracing::info!("the replica's certificate was renewed"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the replica's certificate cannot be renewed"
                    );
                }
            }
        }
    }
}
