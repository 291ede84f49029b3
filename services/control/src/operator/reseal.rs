//! After another sealing key: every secret that is stored is sealed with it, a batch at a time, so that the key before can be taken away.
//!
//! Each batch says where the next begins, so whoever asks can stop and go on, at any replica; what is sealed with the newest key is left
//! as it is, so a second pass changes nothing and proves that all is done. Deleted instances are passed over: nobody uses their
//! secrets again. A secret that does not open here stays as it is and is counted.
//!
//! Rejected: a reconciler that does it by itself (replicas get a new key one after the other; only the operator knows when all have it).

use uuid::Uuid;
use wherry_model::{InstanceId, Principal, Scope, Sealed, SpecError, WebhookId, lifecycle};
use wherry_sealing::{OpenError, Place};
use wherry_store::{FormerSecret, WebhookRecord};

use crate::secrets::place_of;
use crate::webhooks::place_of as place_of_webhook;
use crate::{Control, Error};

/// Instances, or webhooks, that are looked at for one answer.
const BATCH: u32 = 100;
/// Tries to write what somebody else changes at the same time.
const MAX_ATTEMPTS: u32 = 8;

/// One batch of secrets that were sealed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// The id of the key that seals.
    pub key: String,
    /// Instances and webhooks that were looked at.
    pub examined: u32,
    /// Those of which secrets were sealed with that key.
    pub resealed: u32,
    /// Secrets that cannot be opened here, and stay as they are.
    pub unopened: u32,
    /// Where to go on; none when all were looked at.
    pub next: Option<String>,
}

/// How far the way through everything is: instances first, then webhooks, each in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Instances(Option<InstanceId>),
    Webhooks(Option<WebhookId>),
}

impl Way {
    const BEGINNING: Self = Self::Instances(None);

    /// A letter and the id in 32 hexadecimal digits; the id of none is all zeros.
    fn parse(text: &str) -> Result<Self, SpecError> {
        let wrong = || SpecError::new("after", "it is not one that this service gave out: begin again without it");
        let (kind, id) = text.split_at_checked(1).ok_or_else(wrong)?;
        let id = Uuid::try_parse(id).map_err(|_| wrong())?;
        match kind {
            "i" => Ok(Self::Instances(Some(InstanceId::from_uuid(id)))),
            "w" => Ok(Self::Webhooks(Some(WebhookId::from_uuid(id)))),
            _ => Err(wrong()),
        }
    }

    fn text(self) -> String {
        let (kind, id) = match self {
            Self::Instances(after) => ('i', after.map(|id| id.as_uuid())),
            Self::Webhooks(after) => ('w', after.map(|id| id.as_uuid())),
        };
        format!("{kind}{}", id.unwrap_or_default().simple())
    }
}

impl Control {
    /// Seals the secrets of the next instances or webhooks with the newest key, after `after` of the batch before.
    pub async fn reseal_secrets(&self, principal: &Principal, after: Option<&str>) -> Result<Resealed, Error> {
        Self::require(principal, Scope::Admin)?;
        let way = after.map_or(Ok(Way::BEGINNING), Way::parse)?;
        let key = self.keyring().keys().last().map(|key| key.id().to_owned());
        let key = key.ok_or_else(|| Error::conflict("no_sealing_key", "this installation has no key that seals"))?;
        if after.is_none() {
            self.record_ask(principal, None, format!("seal all secrets with the key {key}"));
        }
        let mut done = Resealed { key, examined: 0, resealed: 0, unopened: 0, next: None };
        let next = match way {
            Way::Instances(after) => self.reseal_instances(after, &mut done).await?,
            Way::Webhooks(after) => self.reseal_webhooks(after, &mut done).await?,
        };
        done.next = next.map(Way::text);
        tracing::info!(key = done.key, resealed = done.resealed, unopened = done.unopened, "secrets were sealed again");
        if done.next.is_none() {
            self.record_ask(principal, None, format!("seal all secrets with the key {}: all were looked at", done.key));
        }
        Ok(done)
    }

    async fn reseal_instances(&self, after: Option<InstanceId>, done: &mut Resealed) -> Result<Option<Way>, Error> {
        let page = self.store().every_instance(after, BATCH).await?;
        let last = page.last().map(|last| last.id);
        for instance in page {
            done.examined += 1;
            let id = instance.id;
            let mut unopened = 0;
            let mut wrote = false;
            let after = self.change_instance(instance, |instance| {
                unopened = 0;
                let change = lifecycle::reseal(
                    instance,
                    |sealed| self.resealed(id, &place_of(instance), sealed, &mut unopened),
                    self.now(),
                );
                wrote = change.is_some();
                Ok(change)
            });
            match after.await {
                Ok(_) => done.resealed += u32::from(wrote),
                // It was forgotten meanwhile.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            done.unopened += unopened;
        }
        Ok(Some(last.map_or(Way::Webhooks(None), |last| Way::Instances(Some(last)))))
    }

    async fn reseal_webhooks(&self, after: Option<WebhookId>, done: &mut Resealed) -> Result<Option<Way>, Error> {
        let page = self.store().every_webhook(after, BATCH).await?;
        let last = page.last().map(|last| last.id);
        for webhook in page {
            done.examined += 1;
            self.reseal_webhook(webhook, done).await?;
        }
        Ok(last.map(|last| Way::Webhooks(Some(last))))
    }

    async fn reseal_webhook(&self, mut webhook: WebhookRecord, done: &mut Resealed) -> Result<(), Error> {
        for _ in 0..MAX_ATTEMPTS {
            let (id, place) = (webhook.id, place_of_webhook(&webhook));
            let mut unopened = 0;
            let secret = self.resealed(id, &place, &webhook.secret, &mut unopened);
            // One that signs no more may go with its key.
            let former = webhook.former_secret.as_ref().filter(|former| former.until > self.now());
            let of_former = former.and_then(|former| {
                let secret = self.resealed(id, &place, &former.secret, &mut unopened)?;
                Some(FormerSecret { secret, until: former.until })
            });
            if secret.is_none() && of_former.is_none() {
                done.unopened += unopened;
                return Ok(());
            }
            let after = WebhookRecord {
                secret: secret.unwrap_or_else(|| webhook.secret.clone()),
                former_secret: of_former.or_else(|| webhook.former_secret.clone()),
                revision: webhook.revision + 1,
                ..webhook.clone()
            };
            if self.store().change_webhook(&after, false).await? {
                done.resealed += 1;
                done.unopened += unopened;
                return Ok(());
            }
            let now = self.store().webhook(webhook.tenant, webhook.project, &webhook.name).await?;
            match now.filter(|now| now.id == id) {
                Some(now) => webhook = now,
                // It was deleted meanwhile.
                None => return Ok(()),
            }
        }
        Err(Error::unavailable("a webhook is being changed by others"))
    }

    /// The secret under the newest key, if it is under another that is here.
    fn resealed(
        &self,
        of: impl std::fmt::Display,
        place: &Place,
        sealed: &Sealed,
        unopened: &mut u32,
    ) -> Option<Sealed> {
        match self.keyring().reseal(place, sealed) {
            Ok(resealed) => resealed,
            Err(error @ (OpenError::NoKey(_) | OpenError::NotOurs)) => {
                tracing::error!(%of, %error, "a secret cannot be opened by this replica, and stays as it is sealed");
                *unopened += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_way_is_read_as_it_was_written() {
        let id = Uuid::from_u128(7);
        for way in [Way::Instances(Some(InstanceId::from_uuid(id))), Way::Webhooks(Some(WebhookId::from_uuid(id)))] {
            assert_eq!(Way::parse(&way.text()).unwrap(), way);
        }
        assert_eq!(Way::Webhooks(None).text(), format!("w{}", "0".repeat(32)));
        for forged in ["", "i", "x00000000000000000000000000000007", "i!", "é"] {
            assert_eq!(Way::parse(forged).unwrap_err().field, "after", "{forged}");
        }
    }
}
