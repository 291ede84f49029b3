//! The public keys of an outside issuer: from a file, or fetched from a URL, kept for a while, and fetched again when a
//! token names a key that is not known — but not more often than every [`MIN_REFRESH`], whoever sends such tokens.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, PublicKeyUse};
use reqwest::Url;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::outside::OutsideAlgorithm;

/// How old keys may get before they are fetched again.
const MAX_AGE: Duration = Duration::from_mins(10);
/// How long after a fetch the next one may be, for a key that is not known.
const MIN_REFRESH: Duration = Duration::from_secs(30);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest key set, in bytes.
const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys of a set that are used.
const MAX_KEYS: usize = 64;

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// In a file, read again like a URL is fetched again.
    File(PathBuf),
    /// Under a URL: https, or http on this machine itself. Redirects are not followed.
    Url(String),
}

/// Why the keys of an issuer cannot be had.
#[derive(Debug, Error)]
pub enum JwksSourceError {
    /// The URL cannot be used.
    #[error("{0:?} is not a JWKS address: give an https URL, or http on a loopback address")]
    Address(String),
    /// They cannot be read or fetched.
    #[error("the keys at {place} cannot be fetched: {reason}")]
    Fetch {
        /// Where they were looked for.
        place: String,
        /// What happened.
        reason: String,
    },
    /// What is there is not a key set.
    #[error("what is at {0} is not a JSON Web Key Set")]
    Form(String),
}

/// A key with the one algorithm it may be used for.
#[derive(Clone)]
pub(super) struct IssuerKey {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: OutsideAlgorithm,
}

/// The keys have to be fetched before anything can be said.
struct Stale;

type Keys = Arc<HashMap<String, IssuerKey>>;

pub(super) struct KeyCache {
    source: JwksSource,
    allowed: Vec<OutsideAlgorithm>,
    /// The latest keys and when they were fetched, or tried to be.
    latest: RwLock<Option<(Instant, Keys)>>,
    /// Held while fetching, so that it is done once for all who wait; known keys are used meanwhile.
    fetching: Mutex<()>,
}

impl KeyCache {
    pub(super) fn new(source: JwksSource, allowed: Vec<OutsideAlgorithm>) -> Self {
        Self { source, allowed, latest: RwLock::new(None), fetching: Mutex::new(()) }
    }

    /// The key of that id, if the issuer has one.
    pub(super) async fn key(&self, id: &str) -> Result<Option<IssuerKey>, JwksSourceError> {
        if let Ok(known) = self.known(id) {
            return Ok(known);
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Ok(known) = self.known(id) {
            return Ok(known);
        }
        let old = self.read().map(|(_, keys)| keys).unwrap_or_default();
        let (keys, result) = match self.fetch().await {
            Ok(keys) => (Arc::new(keys), Ok(())),
            // Old keys are better than none while the issuer is away.
            Err(error) if !old.is_empty() => {
                tracing::warn!(%error, "using the issuer's keys of before");
                (old, Ok(()))
            }
            Err(error) => (old, Err(error)),
        };
        let found = keys.get(id).cloned();
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), keys));
        result.map(|()| found)
    }

    fn read(&self) -> Option<(Instant, Keys)> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What can be said of the key without fetching.
    fn known(&self, id: &str) -> Result<Option<IssuerKey>, Stale> {
        let (at, keys) = self.read().ok_or(Stale)?;
        match keys.get(id) {
            Some(key) if at.elapsed() < MAX_AGE => Ok(Some(key.clone())),
            None if at.elapsed() < MIN_REFRESH => Ok(None),
            _ => Err(Stale),
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, IssuerKey>, JwksSourceError> {
        let (place, bytes) = match &self.source {
            JwksSource::File(path) => {
                let place = path.display().to_string();
                let bytes = tokio::fs::read(path).await;
                let bytes = bytes
                    .map_err(|error| JwksSourceError::Fetch { place: place.clone(), reason: error.to_string() })?;
                (place, bytes)
            }
            JwksSource::Url(url) => (url.clone(), download(url).await?),
        };
        if bytes.len() > MAX_SET_BYTES {
            return Err(JwksSourceError::Form(place));
        }
        let set: JwkSet = serde_json::from_slice(&bytes).map_err(|_| JwksSourceError::Form(place))?;
        Ok(self.usable(&set))
    }

    /// The keys that have an id, are for signatures, and are of an allowed algorithm. Others are passed over.
    fn usable(&self, set: &JwkSet) -> HashMap<String, IssuerKey> {
        let mut keys = HashMap::new();
        for jwk in set.keys.iter().take(MAX_KEYS) {
            let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let (Some(id), true) = (&jwk.common.key_id, for_signatures) else { continue };
            let declared = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
            let algorithm = self.allowed.iter().copied().find(|allowed| {
                declared.as_deref().is_none_or(|declared| declared == allowed.as_str()) && allowed.fits(&jwk.algorithm)
            });
            if let (Some(algorithm), Ok(decoding)) = (algorithm, DecodingKey::from_jwk(jwk)) {
                keys.insert(id.clone(), IssuerKey { decoding, algorithm });
            }
        }
        keys
    }
}

impl OutsideAlgorithm {
    fn fits(self, key: &AlgorithmParameters) -> bool {
        match (self, key) {
            (Self::Rs256 | Self::Ps256, AlgorithmParameters::RSA(_)) => true,
            (Self::Es256, AlgorithmParameters::EllipticCurve(key)) => key.curve == EllipticCurve::P256,
            (Self::Es384, AlgorithmParameters::EllipticCurve(key)) => key.curve == EllipticCurve::P384,
            (Self::EdDsa, AlgorithmParameters::OctetKeyPair(key)) => key.curve == EllipticCurve::Ed25519,
            _ => false,
        }
    }
}

async fn download(address: &str) -> Result<Vec<u8>, JwksSourceError> {
    let url = checked(address)?;
    let failed = |error: reqwest::Error| JwksSourceError::Fetch {
        place: address.to_owned(),
        reason: error.without_url().to_string(),
    };
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(FETCH_TIMEOUT);
    let client = client.build().map_err(failed)?;
    let response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut pieces = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(failed)?);
        if bytes.len() > MAX_SET_BYTES {
            return Err(JwksSourceError::Form(address.to_owned()));
        }
    }
    Ok(bytes)
}

fn checked(address: &str) -> Result<Url, JwksSourceError> {
    let wrong = || JwksSourceError::Address(address.to_owned());
    let url = Url::parse(address).map_err(|_| wrong())?;
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let right = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    if right && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine() {
        for right in ["https://login.example/keys", "http://127.0.0.1:8080/keys", "http://[::1]/keys"] {
            assert!(checked(right).is_ok(), "{right}");
        }
        for wrong in ["http://login.example/keys", "file:///etc/passwd", "https://user:secret@login.example/", "keys"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }
}
