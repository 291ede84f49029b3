//! A token becomes an identity.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt, Full};
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};
use wherry_agent_api::ControlError;
use wherry_model::{Clock, Entropy};

use super::files::{Folder, Record};
use super::{Identity, IdentityError};
use crate::authority::Fingerprint;
use crate::client::{DialError, Endpoint, LinkSettings, NodeCredential, dial, read, request, uniform};
use crate::tls;
use crate::wire::{EnrolAnswer, EnrolRequest, path};

/// How long a control plane that cannot be reached, or cannot answer now, is asked again.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest wait in between.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How the operator says what to join: what `wherry admin node token` prints.
#[derive(Clone)]
pub struct JoinOrder {
    /// The agents' port of some replica, `https://host:port`.
    pub endpoint: String,
    /// The one-time token, `wjt_<id>_<secret>`.
    pub token: String,
    /// Whom to trust.
    pub ca_fingerprint: Fingerprint,
    /// What operators will call the node; unique in the fleet.
    pub name: String,
}

impl fmt::Debug for JoinOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinOrder")
            .field("endpoint", &self.endpoint)
            .field("ca_fingerprint", &self.ca_fingerprint)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes the machine a node and keeps its identity in `folder`.
    ///
    /// May be killed at any point and called again with the same order: it is the same node then. A machine that is a node
    /// already is not made another one, unless its certificate has expired: with the token that it joined with it is then the
    /// same node, with a new token a new one: what runs on the machine must have been ended before
    /// ([`Self::would_become_another`]). A control plane that cannot be reached is tried for a minute.
    pub async fn join(
        folder: &Path,
        order: JoinOrder,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, IdentityError> {
        let folder = Folder::new(folder);
        let endpoint: Endpoint = order.endpoint.parse()?;
        let token = fingerprint_of(&order.token);
        if let Some(record) = folder.read()? {
            let same_token = record.token == token;
            let present = Self::new(folder.clone(), record)?;
            if present.check(clock.now()).is_ok() {
                let (node, folder) = (present.node(), folder.path().to_owned());
                return if same_token { Ok(present) } else { Err(IdentityError::Joined { node, folder }) };
            }
        }
        folder.prepare()?;
        let key = folder.join_key(&*entropy)?;
        let asked = EnrolRequest { token: order.token, csr: signing_request(&key)?, name: order.name.clone() };
        let answer = enrol(&endpoint, order.ca_fingerprint, &asked, clock, &*entropy).await?;
        let EnrolAnswer { enrolled, issued } = answer;
        let record = Record {
            enrolled,
            name: order.name,
            token,
            endpoint: endpoint.to_string(),
            certificate: issued.certificate,
            key: key.serialize_pem(),
            ca: issued.ca,
        };
        let credential = NodeCredential::from_pem(&record.certificate, &record.key, &record.ca)
            .map_err(|_| IdentityError::Answer("it holds no certificate for our key"))?;
        if credential.node() != record.enrolled.node {
            return Err(IdentityError::Answer("the certificate names another node"));
        }
        if credential.authority() != order.ca_fingerprint {
            let (present, trusted) = (credential.authority(), order.ca_fingerprint);
            return Err(IdentityError::Authority { present, trusted });
        }
        folder.write(&record, &*entropy)?;
        tracing::info!(node = %record.enrolled.node, name = record.name, "this machine is a node of the fleet now");
        Self::new(folder, record)
    }
}

/// A request for a certificate that says nothing but whose key it is.
pub(super) fn signing_request(key: &KeyPair) -> Result<String, rcgen::Error> {
    CertificateParams::default().serialize_request(key)?.pem()
}

/// Asks until there is an answer that will not change by asking again.
async fn enrol(
    endpoint: &Endpoint,
    fingerprint: Fingerprint,
    asked: &EnrolRequest,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<EnrolAnswer, IdentityError> {
    let tls = tls::joining_config(fingerprint, clock)?;
    let settings = LinkSettings::default();
    let body = serde_json::to_vec(asked).map_err(|_| IdentityError::Answer("the request cannot be written"))?;
    let deadline = Instant::now() + PATIENCE;
    let mut wait = settings.first_wait;
    loop {
        let attempt = async {
            let live = dial(endpoint, Arc::clone(&tls), &settings).await?;
            let body = Full::from(body.clone()).map_err(|never| match never {}).boxed_unsync();
            let answer = live.exchange(request(Method::POST, path::ENROL, settings.protocol, body)).await;
            live.cut_off();
            read::<EnrolAnswer>(&answer?).map_err(IdentityError::Refused)
        };
        let error = match timeout_at(deadline, attempt).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => IdentityError::Dial(DialError::Late { endpoint: endpoint.to_string() }),
        };
        let passes = match &error {
            IdentityError::Dial(DialError::Trust { .. }) => false,
            IdentityError::Dial(_) | IdentityError::Refused(ControlError::Unavailable(_)) => true,
            _ => false,
        };
        let pause = wait / 2 + uniform(wait / 2, entropy);
        if !passes || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "joining is tried again");
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// What is kept of a token: its SHA-256 in hexadecimal digits.
pub(super) fn fingerprint_of(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
