//! Renewal: after two thirds of its life, with another key, on the disk before it is shown.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio_util::sync::CancellationToken;
use wherry_agent_api::ControlError;
use wherry_model::{Clock, Entropy, Timestamp};

use super::files::Record;
use super::join::signing_request;
use super::{Identity, IdentityError, Present};
use crate::client::{LinkClient, NodeCredential, uniform};

/// The certificate is looked at so often: wall clocks jump, and machines sleep.
const LOOK: Duration = Duration::from_secs(1);
/// Machines that joined together renew spread over this part of the certificate's life.
const SPREAD_PART: u32 = 24;
/// The first wait after a renewal that failed, as a part of the life. Waits double.
const FIRST_WAIT_PART: u32 = 8_000;
/// The longest wait, likewise: many tries are left in the last third.
const LONGEST_WAIT_PART: u32 = 144;
/// The longest wait in any case: a control plane that comes back just before the certificate expires is in time.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How often it is said that the node is cut off.
const COMPLAINTS: Duration = Duration::from_mins(10);

impl Identity {
    /// Renews the certificate for as long as it is not stopped, and exchanges it in `link` without breaking what is open
    /// there. Failures are tried again with growing waits; a certificate that expired, or a node that was removed, is
    /// complained about and tried on, because clocks can be wrong.
    pub async fn keep_renewed(
        self: Arc<Self>,
        link: Arc<LinkClient>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        stop: CancellationToken,
    ) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.renew_for_ever(&link, &*clock, &entropy) => {}
        }
    }

    async fn renew_for_ever(&self, link: &LinkClient, clock: &dyn Clock, entropy: &Arc<dyn Entropy>) {
        if let Err(error) = self.folder.clear_unfinished() {
            tracing::warn!(error = &error as &dyn std::error::Error, "the node's identity may not be renewable");
        }
        loop {
            let credential = self.credential();
            let life = credential.life();
            let due = credential.renew_at().plus(uniform(life / SPREAD_PART, &**entropy));
            wait_until(due, clock).await;
            let mut wait = life / FIRST_WAIT_PART;
            let mut complained: Option<Timestamp> = None;
            while let Err(error) = self.renew(link, entropy).await {
                let now = clock.now();
                let is_cut_off = self.check(now).is_err() || is_removed(&error);
                if is_cut_off && complained.is_none_or(|at| now.since(at) >= COMPLAINTS) {
                    complained = Some(now);
                    let error = self.check(now).err().unwrap_or(error);
                    tracing::error!(error = &error as &dyn std::error::Error, "this node is cut off from its fleet");
                } else if !is_cut_off {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        expires_at = %self.expires_at(),
                        "the certificate cannot be renewed now; it is tried again"
                    );
                }
                tokio::time::sleep(wait / 2 + uniform(wait / 2, &**entropy)).await;
                wait = (wait * 2).min(life / LONGEST_WAIT_PART).min(LONGEST_WAIT);
            }
        }
    }

    /// One attempt. When the answer is lost nothing has changed: the next attempt asks for a certificate for another key.
    async fn renew(&self, link: &LinkClient, entropy: &Arc<dyn Entropy>) -> Result<(), IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issued = link.renew(signing_request(&key)?).await.map_err(IdentityError::Refused)?;
        let credential = NodeCredential::from_pem(&issued.certificate, &key.serialize_pem(), &issued.ca)
            .map_err(|_| IdentityError::Answer("it holds no certificate for our key"))?;
        if credential.node() != self.node() {
            return Err(IdentityError::Answer("the certificate names another node"));
        }
        let former = self.present.lock().unwrap_or_else(PoisonError::into_inner).record.clone();
        let trusted = self.credential().authority();
        if credential.authority() != trusted {
            return Err(IdentityError::Authority { present: credential.authority(), trusted });
        }
        let record = Record { certificate: issued.certificate, key: key.serialize_pem(), ca: issued.ca, ..former };
        let (folder, randomness, to_write) = (self.folder.clone(), Arc::clone(entropy), record.clone());
        let written = tokio::task::spawn_blocking(move || folder.write(&to_write, &*randomness)).await;
        written.unwrap_or(Err(IdentityError::Answer("it could not be written")))?;
        link.exchange_credential(&credential);
        let expires_at = credential.expires_at();
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Present { record, credential };
        self.expires_at.send_replace(expires_at);
        tracing::info!(node = %self.node(), %expires_at, "the node's certificate was renewed");
        Ok(())
    }
}

const fn is_removed(error: &IdentityError) -> bool {
    matches!(error, IdentityError::Refused(ControlError::Removed | ControlError::Forbidden(_)))
}

async fn wait_until(due: Timestamp, clock: &dyn Clock) {
    loop {
        let left = due.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
