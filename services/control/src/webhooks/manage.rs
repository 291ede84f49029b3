//! Webhooks, as their tenant manages them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wherry_model::{
    EventKind, InstanceName, Limits, Principal, ProjectName, Scope, Sealed, SpecError, WebhookId, WebhookName,
};
use wherry_store::{Disabled, DisabledReason, FormerSecret, NameOutcome, WebhookRecord};
use zeroize::Zeroizing;

use super::place_of;
use crate::{Control, Error};

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Begins a secret (Standard Webhooks).
const SECRET_PREFIX: &str = "whsec_";

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// Lost races that a change survives before it is given up.
const MAX_ATTEMPTS: u32 = 16;

/// What a webhook is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Where events are told.
    pub url: String,
    /// Only of these kinds; all when empty.
    pub kinds: Vec<EventKind>,
    /// Only of the instance of this name.
    pub instance: Option<InstanceName>,
    /// Only of instances with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Whether anything is sent.
    pub enabled: bool,
}

/// A webhook with its secret: the only time that it is known.
#[derive(Clone)]
pub struct NewWebhook {
    /// What is stored.
    pub record: WebhookRecord,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewWebhook").field("id", &self.record.id).finish_non_exhaustive()
    }
}

impl Control {
    /// Makes a webhook that tells what happens from now on. Who gives it can read those events too.
    pub async fn create_webhook(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: WebhookName,
        request: WebhookRequest,
    ) -> Result<NewWebhook, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        Self::require(principal, Scope::InstancesRead)?;
        let project = self.project_of(principal, project).await?;
        self.check_webhook(&request)?;
        let most = self.inner.config.webhooks.most_per_project;
        let there = self.store().webhooks(principal.tenant, project.id, most.saturating_add(1)).await?;
        if there.iter().any(|known| known.name == name) {
            return Err(Error::NameTaken(name.to_string()));
        }
        if u32::try_from(there.len()).unwrap_or(u32::MAX) >= most {
            let message = format!("there are {most} webhooks in this project already, which is the most: delete one");
            return Err(SpecError::new("name", message).into());
        }
        let now = self.now();
        let bare = WebhookRecord {
            id: WebhookId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            tenant: principal.tenant,
            project: project.id,
            project_name: project.name,
            name,
            url: String::new(),
            kinds: Vec::new(),
            instance: None,
            labels: BTreeMap::new(),
            secret: Sealed::kept(),
            former_secret: None,
            disabled: None,
            failing_since: None,
            created_at: now,
            revision: 1,
        };
        let (secret, sealed) = self.webhook_secret(&bare)?;
        let disabled = (!request.enabled).then_some(Disabled { at: now, reason: DisabledReason::Asked });
        let record = WebhookRecord { secret: sealed, disabled, ..edited(&bare, request) };
        match self.store().create_webhook(&record).await? {
            NameOutcome::Created => Ok(NewWebhook { record, secret }),
            NameOutcome::NameTaken => Err(Error::NameTaken(record.name.to_string())),
        }
    }

    /// The project's webhooks, by name.
    pub async fn webhooks(&self, principal: &Principal, project: &ProjectName) -> Result<Vec<WebhookRecord>, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let project = self.project_of(principal, project).await?;
        let most = self.inner.config.webhooks.most_per_project.max(1_000);
        Ok(self.store().webhooks(principal.tenant, project.id, most).await?)
    }

    /// One webhook.
    pub async fn get_webhook(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
    ) -> Result<WebhookRecord, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        self.webhook_of(principal, project, name).await
    }

    /// Makes of the webhook what `edit` says. Enabled again, it tells what happens from then on; what was open before goes on.
    pub async fn update_webhook<E, F>(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
        mut edit: F,
    ) -> Result<WebhookRecord, E>
    where
        E: From<Error> + Send,
        F: FnMut(&WebhookRecord) -> Result<WebhookRequest, E> + Send,
    {
        Self::require(principal, Scope::InstancesWrite)?;
        Self::require(principal, Scope::InstancesRead)?;
        for _ in 0..MAX_ATTEMPTS {
            let before = self.webhook_of(principal, project, name).await?;
            let request = edit(&before)?;
            self.check_webhook(&request).map_err(Error::from)?;
            let enabled = request.enabled;
            let mut after = edited(&before, request);
            after.disabled = match (enabled, before.disabled.clone()) {
                (true, _) => None,
                (false, Some(disabled)) => Some(disabled),
                (false, None) => Some(Disabled { at: self.now(), reason: DisabledReason::Asked }),
            };
            if after == before {
                return Ok(before);
            }
            let anew = enabled && before.disabled.is_some();
            if anew || after.url != before.url {
                after.failing_since = None;
            }
            after.revision += 1;
            if self.store().change_webhook(&after, anew).await.map_err(Error::from)? {
                return Ok(after);
            }
        }
        Err(Error::unavailable("the webhook is being changed by others").into())
    }

    /// Gives the webhook another secret. For a while deliveries are signed with the one before too.
    pub async fn rotate_webhook_secret(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
    ) -> Result<NewWebhook, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        for _ in 0..MAX_ATTEMPTS {
            let before = self.webhook_of(principal, project, name).await?;
            let (secret, sealed) = self.webhook_secret(&before)?;
            let until = self.now().plus(self.inner.config.webhooks.former_secret);
            let record = WebhookRecord {
                secret: sealed,
                former_secret: Some(FormerSecret { secret: before.secret.clone(), until }),
                revision: before.revision + 1,
                ..before
            };
            if self.store().change_webhook(&record, false).await? {
                return Ok(NewWebhook { record, secret });
            }
        }
        Err(Error::unavailable("the webhook is being changed by others"))
    }

    /// Deletes a webhook with its log.
    pub async fn delete_webhook(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
    ) -> Result<(), Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let webhook = self.webhook_of(principal, project, name).await?;
        self.store().delete_webhook(principal.tenant, webhook.id).await?;
        Ok(())
    }

    pub(super) async fn webhook_of(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
    ) -> Result<WebhookRecord, Error> {
        let project = self.project_of(principal, project).await?;
        let found = self.store().webhook(principal.tenant, project.id, name).await?;
        found.ok_or_else(|| Error::NotFound(format!("the webhook {name}")))
    }

    fn check_webhook(&self, request: &WebhookRequest) -> Result<(), SpecError> {
        if request.url.len() > MAX_URL_BYTES {
            return Err(SpecError::new("url", format!("it has more than {MAX_URL_BYTES} bytes")));
        }
        if let Some(sender) = self.webhook_sender() {
            sender.check_url(&request.url).map_err(|message| SpecError::new("url", message))?;
        }
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        let fits = |text: &str| text.len() <= Limits::MAX_LABEL_BYTES;
        let is_label = |(key, value): (&String, &String)| {
            !key.is_empty()
                && fits(key)
                && key.bytes().all(is_key)
                && fits(value)
                && !value.chars().any(char::is_control)
        };
        if request.labels.len() > Limits::MAX_LABELS || !request.labels.iter().all(is_label) {
            return Err(SpecError::new("labels", "give at most 64 labels as instances have them"));
        }
        Ok(())
    }

    fn webhook_secret(&self, webhook: &WebhookRecord) -> Result<(String, Sealed), Error> {
        let mut random = Zeroizing::new([0_u8; SECRET_BYTES]);
        self.inner.entropy.fill(random.as_mut_slice());
        let secret = format!("{SECRET_PREFIX}{}", STANDARD.encode(random.as_slice()));
        let sealed = self.keyring().seal(&place_of(webhook), &secret).map_err(|_| {
            Error::conflict(
                "no_sealing_key",
                "this service was not given a key to seal secrets with: tell its operator",
            )
        })?;
        Ok((secret, sealed))
    }
}

fn edited(before: &WebhookRecord, request: WebhookRequest) -> WebhookRecord {
    let WebhookRequest { url, kinds, instance, labels, enabled: _ } = request;
    let mut kinds: Vec<String> = kinds.into_iter().map(|kind| kind.as_str().to_owned()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    WebhookRecord { url, kinds, instance, labels, ..before.clone() }
}
