//! Access tokens: got with the key (RFC 6749 section 4.4), kept until shortly before they end.

use std::time::{Duration, Instant};

use wherry_api_types::{Problem, TokenError, TokenErrorCode, TokenResponse};

use crate::error::ClientError;
use crate::transport::Client;

/// A token is renewed when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// A key.
#[derive(Clone)]
pub struct Credentials {
    /// Its public part, the OAuth `client_id`.
    pub key_id: String,
    /// Its secret part.
    pub key_secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

pub(crate) struct Token {
    text: String,
    renew_at: Instant,
}

impl Client {
    /// A token that is good for at least a little longer. One caller at a time asks for a new one.
    pub(crate) async fn token(&self) -> Result<String, ClientError> {
        let mut kept = self.inner.token.lock().await;
        if let Some(token) = kept.as_ref()
            && Instant::now() < token.renew_at
        {
            return Ok(token.text.clone());
        }
        let credentials = &self.inner.credentials;
        let request = self
            .inner
            .http
            .post(self.url("/oauth2/token"))
            .basic_auth(&credentials.key_id, Some(&credentials.key_secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let answer = self.send_once(request).await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|source| self.away(source))?;
        if status != 200 {
            return Err(match serde_json::from_slice::<TokenError>(&body) {
                // The key may be good: nobody could look.
                Ok(refusal) if refusal.error == TokenErrorCode::TemporarilyUnavailable => {
                    ClientError::Problem(Box::new(Problem {
                        kind: "about:blank".to_owned(),
                        title: "Service Unavailable".to_owned(),
                        status,
                        code: "unavailable".to_owned(),
                        detail: refusal.error_description,
                        field: None,
                        request_id: None,
                    }))
                }
                Ok(refusal) => ClientError::Token(refusal.error_description),
                Err(_) => self.understand_failure(status, &body),
            });
        }
        let granted: TokenResponse =
            serde_json::from_slice(&body).map_err(|_| self.understand_failure(status, &body))?;
        let lifetime = Duration::from_secs(granted.expires_in);
        let text = granted.access_token;
        *kept = Some(Token { text: text.clone(), renew_at: Instant::now() + lifetime.saturating_sub(RENEW_BEFORE) });
        Ok(text)
    }

    /// Forgets the token, after the service refused it.
    pub(crate) async fn drop_token(&self) {
        *self.inner.token.lock().await = None;
    }
}
