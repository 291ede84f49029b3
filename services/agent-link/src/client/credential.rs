//! A node's certificate, its key and the authority that it trusts, read from PEM.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use wherry_model::{NodeId, Timestamp};

use crate::authority::{BACKDATED, Fingerprint};
use crate::certificate::{self, Chain, Validity};
use crate::tls;

/// Why it is none.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The certificate.
    #[error("the node's certificate cannot be read")]
    Certificate,
    /// The authority's certificate.
    #[error("the certificate of the control plane's authority cannot be read")]
    Authority,
    /// The key.
    #[error("the node's key cannot be read, or belongs to another certificate")]
    Key(#[source] rustls::Error),
}

/// What proves that an agent speaks for its node.
#[derive(Clone)]
pub struct NodeCredential {
    key: Arc<CertifiedKey>,
    anchor: CertificateDer<'static>,
    node: NodeId,
    validity: Validity,
}

impl std::fmt::Debug for NodeCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCredential")
            .field("node", &self.node)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl NodeCredential {
    /// Reads the node's certificate (with the chain above it), its private key, and the certificate that it trusts, all PEM.
    pub fn from_pem(certificate: &str, key: &str, authority: &str) -> Result<Self, CredentialError> {
        let chain = Chain::from_pem(certificate).ok_or(CredentialError::Certificate)?;
        let leaf = chain.first();
        let node = certificate::node_of(leaf).ok_or(CredentialError::Certificate)?;
        let validity = certificate::validity_of(leaf).ok_or(CredentialError::Certificate)?;
        let anchor = Chain::from_pem(authority).and_then(Chain::into_only).ok_or(CredentialError::Authority)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| CredentialError::Key(rustls::Error::General(error.to_string())))?;
        let key = CertifiedKey::from_der(chain.iter().cloned().collect(), key, &tls::provider())
            .map_err(CredentialError::Key)?;
        Ok(Self { key: Arc::new(key), anchor, node, validity })
    }

    /// The node that it names.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The last moment at which it is taken.
    pub const fn expires_at(&self) -> Timestamp {
        self.validity.not_after
    }

    /// When it is to be renewed: after two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        tls::two_thirds(self.validity.not_before.plus(BACKDATED), self.validity.not_after)
    }

    /// How long it lives altogether.
    pub(crate) fn life(&self) -> Duration {
        self.validity.not_after.since(self.validity.not_before.plus(BACKDATED))
    }

    /// The authority that it trusts.
    pub fn authority(&self) -> Fingerprint {
        Fingerprint::of(&self.anchor)
    }

    pub(crate) const fn anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}
