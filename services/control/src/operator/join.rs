//! Join tokens: what a machine shows once to become a node.

use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wherry_model::{Principal, Scope, SpecError, TokenId};
use wherry_store::JoinTokenRecord;

use crate::agents::{is_right, overlap};
use crate::auth::hash_secret;
use crate::{Control, Error};

/// How long a token works unless something else is asked for.
const DEFAULT_TTL: Duration = Duration::from_hours(1);

/// The shortest and the longest life.
const MIN_TTL: Duration = Duration::from_mins(1);
const MAX_TTL: Duration = Duration::from_hours(7 * 24);

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A join token to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinTokenRequest {
    /// How long it works; an hour when absent.
    pub ttl: Option<Duration>,
    /// First address and prefix length of the machine's range; the next free one when absent.
    pub range: Option<(Ipv4Addr, u8)>,
}

/// A join token that was made. This is the only time that it is shown.
#[derive(Clone)]
pub struct NewJoinToken {
    /// What is stored of it.
    pub record: JoinTokenRecord,
    /// `wjt_<id>_<secret>`
    pub token: String,
}

impl std::fmt::Debug for NewJoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewJoinToken").field("id", &self.record.id).finish_non_exhaustive()
    }
}

impl Control {
    /// Makes a token with which one machine can join.
    pub async fn create_join_token(
        &self,
        principal: &Principal,
        request: JoinTokenRequest,
    ) -> Result<NewJoinToken, Error> {
        Self::require(principal, Scope::Admin)?;
        let ttl = request.ttl.unwrap_or(DEFAULT_TTL);
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(SpecError::new("ttl_seconds", "a join token works for 60 seconds to 7 days").into());
        }
        if let Some(range) = request.range {
            self.check_range(range).await?;
        }
        let mut random = [0_u8; SECRET_BYTES];
        self.inner.entropy.fill(&mut random);
        let secret = URL_SAFE_NO_PAD.encode(random);
        let id = TokenId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref());
        let token = format!("wjt_{id}_{secret}");
        let now = self.now();
        let record = JoinTokenRecord {
            id,
            secret_hash: hash_secret(&secret),
            range: request.range,
            created_at: now,
            expires_at: now.plus(ttl),
            used_by: None,
            public_key: None,
        };
        self.store().create_join_token(&record).await?;
        self.record_ask(principal, None, format!("join token {id}"));
        Ok(NewJoinToken { record, token })
    }

    /// Says early what the enrolment would refuse later.
    async fn check_range(&self, range: (Ipv4Addr, u8)) -> Result<(), Error> {
        if !is_right(range) {
            let message = "give the first address of a range and a prefix length of 8 to 30, for example 10.128.7.0/24";
            return Err(SpecError::new("address_range", message).into());
        }
        let enrolments = self.store().enrolments().await?;
        if let Some(other) = enrolments.iter().find(|other| overlap(other.range, range)) {
            let message = format!("it overlaps the range of the node {}: give another one", other.name);
            return Err(SpecError::new("address_range", message).into());
        }
        Ok(())
    }
}
