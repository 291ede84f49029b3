//! The wire between control plane and agents: HTTP/2, JSON, mutual TLS.
//!
//! Purpose: what [`wherry_agent_api`] says as traits, spoken between machines. Agents dial out and listen on nothing. A
//! replica of the control plane opens one port ([`AgentPort`]); an agent is its client ([`LinkClient`]).
//!
//! A machine becomes a node and stays one by its [`Identity`]. Questions go to nodes through [`DialBack`] and are answered by
//! the [`Answerer`]. What goes over the wire is described in `docs/agent-protocol.md`.
//!
//! Invariants:
//! - who a caller is comes from its certificate and from nothing else; a body that names another node is forbidden;
//! - a certificate opens nothing for a node that was removed: that is asked at every request;
//! - nothing that a node shows works elsewhere: its certificate cannot serve;
//! - everything is bounded: connections, requests of a node, bodies and time; strangers' connections never keep a node out.
//!
//! This crate is the only home of TLS between machines and of certificates. It knows the contract and the model, neither
//! the control plane nor the agent.
//!
//! Rejected: gRPC, because the contract is a handful of messages that serde already describes and a person can read JSON
//! on the wire; tokens instead of client certificates, because a bearer credential that leaks works elsewhere; revocation
//! lists, because a replica can ask its store at each request.

mod authority;
mod certificate;
mod client;
mod durable;
mod frames;
mod identity;
mod refusal;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use authority::{Authority, AuthorityError, Fingerprint, FingerprintError, Lives};
pub use client::{
    Answerer, CredentialError, DialError, Endpoint, EndpointError, EndpointKeeper, LinkClient, LinkError, LinkSettings,
    NodeCredential,
};
pub use identity::{Identity, IdentityError, JoinOrder};
pub use server::{AgentPort, AgentPortSettings, Arrivals, DialBack, Limits, PortError, Services};
