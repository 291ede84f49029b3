//! What a try makes of a delivery and of its webhook.

use std::time::Duration;

use wherry_store::{
    AttemptRecord, DeliveryRecord, DeliveryState, Disabled, DisabledReason, Settlement, Telling, WebhookRecord,
};

use super::{SendOutcome, WebhookSettings};

/// The receiver is gone for good (RFC 9110 section 15.5.11).
const GONE: u16 = 410;

/// Shares of a whole pause.
const SHARES: u32 = 1 << 16;

/// What is to be written after a try that took `latest.duration_millis`. `jitter` is any number: it spreads the next try.
pub(crate) fn settled(
    settings: &WebhookSettings,
    webhook: &WebhookRecord,
    delivery: &DeliveryRecord,
    outcome: &SendOutcome,
    latest: AttemptRecord,
    jitter: u16,
) -> Settlement {
    let now = latest.at;
    let tried = DeliveryRecord { attempts: delivery.attempts + 1, latest: Some(latest), ..delivery.clone() };
    let is_ping = delivery.telling == Telling::Ping;
    if outcome.status.is_some_and(|status| (200..300).contains(&status)) {
        let after = DeliveryRecord { state: DeliveryState::Delivered, next_at: None, ended_at: Some(now), ..tried };
        let works = WebhookRecord { failing_since: None, revision: webhook.revision + 1, ..webhook.clone() };
        let changed = (webhook.failing_since.is_some() && !is_ping).then_some(works);
        return Settlement { before: delivery.clone(), after, webhook: changed, also: Vec::new() };
    }
    let failures = delivery.failures + 1;
    let gone = outcome.status == Some(GONE);
    let next_at = now.plus(pause(settings, failures, jitter));
    let after = if gone || is_ping || next_at.since(delivery.since) > settings.give_up_after {
        DeliveryRecord { state: DeliveryState::GivenUp, failures, next_at: None, ended_at: Some(now), ..tried }
    } else {
        DeliveryRecord { failures, next_at: Some(next_at), ..tried }
    };
    let reason = match webhook.failing_since {
        _ if gone => Some(DisabledReason::Gone),
        Some(since) if now.since(since) >= settings.disable_after && !is_ping => Some(DisabledReason::Failing),
        _ => None,
    };
    let changed = match reason {
        Some(reason) => Some(WebhookRecord { disabled: Some(Disabled { at: now, reason }), ..webhook.clone() }),
        None if webhook.failing_since.is_none() && !is_ping => {
            Some(WebhookRecord { failing_since: Some(now), ..webhook.clone() })
        }
        None => None,
    };
    let changed = changed.map(|changed| WebhookRecord { revision: webhook.revision + 1, ..changed });
    Settlement { before: delivery.clone(), after, webhook: changed, also: Vec::new() }
}

/// The pause after so many failures: doubled with each, up to the longest, of which a half to the whole is waited.
fn pause(settings: &WebhookSettings, failures: u32, jitter: u16) -> Duration {
    let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let whole = settings.first_retry.saturating_mul(doubled).min(settings.longest_retry);
    let half = whole / 2;
    half.saturating_add((half / SHARES).saturating_mul(u32::from(jitter)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wherry_model::{ProjectName, Sealed, Timestamp, WebhookName};

    use super::*;

    const ID: &str = "0193573e-7a00-7000-8000-0000000000a1";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    fn webhook(failing_since: Option<i64>) -> WebhookRecord {
        WebhookRecord {
            id: ID.parse().unwrap(),
            tenant: ID.parse().unwrap(),
            project: ID.parse().unwrap(),
            project_name: ProjectName::default_project(),
            name: WebhookName::new("a").unwrap(),
            url: "https://a.example".to_owned(),
            kinds: Vec::new(),
            instance: None,
            labels: BTreeMap::new(),
            secret: Sealed::new("x".to_owned()),
            former_secret: None,
            disabled: None,
            failing_since: failing_since.map(at),
            created_at: at(0),
            revision: 5,
        }
    }

    fn delivery(failures: u32) -> DeliveryRecord {
        DeliveryRecord {
            id: ID.parse().unwrap(),
            webhook: ID.parse().unwrap(),
            tenant: ID.parse().unwrap(),
            project: ID.parse().unwrap(),
            telling: Telling::WebhookDisabled { webhook: WebhookName::new("b").unwrap(), reason: DisabledReason::Gone },
            lane: None,
            since: at(0),
            state: DeliveryState::Waiting,
            attempts: failures,
            failures,
            next_at: Some(at(0)),
            latest: None,
            ended_at: None,
        }
    }

    fn after(webhook: &WebhookRecord, delivery: &DeliveryRecord, status: Option<u16>, now: i64) -> Settlement {
        let outcome = SendOutcome { status, error: None };
        let latest = AttemptRecord { at: at(now), status, duration_millis: 1, error: None };
        settled(&WebhookSettings::default(), webhook, delivery, &outcome, latest, u16::MAX)
    }

    #[test]
    fn only_2xx_is_taken() {
        for (status, taken) in [(200, true), (204, true), (299, true), (199, false), (302, false), (500, false)] {
            let done = after(&webhook(None), &delivery(0), Some(status), 1);
            assert_eq!(done.after.state == DeliveryState::Delivered, taken, "{status}");
            assert_eq!(done.after.next_at.is_none(), taken, "{status}");
            assert_eq!(done.after.ended_at.is_some(), taken, "{status}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let settings = WebhookSettings::default();
        for (failures, whole) in [(1, 5), (2, 10), (3, 20), (10, 2_560), (11, 3_600), (40, 3_600), (u32::MAX, 3_600)] {
            let whole = Duration::from_secs(whole);
            assert_eq!(pause(&settings, failures, 0), whole / 2, "{failures}");
            let longest = pause(&settings, failures, u16::MAX);
            assert!(longest <= whole && longest > whole.mul_f64(0.99), "{failures}: {longest:?}");
        }
    }

    #[test]
    fn what_would_be_too_old_at_the_next_try_is_given_up() {
        let day = 24 * 3_600;
        let early = after(&webhook(Some(0)), &delivery(20), None, day - 7_200);
        assert_eq!(early.after.state, DeliveryState::Waiting);
        let late = after(&webhook(Some(0)), &delivery(20), None, day - 60);
        assert_eq!((late.after.state, late.after.next_at), (DeliveryState::GivenUp, None));
        assert_eq!(late.webhook, None, "the webhook itself goes on");
    }

    #[test]
    fn a_webhook_remembers_since_when_it_fails_and_forgets_it_when_it_works() {
        let first = after(&webhook(None), &delivery(0), Some(500), 7).webhook.unwrap();
        assert_eq!((first.failing_since, first.revision, &first.disabled), (Some(at(7)), 6, &None));
        assert_eq!(after(&webhook(Some(7)), &delivery(1), Some(500), 9).webhook, None);
        let works = after(&webhook(Some(7)), &delivery(2), Some(200), 11).webhook.unwrap();
        assert_eq!((works.failing_since, works.revision), (None, 6));
        assert_eq!(after(&webhook(None), &delivery(0), Some(200), 11).webhook, None);
    }

    #[test]
    fn one_that_fails_for_too_long_or_is_gone_is_disabled() {
        let days = 3 * 24 * 3_600;
        let failing = after(&webhook(Some(0)), &delivery(9), None, days).webhook.unwrap();
        assert_eq!(failing.disabled, Some(Disabled { at: at(days), reason: DisabledReason::Failing }));
        let gone = after(&webhook(None), &delivery(0), Some(410), 1);
        assert_eq!(gone.after.state, DeliveryState::GivenUp);
        assert_eq!(gone.webhook.unwrap().disabled, Some(Disabled { at: at(1), reason: DisabledReason::Gone }));
    }

    #[test]
    fn a_ping_is_tried_once_and_says_nothing_of_health() {
        let ping = DeliveryRecord { telling: Telling::Ping, ..delivery(0) };
        let failed = after(&webhook(None), &ping, Some(500), 1);
        assert_eq!((failed.after.state, failed.webhook), (DeliveryState::GivenUp, None));
        assert_eq!(after(&webhook(Some(0)), &ping, Some(200), 1).webhook, None);
    }
}
