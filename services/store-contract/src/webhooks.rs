//! Webhooks: each event becomes a delivery once, deliveries of an instance are made one after the other, and what became of
//! them is written once.

use std::collections::BTreeMap;

use wherry_model::{DeliveryId, InstanceId, ProjectName, Sealed, WebhookId, WebhookName};
use wherry_store::{
    AttemptRecord, DeliveryRecord, DeliveryState, Disabled, DisabledReason, NameOutcome, Settlement, StoredEvent,
    Telling, WebhookRecord,
};

use crate::world::at;
use crate::{Subject, World};

fn named(text: &str) -> WebhookName {
    WebhookName::new(text).unwrap()
}

fn webhook(world: &World, text: &str) -> WebhookRecord {
    WebhookRecord {
        id: WebhookId::from_uuid(world.uuid()),
        tenant: world.tenant,
        project: world.project,
        project_name: ProjectName::default_project(),
        name: named(text),
        url: "https://hooks.example/caf\u{e9}".to_owned(),
        kinds: vec!["failed".to_owned()],
        instance: None,
        labels: BTreeMap::from([("app".to_owned(), "shop".to_owned())]),
        secret: Sealed::new("w1.1.x".to_owned()),
        former_secret: None,
        disabled: None,
        failing_since: None,
        created_at: at(1),
        revision: 1,
    }
}

async fn stored(world: &World, text: &str) -> WebhookRecord {
    let record = webhook(world, text);
    assert_eq!(world.store.create_webhook(&record).await.unwrap(), NameOutcome::Created);
    record
}

fn ping(world: &World, webhook: &WebhookRecord, second: i64) -> DeliveryRecord {
    DeliveryRecord {
        id: DeliveryId::from_uuid(world.uuid()),
        webhook: webhook.id,
        tenant: webhook.tenant,
        project: webhook.project,
        telling: Telling::Ping,
        lane: None,
        since: at(second),
        state: DeliveryState::Waiting,
        attempts: 0,
        failures: 0,
        next_at: Some(at(second)),
        latest: None,
        ended_at: None,
    }
}

fn telling(world: &World, webhook: &WebhookRecord, event: &StoredEvent) -> DeliveryRecord {
    let telling = Telling::Event(event.clone());
    DeliveryRecord { telling, lane: Some(event.instance), ..ping(world, webhook, 10) }
}

fn taken(before: &DeliveryRecord, second: i64) -> DeliveryRecord {
    DeliveryRecord {
        state: DeliveryState::Delivered,
        attempts: before.attempts + 1,
        next_at: None,
        latest: Some(AttemptRecord { at: at(second), status: Some(204), duration_millis: 7, error: None }),
        ended_at: Some(at(second)),
        ..before.clone()
    }
}

fn failed(before: &DeliveryRecord, next: i64) -> DeliveryRecord {
    let (attempts, failures) = (before.attempts + 1, before.failures + 1);
    let latest = AttemptRecord { at: at(next), status: None, duration_millis: 9, error: Some("refused".to_owned()) };
    DeliveryRecord { attempts, failures, next_at: Some(at(next)), latest: Some(latest), ..before.clone() }
}

fn alone(before: &DeliveryRecord, after: DeliveryRecord) -> Settlement {
    Settlement { before: before.clone(), after, webhook: None, also: Vec::new() }
}

async fn due(world: &World, webhook: &WebhookRecord, second: i64) -> Vec<DeliveryId> {
    let found = world.store.due_deliveries(webhook.id, at(second), 100).await.unwrap();
    found.iter().map(|delivery| delivery.id).collect()
}

/// As given, one of a name in its project, by name, and nobody's but its tenant's.
pub async fn a_webhook_is_kept_as_given(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (other, stranger) = (world.with_project("other").await, world.with_tenant("blue").await);
    let (first, second) = (stored(&world, "b").await, stored(&world, "a").await);
    let again = webhook(&world, "a");
    assert_eq!(world.store.create_webhook(&again).await.unwrap(), NameOutcome::NameTaken);
    let elsewhere = stored(&other, "a").await;
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.webhooks(world.tenant, world.project, 10).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.webhooks(world.tenant, world.project, 1).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(store.webhooks(stranger.tenant, world.project, 10).await.unwrap(), []);
    assert_eq!(store.webhook(world.tenant, world.project, &named("b")).await.unwrap(), Some(first));
    assert_eq!(store.webhook(stranger.tenant, world.project, &named("b")).await.unwrap(), None);
    assert_eq!(store.webhook(world.tenant, other.project, &named("a")).await.unwrap(), Some(elsewhere));
    assert!(!store.delete_webhook(stranger.tenant, second.id).await.unwrap());
    assert!(store.delete_webhook(world.tenant, second.id).await.unwrap());
    assert!(!store.delete_webhook(world.tenant, second.id).await.unwrap());
    assert_eq!(store.webhook(world.tenant, world.project, &named("a")).await.unwrap(), None);
}

/// From the revision that it was computed from, and from no other.
pub async fn a_late_change_of_a_webhook_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let first = stored(&world, "a").await;
    let second = WebhookRecord { url: "https://b.example".to_owned(), revision: 2, ..first.clone() };
    assert!(world.store.change_webhook(&second, false).await.unwrap());
    assert!(!world.store.change_webhook(&second, false).await.unwrap());
    let late = WebhookRecord { url: "https://c.example".to_owned(), revision: 2, ..first.clone() };
    assert!(!world.store.change_webhook(&late, true).await.unwrap());
    assert_eq!(world.store.webhook(world.tenant, world.project, &named("a")).await.unwrap(), Some(second.clone()));
    world.store.delete_webhook(world.tenant, first.id).await.unwrap();
    assert!(!world.store.change_webhook(&WebhookRecord { revision: 3, ..second }, false).await.unwrap());
}

/// What happened before a webhook was there is none of its business; from then on its place and the deliveries move together.
pub async fn each_event_becomes_a_delivery_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    world.instance("before", node, 1).await;
    let hook = stored(&world, "a").await;
    let elsewhere = world.with_project("other").await;
    stored(&elsewhere, "a").await;
    assert_eq!(world.store.lagging_webhooks(None, 10, 10).await.unwrap(), []);
    world.instance("web", node, 2).await;
    let found = world.store.lagging_webhooks(None, 10, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].webhook, found[0].open), (&hook, 0));
    let events = world.events().await;
    let (old, new) = (&events[0], &events[1]);
    assert_eq!(found[0].followed, old.seq);
    let delivery = telling(&world, &hook, new);
    let (from, to) = (old.seq, new.seq);
    assert!(!world.store.follow_events(hook.id, from + 1, to, std::slice::from_ref(&delivery)).await.unwrap());
    assert_eq!(world.store.delivery(hook.id, delivery.id).await.unwrap(), None);
    assert!(world.store.follow_events(hook.id, from, to, std::slice::from_ref(&delivery)).await.unwrap());
    let again = telling(&world, &hook, new);
    assert!(!world.store.follow_events(hook.id, from, to, &[again]).await.unwrap());
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.lagging_webhooks(None, 10, 10).await.unwrap(), []);
    assert_eq!(world.store.deliveries(hook.id, None, 10).await.unwrap(), [delivery]);
    world.instance("more", node, 3).await;
    assert_eq!(world.store.lagging_webhooks(None, 10, 10).await.unwrap()[0].open, 1);
    assert_eq!(world.store.lagging_webhooks(Some(hook.id), 10, 10).await.unwrap(), []);
}

/// A disabled one follows nothing and has no work; enabled anew it tells what happens from then on.
pub async fn a_disabled_webhook_rests(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    let hook = stored(&world, "a").await;
    assert!(world.store.add_delivery(&ping(&world, &hook, 1), 5).await.unwrap());
    assert_eq!(world.store.due_webhooks(at(1), None, 5).await.unwrap(), std::slice::from_ref(&hook));
    assert_eq!(world.store.due_webhooks(at(0), None, 5).await.unwrap(), []);
    assert_eq!(world.store.due_webhooks(at(1), Some(hook.id), 5).await.unwrap(), []);
    let disabled = Some(Disabled { at: at(2), reason: DisabledReason::Asked });
    let resting = WebhookRecord { disabled, revision: 2, ..hook.clone() };
    assert!(world.store.change_webhook(&resting, false).await.unwrap());
    world.instance("web", node, 2).await;
    assert_eq!(world.store.lagging_webhooks(None, 10, 10).await.unwrap(), []);
    assert_eq!(world.store.due_webhooks(at(9), None, 5).await.unwrap(), []);
    assert!(!world.store.follow_events(hook.id, 0, 1, &[]).await.unwrap());
    let back = WebhookRecord { disabled: None, revision: 3, ..hook };
    assert!(world.store.change_webhook(&back, true).await.unwrap());
    assert_eq!(world.store.lagging_webhooks(None, 10, 10).await.unwrap(), []);
    assert_eq!(world.store.due_webhooks(at(9), None, 5).await.unwrap().len(), 1);
}

/// The first open delivery of an instance holds up those behind it, and those of nobody else.
pub async fn deliveries_of_an_instance_come_one_after_the_other(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    let hook = stored(&world, "a").await;
    let (one, two) = (world.instance("one", node, 1).await, world.instance("two", node, 2).await);
    world.running(&one, 3).await;
    world.running(&two, 4).await;
    let events = world.events().await;
    let made: Vec<DeliveryRecord> = events.iter().map(|event| telling(&world, &hook, event)).collect();
    assert!(world.store.follow_events(hook.id, 0, events[3].seq, &made).await.unwrap());
    let of = |instance: InstanceId| made.iter().filter(|one| one.lane == Some(instance)).collect::<Vec<_>>();
    let (of_one, of_two) = (of(one.id), of(two.id));
    assert_eq!((of_one.len(), of_two.len()), (2, 2));
    assert_eq!(due(&world, &hook, 9).await, []);
    assert_eq!(due(&world, &hook, 10).await, [of_one[0].id, of_two[0].id]);
    assert!(world.store.settle_delivery(&alone(of_one[0], failed(of_one[0], 50))).await.unwrap());
    assert_eq!(due(&world, &hook, 49).await, [of_two[0].id]);
    assert!(world.store.settle_delivery(&alone(of_two[0], taken(of_two[0], 11))).await.unwrap());
    assert_eq!(due(&world, &hook, 49).await, [of_two[1].id]);
    assert_eq!(due(&world, &hook, 50).await, [of_two[1].id, of_one[0].id]);
    assert_eq!(world.store.due_deliveries(hook.id, at(50), 1).await.unwrap().len(), 1);
}

/// Of two that settle one try one is believed; a change of the webhook and what comes of it are stored with it or not at all.
pub async fn a_try_is_settled_once_with_all_that_comes_of_it(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (hook, other) = (stored(&world, "a").await, stored(&world, "b").await);
    let delivery = ping(&world, &hook, 1);
    assert!(world.store.add_delivery(&delivery, 5).await.unwrap());
    let failing = WebhookRecord { failing_since: Some(at(2)), revision: 2, ..hook.clone() };
    let also = vec![ping(&world, &other, 3)];
    let after = failed(&delivery, 20);
    let whole = Settlement {
        before: delivery.clone(),
        after: after.clone(),
        webhook: Some(failing.clone()),
        also: also.clone(),
    };
    let late = Settlement { webhook: Some(WebhookRecord { revision: 3, ..failing.clone() }), ..whole.clone() };
    assert!(!world.store.settle_delivery(&late).await.unwrap());
    assert_eq!(world.store.delivery(hook.id, delivery.id).await.unwrap(), Some(delivery.clone()));
    assert!(world.store.settle_delivery(&whole).await.unwrap());
    assert!(!world.store.settle_delivery(&whole).await.unwrap());
    assert!(!world.store.settle_delivery(&alone(&delivery, taken(&delivery, 4))).await.unwrap());
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.webhook(world.tenant, world.project, &named("a")).await.unwrap(), Some(failing));
    assert_eq!(world.store.deliveries(other.id, None, 5).await.unwrap(), also);
    let done = taken(&after, 30);
    assert!(world.store.settle_delivery(&alone(&after, done.clone())).await.unwrap());
    assert_eq!(due(&world, &hook, 1_000).await, []);
    // Asked for again: it waits once more, and only the first who asks is heard.
    let again = DeliveryRecord { state: DeliveryState::Waiting, next_at: Some(at(40)), ended_at: None, ..done.clone() };
    assert!(world.store.settle_delivery(&alone(&done, again.clone())).await.unwrap());
    assert!(!world.store.settle_delivery(&alone(&done, again)).await.unwrap());
    assert_eq!(due(&world, &hook, 40).await, [delivery.id]);
}

/// Newest first, in pages of any size, of their own webhook only, and gone with it.
pub async fn deliveries_come_in_pages_and_go_with_their_webhook(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (hook, other) = (stored(&world, "a").await, stored(&world, "b").await);
    let mut made: Vec<DeliveryRecord> = (0..7).map(|second| ping(&world, &hook, second)).collect();
    for delivery in &made {
        assert!(world.store.add_delivery(delivery, 7).await.unwrap());
    }
    assert!(!world.store.add_delivery(&ping(&world, &hook, 9), 7).await.unwrap());
    assert!(world.store.add_delivery(&ping(&world, &other, 9), 7).await.unwrap());
    made.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    for limit in [1, 3, 7, 100] {
        let mut walked: Vec<DeliveryRecord> = Vec::new();
        loop {
            let before = walked.last().map(|delivery| delivery.id);
            let page = world.store.deliveries(hook.id, before, limit).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, made, "pages of {limit}");
    }
    assert_eq!(world.store.delivery(other.id, made[0].id).await.unwrap(), None);
    assert!(world.store.delete_webhook(world.tenant, hook.id).await.unwrap());
    assert_eq!(world.store.deliveries(hook.id, None, 100).await.unwrap(), []);
    assert!(!world.store.add_delivery(&ping(&world, &hook, 9), 7).await.unwrap());
    assert_eq!(world.store.deliveries(other.id, None, 100).await.unwrap().len(), 1);
}

/// Those of all tenants, disabled or not, in pages by id.
pub async fn every_webhook_is_found(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("blue").await;
    let mut made = vec![stored(&world, "a").await, stored(&other, "a").await, stored(&world, "b").await];
    let off = WebhookRecord {
        disabled: Some(Disabled { at: at(5), reason: DisabledReason::Asked }),
        revision: made[0].revision + 1,
        ..made[0].clone()
    };
    assert!(world.store.change_webhook(&off, false).await.unwrap());
    made[0] = off;
    made.sort_by_key(|webhook| webhook.id);
    for limit in [1, 2, 3, 10] {
        let mut walked: Vec<WebhookRecord> = Vec::new();
        loop {
            let page = world.store.every_webhook(walked.last().map(|last| last.id), limit).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, made, "pages of {limit}");
    }
}

/// What ended goes after its time, a bounded number at once; what is open stays however old it is.
pub async fn ended_deliveries_are_forgotten(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let hook = stored(&world, "a").await;
    let made: Vec<DeliveryRecord> = (1..6).map(|second| ping(&world, &hook, second)).collect();
    for (delivery, second) in made.iter().zip(11..) {
        assert!(world.store.add_delivery(delivery, 10).await.unwrap());
        if second < 15 {
            assert!(world.store.settle_delivery(&alone(delivery, taken(delivery, second))).await.unwrap());
        }
    }
    assert_eq!(world.store.purge_deliveries(at(11), 10).await.unwrap(), 0);
    assert_eq!(world.store.purge_deliveries(at(100), 3).await.unwrap(), 3);
    assert_eq!(world.store.purge_deliveries(at(100), 3).await.unwrap(), 1);
    assert_eq!(world.store.deliveries(hook.id, None, 100).await.unwrap(), made[4..]);
}
