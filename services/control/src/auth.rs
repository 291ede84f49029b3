//! Recognising API keys.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use wherry_model::{ApiKeyId, Principal, Subject, TenantName};
use wherry_store::TenantRecord;

use crate::{Control, Error, lock};

/// How long the answer to "does this key still work" is believed: the delay of a revocation.
const KEY_STATE_TTL: Duration = Duration::from_secs(3);

/// Keys whose state is remembered.
const MAX_CACHED_KEYS: usize = 10_000;

#[derive(Default)]
pub(crate) struct KeyCache {
    known: BTreeMap<ApiKeyId, (Instant, bool)>,
    /// Counts what was forgotten: an answer that was read before that is not remembered after it.
    forgotten: u64,
}

/// What is stored of a secret. It has 256 random bits, so a slow hash would only slow us down.
pub(crate) fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Control {
    /// The principal that the key and its secret stand for.
    pub async fn authenticate_key(&self, id: ApiKeyId, secret: &str) -> Result<Principal, Error> {
        let record = self.store().key(id).await?.ok_or(Error::Unauthenticated)?;
        let same: bool = record.secret_hash.ct_eq(&hash_secret(secret)).into();
        let now = self.now();
        if !same || record.revoked_at.is_some() || record.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::Unauthenticated);
        }
        Ok(Principal { tenant: record.tenant, subject: Subject::Key(id), scopes: record.scopes })
    }

    /// Whether tokens of this key are still good. Believed for a few seconds, so a revocation takes that long to bite.
    pub async fn key_works(&self, id: ApiKeyId) -> Result<bool, Error> {
        let forgotten = {
            let cache = lock(&self.inner.keys);
            if let Some((_, works)) = cache.known.get(&id).filter(|(at, _)| at.elapsed() < KEY_STATE_TTL) {
                return Ok(*works);
            }
            cache.forgotten
        };
        let asked = Instant::now();
        let now = self.now();
        let works = self
            .store()
            .key(id)
            .await?
            .is_some_and(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now));
        let mut cache = lock(&self.inner.keys);
        if cache.forgotten != forgotten {
            return Ok(works);
        }
        if cache.known.len() >= MAX_CACHED_KEYS {
            cache.known.clear();
        }
        cache.known.insert(id, (asked, works));
        Ok(works)
    }

    /// Forgets what is believed of a key, after it was revoked here.
    pub(crate) fn forget_key(&self, id: ApiKeyId) {
        let mut cache = lock(&self.inner.keys);
        cache.known.remove(&id);
        cache.forgotten += 1;
    }

    /// The tenant that a trusted outside issuer names.
    pub async fn tenant_by_name(&self, name: &TenantName) -> Result<Option<TenantRecord>, Error> {
        Ok(self.store().tenant_by_name(name).await?)
    }
}
