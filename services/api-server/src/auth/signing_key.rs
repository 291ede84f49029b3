//! The key pair that our tokens are signed with: Ed25519 (RFC 8037), made at the first start and kept in a PEM file.
//!
//! Rejected: ES256. Both are asymmetric and widely known; an Ed25519 private key is any 32 random bytes, so it can be
//! made from `Entropy` without another library, and signing needs no randomness that could fail.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use thiserror::Error;
use wherry_api_types::JsonWebKey;
use wherry_model::Entropy;

/// What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key file is a few lines; more than this is something else.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Why there is no key to sign with.
#[derive(Debug, Error)]
pub enum SigningKeyError {
    /// The file cannot be read or written.
    #[error("the token key {path} cannot be used: check the folder and its rights")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the file.
    #[error(
        "the token key {path} can be read by others (mode {mode:o}): run `chmod 600` on it, or delete it to get a new one"
    )]
    Readable {
        /// Which file.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// The file does not hold an Ed25519 private key.
    #[error(
        "the token key {path} is not an Ed25519 private key in PEM form: delete it to get a new one, which ends all tokens"
    )]
    Form {
        /// Which file.
        path: PathBuf,
    },
}

/// What tokens are signed with.
#[derive(Clone)]
pub struct SigningKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    jwk: JsonWebKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.jwk.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the key from `path`, or makes one there. Of two processes that make it at once, one wins and both use it:
    /// the file appears whole, by a link, or not at all.
    pub fn open(path: &Path, entropy: &dyn Entropy) -> Result<Self, SigningKeyError> {
        let failed = |source| SigningKeyError::File { path: path.to_owned(), source };
        match Self::read(path) {
            Err(SigningKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed);
        let mut suffix = [0_u8; 8];
        entropy.fill(&mut suffix);
        let fresh = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(suffix)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
        let written = file.write_all(pem(&seed).as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| fs::hard_link(&fresh, path));
        let removed = fs::remove_file(&fresh);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => removed.map_err(failed)?,
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Self::read(path)
    }

    fn read(path: &Path) -> Result<Self, SigningKeyError> {
        let failed = |source| SigningKeyError::File { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SigningKeyError::Readable { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::from_pem(&text).ok_or_else(|| SigningKeyError::Form { path: path.to_owned() })
    }

    fn from_pem(text: &str) -> Option<Self> {
        let encoding = EncodingKey::from_ed_pem(text.as_bytes()).ok()?;
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).ok()?;
        let AlgorithmParameters::OctetKeyPair(parameters) = &jwk.algorithm else { return None };
        let published = JsonWebKey {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: "EdDSA".to_owned(),
            usage: "sig".to_owned(),
            kid: jwk.thumbprint(ThumbprintHash::SHA256).ok()?,
            x: parameters.x.clone(),
        };
        Some(Self { decoding: DecodingKey::from_jwk(&jwk).ok()?, encoding, jwk: published })
    }

    /// A key that lives in memory only: for tests and tools.
    pub fn ephemeral(entropy: &dyn Entropy) -> Self {
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed);
        Self::from_pem(&pem(&seed)).expect("any 32 bytes are an Ed25519 private key")
    }

    pub(crate) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// The public half, as verifiers need it.
    pub fn public(&self) -> &JsonWebKey {
        &self.jwk
    }
}

fn pem(seed: &[u8; 32]) -> String {
    let der = [PKCS8_PREFIX.as_slice(), seed].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Counting(AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn the_key_is_made_once_and_kept_for_oneself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.pem");
        let entropy = Counting(AtomicU8::new(1));
        let first = SigningKey::open(&path, &entropy).unwrap();
        let second = SigningKey::open(&path, &entropy).unwrap();
        assert_eq!(first.public(), second.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.pem");
        let entropy = Counting(AtomicU8::new(1));
        SigningKey::open(&path, &entropy).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::open(&path, &entropy), Err(SigningKeyError::Readable { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "half a ke").unwrap();
        assert!(matches!(SigningKey::open(&path, &entropy), Err(SigningKeyError::Form { .. })));
    }

    /// RFC 8037 appendix A gives this key, its public half and its thumbprint.
    #[test]
    fn the_public_half_and_the_thumbprint_are_the_standards() {
        let mut seed = [0_u8; 32];
        let text = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        seed.copy_from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap());
        let key = SigningKey::from_pem(&pem(&seed)).unwrap();
        assert_eq!(key.public().x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.public().kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
