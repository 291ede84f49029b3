//! Who a machine is in the fleet, on its disk: joining, and staying.
//!
//! Invariants:
//! - whatever is killed when, the folder holds the identity from before or the one from after;
//! - the key that a token will be bound to is on the disk before the token is shown: a machine that lost the answer asks again
//!   and is the same node;
//! - a certificate is shown only after it is on the disk;
//! - nothing is joined that does not have the authority with the fingerprint that the operator gave.
//!
//! Rejected: keeping the token to join again by itself after the certificate has expired, because then the disk of a machine
//! that was away for long would be worth a certificate for ever.

mod error;
mod files;
mod join;
mod renew;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use wherry_agent_api::Enrolled;
use wherry_model::{Clock, Entropy, NodeId, Timestamp};

use crate::client::{EndpointKeeper, LinkClient, LinkError, LinkSettings, NodeCredential};
use files::{Folder, Record};

pub use error::IdentityError;
pub use join::JoinOrder;

/// A node's identity as it is on its disk.
pub struct Identity {
    folder: Folder,
    enrolled: Enrolled,
    name: String,
    endpoint: String,
    present: Mutex<Present>,
    expires_at: watch::Sender<Timestamp>,
}

/// What renewal exchanges.
struct Present {
    record: Record,
    credential: NodeCredential,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("enrolled", &self.enrolled)
            .field("name", &self.name)
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the identity in `folder`; none when the machine has not joined. It may have expired: [`Self::check`].
    pub fn open(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let folder = Folder::new(folder);
        folder.read()?.map(|record| Self::new(folder, record)).transpose()
    }

    fn new(folder: Folder, record: Record) -> Result<Self, IdentityError> {
        let wrong = |source| IdentityError::Credential { path: folder.identity_path(), source };
        let credential = NodeCredential::from_pem(&record.certificate, &record.key, &record.ca).map_err(wrong)?;
        if credential.node() != record.enrolled.node {
            return Err(wrong(crate::client::CredentialError::Certificate));
        }
        Ok(Self {
            enrolled: record.enrolled.clone(),
            name: record.name.clone(),
            endpoint: record.endpoint.clone(),
            expires_at: watch::Sender::new(credential.expires_at()),
            present: Mutex::new(Present { record, credential }),
            folder,
        })
    }

    /// What the control plane has made of the machine.
    pub const fn enrolled(&self) -> &Enrolled {
        &self.enrolled
    }

    /// Its id.
    pub const fn node(&self) -> NodeId {
        self.enrolled.node
    }

    /// First address and prefix length of the range of its instances.
    pub const fn range(&self) -> (Ipv4Addr, u8) {
        self.enrolled.range
    }

    /// What operators call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last moment at which the present certificate is taken.
    pub fn expires_at(&self) -> Timestamp {
        *self.expires_at.borrow()
    }

    /// The same, told at each renewal.
    pub fn watch_expiry(&self) -> watch::Receiver<Timestamp> {
        self.expires_at.subscribe()
    }

    /// Fails when the certificate has expired, with the sentence that says what to do.
    pub fn check(&self, now: Timestamp) -> Result<(), IdentityError> {
        let expired_at = self.expires_at();
        if expired_at < now { Err(IdentityError::Expired { node: self.node(), expired_at }) } else { Ok(()) }
    }

    /// Whether joining with this token would make the machine another node: the certificate has expired, and this is not the
    /// token that it joined with.
    pub fn would_become_another(&self, token: &str, now: Timestamp) -> bool {
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(now).is_err() && present.record.token != join::fingerprint_of(token)
    }

    /// The present certificate and key.
    pub fn credential(&self) -> NodeCredential {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).credential.clone()
    }

    /// Where the control plane is, best first: what it named last, then where the machine joined.
    pub fn endpoints(&self) -> Vec<String> {
        let mut endpoints = self.folder.endpoints();
        endpoints.retain(|text| text.parse::<crate::client::Endpoint>().is_ok());
        if !endpoints.contains(&self.endpoint) {
            endpoints.push(self.endpoint.clone());
        }
        endpoints
    }

    /// Begins to connect as this node; what the control plane names of its replicas is kept in the folder. Must be called
    /// inside a tokio runtime.
    pub fn link(
        self: &Arc<Self>,
        settings: LinkSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<LinkClient>, LinkError> {
        let keeper = Arc::new(Keeper { folder: self.folder.clone(), entropy: Arc::clone(&entropy) });
        LinkClient::new(&self.credential(), &self.endpoints(), settings, keeper, clock, entropy).map(Arc::new)
    }
}

/// Keeps what the control plane names of its replicas.
struct Keeper {
    folder: Folder,
    entropy: Arc<dyn Entropy>,
}

impl EndpointKeeper for Keeper {
    fn keep(&self, endpoints: &[String]) {
        if let Err(error) = self.folder.keep_endpoints(endpoints, &*self.entropy) {
            let folder = self.folder.path().display();
            tracing::warn!(%folder, %error, "the control plane's replicas cannot be kept for the next start");
        }
    }
}
