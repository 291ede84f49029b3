//! What a certificate says: whom it names, and from when until when.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use wherry_model::{NodeId, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What stands before a node's id in its certificate.
const NODE_PREFIX: &str = "wherry:node:";

/// Certificates in one file or answer: a leaf, perhaps an intermediate or two, the root.
const MAX_CHAIN: usize = 8;

/// From when until when a certificate is valid, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    /// First valid second.
    pub(crate) not_before: Timestamp,
    /// Last valid second.
    pub(crate) not_after: Timestamp,
}

/// The name in a node's certificate.
pub(crate) fn node_uri(node: NodeId) -> String {
    format!("{NODE_PREFIX}{node}")
}

/// The node that a certificate names; none when it names none, or more than one thing.
pub(crate) fn node_of(der: &CertificateDer<'_>) -> Option<NodeId> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
    uri.strip_prefix(NODE_PREFIX)?.parse().ok()
}

/// When a certificate is valid.
pub(crate) fn validity_of(der: &CertificateDer<'_>) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(Validity {
        not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
    })
}

/// Whether a certificate may sign others.
pub(crate) fn is_authority(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// The public key that a certificate certifies, as SubjectPublicKeyInfo in DER.
pub(crate) fn public_key_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.public_key().raw.to_vec())
}

/// Certificates of one file or answer in order, never none.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    first: CertificateDer<'static>,
    rest: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// All certificates of a PEM text; none when there are none, too many, or something is broken.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        let mut all = CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_CHAIN + 1);
        let first = all.next()?.ok()?;
        let rest: Vec<_> = all.collect::<Result<_, _>>().ok()?;
        (rest.len() < MAX_CHAIN).then_some(Self { first, rest })
    }

    /// The certificate itself, which what follows vouches for.
    pub(crate) const fn first(&self) -> &CertificateDer<'static> {
        &self.first
    }

    /// The one that all of it hangs on.
    pub(crate) fn last(&self) -> &CertificateDer<'static> {
        self.rest.last().unwrap_or(&self.first)
    }

    /// All, the first one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The one certificate; none when there are several.
    pub(crate) fn into_only(self) -> Option<CertificateDer<'static>> {
        self.rest.is_empty().then_some(self.first)
    }
}

/// Certificates as PEM text.
pub(crate) fn chain_to_pem<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(der);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
