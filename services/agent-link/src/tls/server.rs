//! The replica's side: a certificate that is exchanged while connections go on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use wherry_model::{Clock, Timestamp};

use super::{ALPN_HTTP2, ALPN_HTTP11, WallClock, provider, roots};
use crate::authority::{Authority, AuthorityError, BACKDATED};
use crate::certificate::Validity;

/// A replica's certificate: new connections get the present one, old ones keep theirs.
pub(crate) struct ReplicaCertificate {
    authority: Arc<Authority>,
    hosts: Vec<String>,
    present: ArcSwap<(Arc<CertifiedKey>, Validity)>,
}

impl fmt::Debug for ReplicaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaCertificate").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl ReplicaCertificate {
    pub(crate) fn issue(authority: Arc<Authority>, hosts: Vec<String>) -> Result<Self, AuthorityError> {
        let (key, validity) = authority.issue_replica(&hosts)?;
        Ok(Self { authority, hosts, present: ArcSwap::from_pointee((Arc::new(key), validity)) })
    }

    pub(crate) fn renew(&self) -> Result<(), AuthorityError> {
        let (key, validity) = self.authority.issue_replica(&self.hosts)?;
        self.present.store(Arc::new((Arc::new(key), validity)));
        Ok(())
    }

    /// After two thirds of its life.
    pub(crate) fn renew_at(&self) -> Timestamp {
        let Validity { not_before, not_after } = self.present.load().1;
        two_thirds(not_before.plus(BACKDATED), not_after)
    }
}

impl ResolvesServerCert for ReplicaCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present.load().0))
    }
}

/// The moment after two thirds of the time from `start` to `end`.
pub(crate) fn two_thirds(start: Timestamp, end: Timestamp) -> Timestamp {
    start.plus(end.since(start) * 2 / 3)
}

/// Clients may show a certificate of our authority, or none; one of somebody else ends the handshake.
pub(crate) fn server_config(
    authority: &Authority,
    certificate: Arc<ReplicaCertificate>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority.anchor())?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(WallClock(clock)))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP11.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
