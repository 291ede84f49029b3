//! Who signs the certificates of nodes and replicas.
//!
//! An installation has one authority: a key and a certificate in its `keys` folder, made at the first start, or brought by the
//! operator. `ca.pem` holds the certificate that signs first and the one that nodes trust last; with a file of one
//! certificate these are the same. What stands between goes along with every certificate that is issued. So an operator
//! with a root elsewhere brings an intermediate and its key, and chooses by leaving the root out or in whether nodes
//! trust that intermediate only, or everything under the root.
//!
//! Rejected: names from the request (a machine would name itself), certificates for servers and clients at once (a node
//! could pass for a replica), revocation lists (a replica asks its store whether a node is enrolled, at each request).

mod fingerprint;
mod issue;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use wherry_model::{Clock, Entropy, Timestamp};

use crate::certificate::{self, Chain, Validity};
use crate::durable;

pub use fingerprint::{Fingerprint, FingerprintError};
pub(crate) use issue::SigningRequest;

/// File of the certificate, or of the chain, in the `keys` folder.
const CERTIFICATE_FILE: &str = "ca.pem";
/// File of the private key.
const KEY_FILE: &str = "ca.key";
/// How long our own authority lasts: ten years and the leap days in them.
const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3_653);
/// Certificates are valid from so long before they are made, because clocks differ. Part of the protocol: a node counts
/// the life of its certificate from the end of this.
pub(crate) const BACKDATED: Duration = Duration::from_mins(5);

/// Why there is no authority, or why it signs nothing.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used: check that it exists and that only its owner may read a key")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is a certificate without its key.
    #[error(
        "{certificate} has no key beside it: bring {key}, or move both away to make a new authority, which every node must then join again"
    )]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// Where its key should be.
        key: PathBuf,
    },
    /// The key file holds no key that can sign.
    #[error(
        "{path} is not a private key in PKCS #8 PEM form that certificates can be signed with (ECDSA P-256 or P-384, Ed25519, RSA)"
    )]
    KeyForm {
        /// Which file.
        path: PathBuf,
    },
    /// The certificate file holds no authority, or another's.
    #[error("{path} cannot be the authority of nodes: {reason}")]
    CertificateForm {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The request of a machine is not one.
    #[error("the certificate request cannot be used: {0}")]
    Request(&'static str),
    /// The library refused.
    #[error("the certificate cannot be made")]
    Sign(#[from] rcgen::Error),
    /// The key that was made cannot be used for TLS.
    #[error("the certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// How long certificates live. They are renewed by themselves after two thirds of it.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// A node's: also how long a node that was cut off may be away before it must be enrolled again (after two thirds it
    /// would have renewed, so at least a third).
    pub node: Duration,
    /// A replica's.
    pub replica: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { node: Duration::from_hours(24), replica: Duration::from_hours(7 * 24) }
    }
}

/// Issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The certificate that signs, then up to the one that nodes trust.
    chain: Chain,
    validity: Validity,
    lives: Lives,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Authority {
    /// Uses the authority in `keys` (`ca.pem`, `ca.key`), or makes one there (ECDSA P-256, ten years). May be killed at any
    /// point and called by two processes at once: there is one authority afterwards.
    pub fn open_or_create(
        keys: &Path,
        lives: Lives,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, AuthorityError> {
        let (certificate, key) = (keys.join(CERTIFICATE_FILE), keys.join(KEY_FILE));
        if read_file(&certificate)?.is_none() {
            create(&certificate, &key, clock.now(), &*entropy)?;
        }
        Self::open(&certificate, &key, lives, clock, entropy)
    }

    /// Uses an authority that the operator brought: a PEM file with its certificate first and, if it has one above itself
    /// that nodes are to trust, the chain up to that; and the PKCS #8 PEM file of the first certificate's key.
    pub fn open(
        certificate: &Path,
        key: &Path,
        lives: Lives,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, AuthorityError> {
        let wrong = |reason| AuthorityError::CertificateForm { path: certificate.to_owned(), reason };
        let text = read_file(certificate)?.ok_or_else(|| AuthorityError::File {
            path: certificate.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let chain = Chain::from_pem(&text).ok_or_else(|| wrong("it is not a list of certificates in PEM form"))?;
        if !chain.iter().all(certificate::is_authority) {
            return Err(wrong("a certificate in it may not sign others"));
        }
        let signs = chain.first();
        let validity = certificate::validity_of(signs).ok_or_else(|| wrong("its validity cannot be read"))?;
        let now = clock.now();
        if now < validity.not_before || validity.not_after <= now {
            return Err(wrong("it is not valid now: check the machine's clock, or bring another authority"));
        }
        let key_pair = read_key(key)?
            .ok_or_else(|| AuthorityError::KeyMissing { certificate: certificate.to_owned(), key: key.to_owned() })?;
        if certificate::public_key_of(signs) != Some(key_pair.subject_public_key_info()) {
            return Err(wrong("the key beside it belongs to another certificate"));
        }
        let issuer = Issuer::from_ca_cert_der(signs, key_pair)?;
        Ok(Self { issuer, chain, validity, lives, clock, entropy })
    }

    /// SHA-256 of the certificate that nodes trust: what `--ca-fingerprint` names.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.anchor())
    }

    /// How long the certificates live that it issues.
    pub const fn lives(&self) -> Lives {
        self.lives
    }

    /// The certificate that nodes trust, as PEM.
    pub fn anchor_pem(&self) -> String {
        certificate::chain_to_pem([self.anchor()])
    }

    /// When the authority itself ends; nothing that it issues lasts longer.
    pub const fn not_after(&self) -> Timestamp {
        self.validity.not_after
    }

    pub(crate) fn anchor(&self) -> &CertificateDer<'static> {
        self.chain.last()
    }
}

fn read_file(path: &Path) -> Result<Option<String>, AuthorityError> {
    durable::read(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

fn read_key(path: &Path) -> Result<Option<KeyPair>, AuthorityError> {
    let text = durable::read_secret(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })?;
    let parse = |text: String| KeyPair::from_pem(&text).map_err(|_| AuthorityError::KeyForm { path: path.to_owned() });
    text.map(parse).transpose()
}

/// The key comes first: a certificate without its key would be of no use, a key without a certificate gets one.
fn create(certificate: &Path, key: &Path, now: Timestamp, entropy: &dyn Entropy) -> Result<(), AuthorityError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AuthorityError::File { path, source }
    };
    if read_key(key)?.is_none() {
        let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        durable::create_once(key, made.serialize_pem().as_bytes(), 0o600, entropy).map_err(failed(key))?;
    }
    let key_pair = read_key(key)?.ok_or_else(|| AuthorityError::KeyForm { path: key.to_owned() })?;
    let mut parameters = CertificateParams::default();
    let validity = Validity { not_before: now.minus(BACKDATED), not_after: now.plus(AUTHORITY_LIFE) };
    issue::date(&mut parameters, validity);
    parameters.serial_number = Some(issue::serial(entropy));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "wherry node authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = parameters.self_signed(&key_pair)?;
    durable::create_once(certificate, made.pem().as_bytes(), 0o644, entropy).map_err(failed(certificate))
}
