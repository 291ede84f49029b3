//! The certificates themselves.

use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use wherry_model::{Entropy, NodeId, Timestamp};

use super::{Authority, AuthorityError, BACKDATED};
use crate::certificate::{Validity, chain_to_pem, node_uri};
use crate::tls::{self, CONTROL_NAME};

/// A request is a few hundred bytes.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// A request whose signature proves that whoever made it has the private key. Nothing else of it counts.
#[derive(Debug)]
pub(crate) struct SigningRequest {
    public_key: PublicKey,
}

impl SigningRequest {
    /// Reads a request in PEM form.
    pub(crate) fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        if text.len() > MAX_REQUEST_BYTES {
            return Err(AuthorityError::Request("it is too long"));
        }
        let parsed = CertificateSigningRequestParams::from_pem(text)
            .map_err(|_| AuthorityError::Request("it is not a request in PEM form with a valid signature"))?;
        let algorithm = PublicKeyData::algorithm(&parsed.public_key);
        if ![&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519].contains(&algorithm) {
            return Err(AuthorityError::Request("its key is neither ECDSA P-256, ECDSA P-384 nor Ed25519"));
        }
        Ok(Self { public_key: parsed.public_key })
    }

    /// SHA-256 of the key as SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key_hash(&self) -> [u8; 32] {
        Sha256::digest(self.public_key.subject_public_key_info()).into()
    }
}

impl Authority {
    /// A node's certificate with its chain, as PEM: it names the node, proves a client, and nothing else.
    pub(crate) fn issue_node(&self, request: &SigningRequest, node: NodeId) -> Result<String, AuthorityError> {
        let mut parameters = self.leaf(self.lives.node);
        parameters.distinguished_name.push(DnType::CommonName, format!("wherry node {node}"));
        parameters.subject_alt_names = vec![SanType::URI(node_uri(node).try_into()?)];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = parameters.signed_by(&request.public_key, &self.issuer)?;
        Ok(chain_to_pem(self.chain_of(leaf.into()).iter()))
    }

    /// A replica's certificate with a key that was never anywhere else. `hosts` are the names and addresses under which
    /// people find it; agents look at [`CONTROL_NAME`] only.
    pub(crate) fn issue_replica(&self, hosts: &[String]) -> Result<(CertifiedKey, Validity), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names: Vec<String> = std::iter::once(CONTROL_NAME.to_owned()).chain(hosts.iter().cloned()).collect();
        let mut parameters = self.leaf(self.lives.replica);
        parameters.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        parameters.distinguished_name.push(DnType::CommonName, "wherry control plane");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = parameters.signed_by(&key, &self.issuer)?;
        let validity = self.validity_of_a_leaf(self.lives.replica);
        let key = PrivateKeyDer::from(key);
        Ok((CertifiedKey::from_der(self.chain_of(leaf.into()), key, &tls::provider())?, validity))
    }

    fn leaf(&self, life: Duration) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        date(&mut parameters, self.validity_of_a_leaf(life));
        parameters.serial_number = Some(serial(&*self.entropy));
        parameters.distinguished_name = DistinguishedName::new();
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        parameters
    }

    fn validity_of_a_leaf(&self, life: Duration) -> Validity {
        let now = self.clock.now();
        Validity { not_before: now.minus(BACKDATED), not_after: now.plus(life).min(self.validity.not_after) }
    }

    /// The anchor goes along although nobody needs it to build the path: a machine that joins knows no more of it than its
    /// fingerprint, and finds it here.
    fn chain_of(&self, leaf: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(leaf).chain(self.chain.iter().cloned()).collect()
    }
}

pub(super) fn date(parameters: &mut CertificateParams, validity: Validity) {
    let date = |moment: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(moment.grid_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    parameters.not_before = date(validity.not_before);
    parameters.not_after = date(validity.not_after);
}

/// 127 random bits: positive, as RFC 5280 wants it.
pub(super) fn serial(entropy: &dyn Entropy) -> SerialNumber {
    let mut bytes = [0_u8; 16];
    entropy.fill(&mut bytes);
    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    SerialNumber::from_slice(&bytes)
}
