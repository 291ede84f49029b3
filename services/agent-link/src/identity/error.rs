//! Why a machine is no node, or not any more.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wherry_agent_api::ControlError;
use wherry_model::{NodeId, Timestamp};

use crate::authority::Fingerprint;
use crate::client::{CredentialError, DialError, EndpointError};

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used: check that its disk has room and that only the service's user may read it")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is there, but is no identity.
    #[error("{path} is no identity of a node: move it away and join again with a new token")]
    Form {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The certificate or key in it cannot be used.
    #[error("{path} holds no usable certificate: move it away and join again with a new token")]
    Credential {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// The machine is a node already.
    #[error(
        "this machine is the node {node} already: start it without --join, or remove {folder} when it is to become another one"
    )]
    Joined {
        /// Which node.
        node: NodeId,
        /// Where its identity is kept.
        folder: PathBuf,
    },
    /// The certificate was not renewed in time.
    #[error(
        "the certificate of node {node} expired at {expired_at}, so the control plane does not take its word: run `wherry node \
         --join` once more, with the token that it joined with to stay this node, or check the machine's clock"
    )]
    Expired {
        /// Which node.
        node: NodeId,
        /// The last moment at which it was taken.
        expired_at: Timestamp,
    },
    /// The endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No key or no request could be made.
    #[error("a key cannot be made")]
    Key(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The control plane could not be reached, or is not the one with this fingerprint.
    #[error(
        "the control plane cannot be joined: check the address and the fingerprint, then run the same command again"
    )]
    Dial(#[from] DialError),
    /// The control plane said no, or not now.
    #[error("the control plane did not take this machine: {0}")]
    Refused(ControlError),
    /// The control plane answered something else than a certificate for us.
    #[error("the control plane's answer cannot be used: {0}")]
    Answer(&'static str),
    /// The control plane is certified by another authority than when the machine joined.
    #[error(
        "the control plane has another authority ({present}) than this node trusts ({trusted}): join again with a new token"
    )]
    Authority {
        /// Whose certificates it issues.
        present: Fingerprint,
        /// Whom the node trusts.
        trusted: Fingerprint,
    },
}
