//! `[webhooks]`: whom tenants may have told of events, and for how long it is tried.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use wherry_control::WebhookSettings;
use wherry_webhook_sender::Range;

/// `[webhooks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhooks {
    /// Whether receivers may be called without TLS.
    pub(crate) allow_http: bool,
    /// Ranges that receivers may be in beside the public internet.
    pub(crate) allow: Vec<String>,
    /// How long a receiver may take for its answer.
    pub(crate) timeout_seconds: u64,
    /// The longest pause before the second try; doubles with each up to an hour.
    pub(crate) first_retry_seconds: u64,
    /// The age at which a delivery is given up.
    pub(crate) give_up_hours: u64,
    /// How long a receiver may take nothing until its webhook is disabled.
    pub(crate) disable_hours: u64,
    /// How long the secret before signs too after a rotation.
    pub(crate) former_secret_hours: u64,
    /// How long deliveries that were taken or given up are kept.
    pub(crate) keep_days: u64,
    /// Webhooks of one project.
    pub(crate) per_project: u32,
    /// Tries of one tenant under way at once.
    pub(crate) concurrency_per_tenant: u32,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow: Vec::new(),
            timeout_seconds: 15,
            first_retry_seconds: 5,
            give_up_hours: 24,
            disable_hours: 72,
            former_secret_hours: 24,
            keep_days: 7,
            per_project: 20,
            concurrency_per_tenant: 8,
        }
    }
}

impl Webhooks {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.allowed()?;
        anyhow::ensure!((1..=60).contains(&self.timeout_seconds), "timeout_seconds: from 1 to 60");
        anyhow::ensure!((1..=3_600).contains(&self.first_retry_seconds), "first_retry_seconds: from 1 to 3600");
        anyhow::ensure!((1..=7 * 24).contains(&self.give_up_hours), "give_up_hours: from 1 to 168");
        anyhow::ensure!((1..=90 * 24).contains(&self.disable_hours), "disable_hours: from 1 to 2160");
        anyhow::ensure!(self.former_secret_hours <= 30 * 24, "former_secret_hours: at most 720");
        anyhow::ensure!((1..=90).contains(&self.keep_days), "keep_days: from 1 to 90");
        anyhow::ensure!(self.per_project <= 1_000, "per_project: at most 1000");
        anyhow::ensure!((1..=64).contains(&self.concurrency_per_tenant), "concurrency_per_tenant: from 1 to 64");
        Ok(())
    }

    /// Ranges that the operator allows.
    pub(crate) fn allowed(&self) -> anyhow::Result<Vec<Range>> {
        self.allow.iter().map(|range| range.parse()).collect::<Result<_, _>>().context("allow")
    }

    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// What the application goes by.
    pub(crate) fn bounds(&self) -> WebhookSettings {
        let per_tenant = usize::try_from(self.concurrency_per_tenant).unwrap_or(1);
        let usual = WebhookSettings::default();
        WebhookSettings {
            most_per_project: self.per_project,
            concurrency_per_tenant: per_tenant,
            concurrency_per_webhook: usual.concurrency_per_webhook.min(per_tenant.div_ceil(2)),
            first_retry: Duration::from_secs(self.first_retry_seconds),
            give_up_after: Duration::from_hours(self.give_up_hours),
            disable_after: Duration::from_hours(self.disable_hours),
            former_secret: Duration::from_hours(self.former_secret_hours),
            keep: Duration::from_hours(24 * self.keep_days),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_out_of_range_are_refused() {
        Webhooks::default().check().unwrap();
        assert_eq!(Webhooks::default().bounds(), WebhookSettings::default());
        let wrong = [
            Webhooks { allow: vec!["10.0.0.0".to_owned()], ..Webhooks::default() },
            Webhooks { timeout_seconds: 0, ..Webhooks::default() },
            Webhooks { give_up_hours: 10_000, ..Webhooks::default() },
            Webhooks { concurrency_per_tenant: 0, ..Webhooks::default() },
        ];
        for settings in wrong {
            assert!(settings.check().is_err(), "{settings:?}");
        }
    }
}
