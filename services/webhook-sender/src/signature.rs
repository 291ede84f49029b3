//! Signatures as Standard Webhooks has them: HMAC-SHA-256 over `id.timestamp.body`, in base64 after `v1,`; one for each secret.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use wherry_model::SecretText;

const PREFIX: &str = "whsec_";

/// Why a message was not signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a secret is not whsec_ and base64: give the webhook another one")]
pub struct SignatureError;

/// The value of `webhook-signature`: empty without secrets.
pub fn sign(secrets: &[SecretText], id: &str, seconds: i64, body: &[u8]) -> Result<String, SignatureError> {
    let signatures = secrets.iter().map(|secret| {
        let encoded = secret.expose().strip_prefix(PREFIX).ok_or(SignatureError)?;
        let key = STANDARD.decode(encoded).map_err(|_| SignatureError)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| SignatureError)?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    Ok(signatures.collect::<Result<Vec<_>, _>>()?.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signs_as_the_specification_does() {
        let secret = SecretText::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let body = br#"{"test": 2432232314}"#;
        let signed = sign(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = SecretText::new(format!("whsec_{}", STANDARD.encode([7_u8; 32])));
        let both = sign(&[secret, other], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert!(both.starts_with(&format!("{signed} v1,")), "{both}");
        assert_eq!(sign(&[SecretText::new("x".to_owned())], "a", 1, b""), Err(SignatureError));
    }
}
