//! Tells webhooks of events: makes deliveries of what happened, and tries those whose time has come.
//!
//! Both are done by the replica that holds the lease, and need it for nothing but to spare double work: place and deliveries
//! of a webhook move in one guarded transaction, and a delivery is open until what became of its try is stored. A replica
//! that dies during a try leaves it open, and the next one tries again: the receiver knows it by its id.
//!
//! Tries are bounded in all, by tenant and by webhook, and webhooks are looked at in turn: a receiver that is slow holds
//! up itself. Of an instance's deliveries only the first open one is ever due.
//!
//! Rejected: a claim on each delivery in the store (two writes for each try, and another clock to be wrong about).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wherry_model::{DeliveryId, InstanceId, Timestamp, WebhookId};
use wherry_store::{
    AttemptRecord, DeliveryRecord, DeliveryState, EventQuery, Lagging, StoredEvent, Telling, WebhookRecord,
};

use super::Statuses;
use crate::webhooks::{Outgoing, SendOutcome, WebhookSender, place_of, settled};
use crate::{Control, Error};

pub(super) const NAME: &str = "webhooks";

/// Commits that come closer together than this are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// The distance of two turns while the store does not answer, or there is no sender yet.
const RETRY: Duration = Duration::from_secs(1);
/// Events that one webhook is moved by at once.
const EVENTS: u32 = 200;
/// Webhooks of one page.
const PAGE: u32 = 100;
/// Tries to settle what somebody else changes at the same time.
const SETTLE_ATTEMPTS: u32 = 8;
/// How long tries under way may go on when the process stops.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// Tries under way.
#[derive(Default)]
struct Flights {
    tasks: JoinSet<()>,
    /// Which delivery each of them tries, also for those that end by a bug.
    deliveries: BTreeMap<Id, DeliveryId>,
    /// Of each, whose it is.
    of: BTreeMap<DeliveryId, WebhookRecord>,
    /// Where the next turn begins to look for work, and likewise for events.
    launched: Round,
    followed: Round,
}

/// The way through all webhooks, a page at a turn.
#[derive(Default)]
struct Round {
    /// The webhook after which the next page begins; none at the beginning of a round.
    after: Option<WebhookId>,
    /// Whether this round has done anything.
    moved: bool,
    /// After a round that did nothing, though there were webhooks for more than one page, when the next may begin.
    rests_until: Option<Instant>,
}

impl Round {
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + RETRY);
    }

    /// A page was looked at, which `next` follows. What was written since the round began may be missed by it: then another begins.
    fn looked(&mut self, next: Option<WebhookId>) -> Turn {
        let is_first = self.after.is_none();
        self.after = next;
        self.rests_until = None;
        if next.is_some() {
            return Turn::More;
        }
        let moved = std::mem::take(&mut self.moved);
        if is_first {
            return Turn::Done;
        }
        if moved {
            return Turn::More;
        }
        self.rest();
        Turn::Later
    }
}

impl Flights {
    fn launch(
        &mut self,
        webhook: WebhookRecord,
        delivery: DeliveryId,
        make: impl Future<Output = ()> + Send + 'static,
    ) {
        self.of.insert(delivery, webhook);
        self.deliveries.insert(self.tasks.spawn(make).id(), delivery);
    }

    fn landed(&mut self, done: Option<Result<(Id, ()), JoinError>>) {
        let Some(done) = done else { return };
        let id = match &done {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        if let Some(delivery) = self.deliveries.remove(&id) {
            self.of.remove(&delivery);
        }
        // There is room for another.
        self.launched.rests_until = None;
        self.followed.rests_until = None;
        if let Err(error) = done {
            tracing::error!(%error, "a try of a delivery ended by a bug");
            // It is as due as before, and would end so again.
            self.launched.rest();
        }
    }

    fn count(&self, is: impl Fn(&WebhookRecord) -> bool) -> usize {
        self.of.values().filter(|webhook| is(webhook)).count()
    }
}

/// Works until it is stopped.
pub(super) async fn tell(control: Control, index: usize, statuses: Statuses, stop: CancellationToken) {
    let mut flights = Flights::default();
    loop {
        let seen = control.store().position();
        let turn = control.telling_turn(&mut flights).await;
        let pause = match &turn {
            Ok(Turn::More) => Some(GATHER),
            Ok(Turn::Done) => None,
            Ok(Turn::Later | Turn::Idle) | Err(_) => Some(RETRY),
        };
        super::told(&statuses, index, turn.map(|_| None));
        let pause = async {
            if pause.is_none() {
                control.store().changed(seen).await;
            }
            tokio::time::sleep(pause.unwrap_or(GATHER)).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            done = flights.tasks.join_next_with_id(), if !flights.tasks.is_empty() => flights.landed(done),
            () = pause => {}
        }
    }
    let rest = async { while flights.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_TRIES, rest).await.is_err() {
        tracing::info!("tries of deliveries were cut off, another replica makes them again");
    }
    flights.tasks.shutdown().await;
}

/// What there is to do after a turn.
enum Turn {
    /// There is more at once.
    More,
    /// Nothing for a while, whatever is written.
    Later,
    /// Nothing until something is written, or a time comes.
    Done,
    /// It is not for this replica now.
    Idle,
}

impl Control {
    async fn telling_turn(&self, flights: &mut Flights) -> Result<Turn, Error> {
        let Some(sender) = self.webhook_sender() else { return Ok(Turn::Idle) };
        if !self.leads().await? {
            return Ok(Turn::Idle);
        }
        let events = self.follow_for_webhooks(&mut flights.followed).await?;
        let work = self.launch(flights, &sender).await?;
        Ok(match (events, work) {
            (Turn::More, _) | (_, Turn::More) => Turn::More,
            (Turn::Later, _) | (_, Turn::Later) => Turn::Later,
            _ => Turn::Done,
        })
    }

    /// Makes deliveries of events, one page of webhooks, some events each.
    async fn follow_for_webhooks(&self, round: &mut Round) -> Result<Turn, Error> {
        if round.rests() {
            return Ok(Turn::Later);
        }
        let most = self.inner.config.webhooks.most_waiting;
        let lagging = self.store().lagging_webhooks(round.after, most, PAGE).await?;
        let full = u32::try_from(lagging.len()).is_ok_and(|found| found >= PAGE);
        let next = lagging.last().filter(|_| full).map(|last| last.webhook.id);
        let mut more = false;
        for behind in lagging {
            if behind.open < most {
                more |= self.follow_for(behind).await?;
                round.moved = true;
            }
        }
        let turn = round.looked(next);
        Ok(if more { Turn::More } else { turn })
    }

    /// True when it has more events than were looked at.
    async fn follow_for(&self, behind: Lagging) -> Result<bool, Error> {
        let Lagging { webhook, followed, open: _ } = behind;
        let (tenant, project) = (webhook.tenant, webhook.project);
        let query = EventQuery { tenant, project, instance: None, after: followed, limit: EVENTS };
        let events = self.store().events(&query).await?;
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(false) };
        let full = u32::try_from(events.len()).is_ok_and(|found| found >= EVENTS);
        let mut wanted: BTreeMap<InstanceId, bool> = BTreeMap::new();
        let mut deliveries = Vec::new();
        for event in events {
            if !is_of_interest(&webhook, &event) {
                continue;
            }
            let labelled = if let Some(known) = wanted.get(&event.instance) {
                *known
            } else {
                let labelled = self.has_labels(&webhook, event.instance).await?;
                wanted.insert(event.instance, labelled);
                labelled
            };
            if labelled {
                let lane = Some(event.instance);
                deliveries.push(DeliveryRecord { lane, ..self.new_delivery(&webhook, Telling::Event(event)) });
            }
        }
        // Ids of one moment are in no order; the log is listed by them.
        let mut ids: Vec<DeliveryId> = deliveries.iter().map(|delivery| delivery.id).collect();
        ids.sort_unstable();
        for (delivery, id) in deliveries.iter_mut().zip(ids) {
            delivery.id = id;
        }
        self.store().follow_events(webhook.id, followed, last, &deliveries).await?;
        Ok(full)
    }

    async fn has_labels(&self, webhook: &WebhookRecord, instance: InstanceId) -> Result<bool, Error> {
        if webhook.labels.is_empty() {
            return Ok(true);
        }
        let instance = self.store().instance(webhook.tenant, instance).await?;
        let has = |labels: &BTreeMap<String, String>| {
            webhook.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        Ok(instance.is_some_and(|instance| has(&instance.spec.labels)))
    }

    /// Begins tries, one page of webhooks, as many as there is room for.
    async fn launch(&self, flights: &mut Flights, sender: &Arc<dyn WebhookSender>) -> Result<Turn, Error> {
        let settings = &self.inner.config.webhooks;
        if flights.of.len() >= settings.concurrency {
            return Ok(Turn::Done);
        }
        if flights.launched.rests() {
            return Ok(Turn::Later);
        }
        let now = self.now();
        let due = self.store().due_webhooks(now, flights.launched.after, PAGE).await?;
        let full = u32::try_from(due.len()).is_ok_and(|found| found >= PAGE);
        let next = due.last().filter(|_| full).map(|last| last.id);
        let mut looked_at = None;
        for webhook in due {
            let of_webhook = flights.count(|other| other.id == webhook.id);
            let of_tenant = flights.count(|other| other.tenant == webhook.tenant);
            let room = settings.concurrency_per_webhook.saturating_sub(of_webhook);
            let room = room.min(settings.concurrency_per_tenant.saturating_sub(of_tenant));
            if flights.of.len() >= settings.concurrency {
                // What lands makes room, and the next turn goes on here.
                flights.launched.after = looked_at.or(flights.launched.after);
                return Ok(Turn::Done);
            }
            looked_at = Some(webhook.id);
            if room == 0 {
                continue;
            }
            // Those under way are still open, and as due as others.
            let limit = u32::try_from(of_webhook.saturating_add(room)).unwrap_or(u32::MAX);
            let deliveries = self.store().due_deliveries(webhook.id, now, limit).await?;
            let deliveries: Vec<_> =
                deliveries.into_iter().filter(|delivery| !flights.of.contains_key(&delivery.id)).take(room).collect();
            for delivery in deliveries {
                let (control, sender, to) = (self.clone(), Arc::clone(sender), webhook.clone());
                flights.launched.moved = true;
                flights.launch(webhook.clone(), delivery.id, async move {
                    let _counted = UnderWay::of(&control);
                    control.make(&sender, to, delivery).await;
                });
            }
        }
        Ok(flights.launched.looked(next))
    }

    /// One try, and what became of it.
    async fn make(&self, sender: &Arc<dyn WebhookSender>, webhook: WebhookRecord, delivery: DeliveryRecord) {
        let begun = Instant::now();
        let at = self.now();
        let outcome = match self.signing_secrets(&webhook, at) {
            Ok(secrets) => {
                let (url, project) = (webhook.url.clone(), webhook.project_name.clone());
                let (webhook, delivery) = (webhook.name.clone(), delivery.clone());
                sender.send(Outgoing { url, webhook, project, delivery, at, secrets }).await
            }
            Err(error) => SendOutcome { status: None, error: Some(error) },
        };
        let duration_millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let SendOutcome { status, error } = outcome.clone();
        let latest = AttemptRecord { at: self.now(), status, duration_millis, error };
        if let Err(error) = self.settle(&webhook, &delivery, &outcome, latest).await {
            tracing::warn!(delivery = %delivery.id, %error, "what became of a delivery was not stored, it is made again");
            // It is still due: while this one is under way it is not begun anew.
            tokio::time::sleep(RETRY).await;
        }
    }

    fn signing_secrets(&self, webhook: &WebhookRecord, at: Timestamp) -> Result<Vec<wherry_model::SecretText>, String> {
        let place = place_of(webhook);
        let former = webhook.former_secret.as_ref().filter(|former| former.until > at).map(|former| &former.secret);
        [Some(&webhook.secret), former]
            .into_iter()
            .flatten()
            .map(|sealed| self.keyring().open(&place, sealed))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("the secret cannot be opened: {error}"))
    }

    async fn settle(
        &self,
        webhook: &WebhookRecord,
        delivery: &DeliveryRecord,
        outcome: &SendOutcome,
        latest: AttemptRecord,
    ) -> Result<(), Error> {
        let settings = &self.inner.config.webhooks;
        let mut jitter = [0_u8; 2];
        self.inner.entropy.fill(&mut jitter);
        for _ in 0..SETTLE_ATTEMPTS {
            let found = self.store().webhook(webhook.tenant, webhook.project, &webhook.name).await?;
            let Some(current) = found.filter(|found| found.id == webhook.id) else { return Ok(()) };
            let mut settlement =
                settled(settings, &current, delivery, outcome, latest.clone(), u16::from_le_bytes(jitter));
            let disabled = match &settlement.webhook {
                Some(changed) if current.disabled.is_none() => changed.disabled.clone(),
                _ => None,
            };
            if let Some(disabled) = &disabled {
                let (webhook, reason) = (current.name.clone(), disabled.reason.clone());
                let telling = Telling::WebhookDisabled { webhook, reason };
                let others = self.store().webhooks(current.tenant, current.project, settings.most_per_project).await?;
                let hears = |other: &&WebhookRecord| {
                    other.id != current.id
                        && other.disabled.is_none()
                        && other.kinds.is_empty()
                        && other.instance.is_none()
                        && other.labels.is_empty()
                };
                settlement.also =
                    others.iter().filter(hears).map(|other| self.new_delivery(other, telling.clone())).collect();
            }
            if self.store().settle_delivery(&settlement).await? {
                self.count(&settlement.after, disabled.is_some());
                if let Some(disabled) = disabled {
                    let (webhook, reason) = (current.id, disabled.reason);
                    tracing::warn!(%webhook, ?reason, "a webhook is disabled");
                }
                return Ok(());
            }
            // Somebody else settled it, or the webhook was changed meanwhile.
            let now = self.store().delivery(webhook.id, delivery.id).await?;
            if now.is_none_or(|now| now.attempts != delivery.attempts || !now.is_open()) {
                return Ok(());
            }
        }
        Err(Error::unavailable("the webhook is being changed by others"))
    }

    fn count(&self, after: &DeliveryRecord, disabled: bool) {
        let counters = &self.inner.webhook_counters;
        let counter = match after.state {
            DeliveryState::Delivered => &counters.delivered,
            DeliveryState::Waiting | DeliveryState::GivenUp => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if after.state == DeliveryState::GivenUp {
            counters.given_up.fetch_add(1, Ordering::Relaxed);
        }
        if disabled {
            counters.disabled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A try that is counted as under way, however it ends.
struct UnderWay(Control);

impl UnderWay {
    fn of(control: &Control) -> Self {
        control.inner.webhook_counters.under_way.fetch_add(1, Ordering::Relaxed);
        Self(control.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.inner.webhook_counters.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_of_interest(webhook: &WebhookRecord, event: &StoredEvent) -> bool {
    let kind = event.event.kind.as_str();
    (webhook.kinds.is_empty() || webhook.kinds.iter().any(|wanted| wanted == kind))
        && webhook.instance.as_ref().is_none_or(|name| *name == event.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_round_through_many_webhooks_that_does_nothing_is_followed_by_a_rest() {
        let page = Some("07".repeat(16).parse::<WebhookId>().unwrap());
        let mut round = Round::default();
        assert!(matches!(round.looked(None), Turn::Done), "a single page is looked at again when something is written");
        assert!(matches!(round.looked(page), Turn::More));
        assert!(matches!(round.looked(page), Turn::More));
        round.moved = true;
        assert!(matches!(round.looked(None), Turn::More) && !round.rests(), "it did something");
        assert!(matches!(round.looked(page), Turn::More));
        assert!(matches!(round.looked(None), Turn::Later) && round.rests());
        tokio::time::sleep(RETRY).await;
        assert!(!round.rests());
    }
}
