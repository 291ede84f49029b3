//! Tokens of ours whose signature was found right a moment ago: a caller shows the same one with each request, and a signature costs
//! more than most of what the request asks for.
//!
//! Kept is a hash of the token, what it grants and until when; no token. Whether the key behind it still works is asked each time
//! all the same. A clock that was set back makes all of it void.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wherry_model::Timestamp;

use super::Grant;

/// Tokens that are remembered.
const MOST: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(super) struct Verified(Mutex<HashMap<[u8; 32], Known>>);

struct Known {
    grant: Grant,
    verified_at: Timestamp,
    /// The second in which it expires.
    expires_at: i64,
}

/// Names a token.
pub(super) fn name_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Verified {
    /// What the token grants, if that is known and still so.
    pub(super) fn find(&self, name: &[u8; 32], now: Timestamp) -> Option<Grant> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(name)?;
        let lives = now.grid_second() < known.expires_at && now >= known.verified_at;
        lives.then(|| known.grant.clone())
    }

    /// The token was verified now and expires in that second.
    pub(super) fn remember(&self, name: [u8; 32], grant: &Grant, now: Timestamp, expires_at: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, one| one.expires_at > now.grid_second());
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name, Known { grant: grant.clone(), verified_at: now, expires_at });
    }
}

#[cfg(test)]
mod tests {
    use wherry_model::{ApiKeyId, ScopeSet, TenantId};

    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_and_not_before_it_was_verified() {
        let (verified, at) = (Verified::default(), Timestamp::from_seconds);
        let nil = uuid::Uuid::nil();
        let grant =
            Grant { tenant: TenantId::from_uuid(nil), key: ApiKeyId::from_uuid(nil), scopes: ScopeSet::default() };
        let name = name_of("a.b.c");
        assert_eq!(verified.find(&name, at(100)), None);
        verified.remember(name, &grant, at(100), 200);
        assert_eq!(verified.find(&name, at(100)), Some(grant.clone()));
        assert_eq!(verified.find(&name, at(199)), Some(grant.clone()));
        assert_eq!([at(99), at(200)].map(|now| verified.find(&name, now)), [None, None]);
        assert_eq!(verified.find(&name_of("a.b.d"), at(150)), None);
        for number in 0..MOST {
            verified.remember(name_of(&number.to_string()), &grant, at(100), 200);
        }
        assert!(verified.0.lock().unwrap().len() <= MOST, "it is bounded");
    }
}
