//! The agent's side: our authority and no other, a certificate that is exchanged while connections go on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use wherry_model::Clock;

use super::{ALPN_HTTP2, WallClock, provider, roots};
use crate::authority::Fingerprint;

/// A node's certificate and key: new connections show the present one.
pub(crate) struct Credential(ArcSwap<CertifiedKey>);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl Credential {
    pub(crate) fn new(key: Arc<CertifiedKey>) -> Self {
        Self(ArcSwap::new(key))
    }

    pub(crate) fn exchange(&self, key: Arc<CertifiedKey>) {
        self.0.store(key);
    }
}

impl ResolvesClientCert for Credential {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// For a node: trusts `anchor` only and shows `credential`.
pub(crate) fn client_config(
    anchor: &CertificateDer<'static>,
    credential: Arc<Credential>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(WallClock(clock)))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(anchor)?)
        .with_client_cert_resolver(credential);
    Ok(finish(config))
}

/// For a machine that joins: trusts the one authority with this fingerprint, which the replica sends along.
pub(crate) fn joining_config(fingerprint: Fingerprint, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(WallClock(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(fingerprint)))
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Looks for the authority among the certificates that the replica sends. That one is found proves nothing, anybody may
/// send it along; the replica's certificate is then checked against it as against any authority.
#[derive(Debug)]
struct Pinned(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchor = intermediates
            .iter()
            .find(|der| Fingerprint::of(der) == self.0)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(&anchor.clone().into_owned())?, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
