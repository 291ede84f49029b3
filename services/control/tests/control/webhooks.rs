//! Events are told at least once, of an instance one after the other, whatever receivers and replicas do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use wherry_control::{
    Background, Control, DeliveryPageRequest, DeliveryRecord, DeliveryState, DisabledReason, Error, NewWebhook,
    Outgoing, SendOutcome, Telling, WebhookRequest, WebhookSender,
};
use wherry_model::{DeliveryId, EventKind, WebhookName};
use wherry_testkit::{Stack, Tenant, eventually, spec};

use crate::support::{delete, stop};

/// A receiver that answers as it is told, then 204, and remembers what it was sent.
#[derive(Default)]
struct Receiver {
    answers: Mutex<VecDeque<Answer>>,
    sent: Mutex<Vec<Outgoing>>,
}

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Never,
    Panic,
}

impl Receiver {
    fn that(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), sent: Mutex::default() })
    }

    fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl WebhookSender for Receiver {
    fn check_url(&self, url: &str) -> Result<(), String> {
        if url.starts_with("https://") { Ok(()) } else { Err("it begins with https://".to_owned()) }
    }

    async fn send(&self, outgoing: Outgoing) -> SendOutcome {
        self.sent.lock().unwrap().push(outgoing);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Status(204));
        match answer {
            Answer::Status(status) => SendOutcome { status: Some(status), error: None },
            Answer::Never => std::future::pending().await,
            Answer::Panic => panic!("a sender with a bug"),
        }
    }
}

fn named(name: &str) -> WebhookName {
    name.parse().unwrap()
}

fn to_all() -> WebhookRequest {
    WebhookRequest {
        url: "https://hooks.example/a".to_owned(),
        kinds: Vec::new(),
        instance: None,
        labels: BTreeMap::new(),
        enabled: true,
    }
}

async fn made(control: &Control, tenant: &Tenant, name: &str, request: WebhookRequest) -> NewWebhook {
    control.create_webhook(&tenant.principal, &tenant.project, named(name), request).await.unwrap()
}

async fn log(stack: &Stack, name: &str) -> Vec<DeliveryRecord> {
    let acme = stack.acme();
    let request = DeliveryPageRequest { cursor: None, limit: 200 };
    stack.control().deliveries(&acme.principal, &acme.project, &named(name), &request).await.unwrap().deliveries
}

/// Lets time go by until so many deliveries were taken.
async fn taken(stack: &Stack, name: &str, count: usize) {
    eventually("deliveries are taken", || async {
        stack.advance(Duration::from_mins(1));
        let taken = log(stack, name).await.into_iter().filter(|one| one.state == DeliveryState::Delivered).count();
        (taken >= count).then_some(())
    })
    .await;
}

fn events_of(sent: &[Outgoing]) -> Vec<u64> {
    let seq = |one: &Outgoing| match &one.delivery.telling {
        Telling::Event(event) => Some(event.seq),
        Telling::Ping | Telling::WebhookDisabled { .. } => None,
    };
    sent.iter().filter_map(seq).collect()
}

/// A whole life of an instance: created, started, stopped, deleted.
async fn life(stack: &Stack, name: &str) {
    let acme = stack.acme();
    stack.create(acme, name, spec()).await;
    stack.agent().obey().await;
    stop(stack, acme, name).await.unwrap();
    stack.agent().obey().await;
    delete(stack, acme, name).await.unwrap();
    stack.agent().obey().await;
}

#[tokio::test]
async fn a_life_is_told_in_order_to_a_receiver_that_fails_at_first() {
    let stack = Stack::start().await;
    let receiver = Receiver::that([Answer::Status(500), Answer::Status(302)]);
    stack.control().set_webhook_sender(receiver.clone());
    stack.create(stack.acme(), "before", spec()).await;
    stack.agent().obey().await;
    made(stack.control(), stack.acme(), "all", to_all()).await;
    let before = crate::events::of(&stack, stack.acme(), None, 0).await.len();
    life(&stack, "web").await;
    let events = crate::events::of(&stack, stack.acme(), None, 0).await;
    let wanted: Vec<u64> = events.iter().skip(before).map(|event| event.seq).collect();
    assert!(wanted.len() >= 6, "{events:?}");
    let background = Background::start(stack.control());
    taken(&stack, "all", wanted.len()).await;
    background.stop().await;
    let sent = receiver.sent();
    let twice_more = [wanted[0], wanted[0]].into_iter().chain(wanted.iter().copied());
    assert_eq!(events_of(&sent), twice_more.collect::<Vec<_>>());
    let ids: BTreeSet<DeliveryId> = sent.iter().map(|one| one.delivery.id).collect();
    assert_eq!(ids.len(), wanted.len(), "an event has one id at all its tries");
    let log = log(&stack, "all").await;
    assert_eq!(log.len(), wanted.len());
    let first = log.last().unwrap();
    assert_eq!((first.attempts, first.latest.as_ref().unwrap().status), (3, Some(204)));
    let counts = stack.control().webhook_counts();
    assert_eq!((counts.delivered, counts.failed, counts.under_way), (u64::try_from(wanted.len()).unwrap(), 2, 0));
}

#[tokio::test]
async fn what_a_replica_was_sending_when_it_ended_is_sent_by_the_next() {
    let stack = Stack::start().await;
    let deaf = Receiver::that([Answer::Never; 100]);
    stack.control().set_webhook_sender(deaf.clone());
    made(stack.control(), stack.acme(), "all", to_all()).await;
    life(&stack, "web").await;
    let background = Background::start(stack.control());
    eventually("a try is under way", || async { (!deaf.sent().is_empty()).then_some(()) }).await;
    // It stops with the try still open, as one that is killed.
    background.stop().await;
    stack.control().close().await.unwrap();
    let events = crate::events::of(&stack, stack.acme(), None, 0).await;
    let other = stack.replica().await;
    let receiver = Receiver::that([]);
    other.set_webhook_sender(receiver.clone());
    let background = Background::start(&other);
    taken(&stack, "all", events.len()).await;
    background.stop().await;
    assert_eq!(events_of(&receiver.sent()), events.iter().map(|event| event.seq).collect::<Vec<_>>());
    assert_eq!(receiver.sent()[0].delivery.id, deaf.sent()[0].delivery.id);
}

#[tokio::test]
async fn a_slow_receiver_of_one_tenant_holds_up_nobody_else() {
    let stack = Stack::start().await;
    let (acme, blue) = (stack.acme(), stack.blue());
    let receiver = Arc::new(ByTenant { slow: acme.record.id, sent: Mutex::default() });
    stack.control().set_webhook_sender(receiver.clone());
    for name in ["a", "b", "c"] {
        made(stack.control(), acme, name, to_all()).await;
    }
    made(stack.control(), blue, "quick", to_all()).await;
    for number in 0..8 {
        stack.create(acme, &format!("web-{number}"), spec()).await;
    }
    stack.create(blue, "web", spec()).await;
    let background = Background::start(stack.control());
    eventually("the other tenant is told", || async {
        let sent = receiver.sent.lock().unwrap().clone();
        (sent.contains(&blue.record.id) && sent.iter().filter(|one| **one == acme.record.id).count() >= 8).then_some(())
    })
    .await;
    // Four of a webhook, eight of a tenant, and none of them ends.
    let of_slow = receiver.sent.lock().unwrap().iter().filter(|one| **one == acme.record.id).count();
    assert_eq!(of_slow, 8);
    background.stop().await;
}

struct ByTenant {
    slow: wherry_model::TenantId,
    sent: Mutex<Vec<wherry_model::TenantId>>,
}

#[async_trait]
impl WebhookSender for ByTenant {
    fn check_url(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn send(&self, outgoing: Outgoing) -> SendOutcome {
        let tenant = outgoing.delivery.tenant;
        self.sent.lock().unwrap().push(tenant);
        if tenant == self.slow {
            std::future::pending::<()>().await;
        }
        SendOutcome { status: Some(200), error: None }
    }
}

#[tokio::test]
async fn a_try_that_ends_by_a_bug_gives_its_place_back_while_others_are_under_way() {
    let stack = Stack::start().await;
    let (acme, blue) = (stack.acme(), stack.blue());
    // One try that never ends keeps the tasks from being none.
    let receiver = Receiver::that([Answer::Never].into_iter().chain([Answer::Panic; 8]));
    stack.control().set_webhook_sender(receiver.clone());
    made(stack.control(), blue, "slow", to_all()).await;
    stack.create(blue, "web", spec()).await;
    let background = Background::start(stack.control());
    eventually("one is under way for ever", || async {
        (stack.control().webhook_counts().under_way == 1).then_some(())
    })
    .await;
    made(stack.control(), acme, "all", to_all()).await;
    for number in 0..8 {
        stack.create(acme, &format!("web-{number}"), spec()).await;
    }
    taken(&stack, "all", 8).await;
    eventually("only that one is left", || async { (stack.control().webhook_counts().under_way == 1).then_some(()) })
        .await;
    assert!(receiver.sent().len() >= 17, "eight ended by a bug and were made again: {}", receiver.sent().len());
    background.stop().await;
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() {
    let stack = Stack::start().await;
    let receiver = Receiver::that([]);
    stack.control().set_webhook_sender(receiver.clone());
    let acme = stack.acme();
    let of = |request: WebhookRequest| request;
    made(stack.control(), acme, "kinds", of(WebhookRequest { kinds: vec![EventKind::Created], ..to_all() })).await;
    let name = Some("web".parse().unwrap());
    made(stack.control(), acme, "named", of(WebhookRequest { instance: name, ..to_all() })).await;
    let labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
    made(stack.control(), acme, "labels", of(WebhookRequest { labels: labels.clone(), ..to_all() })).await;
    made(stack.control(), acme, "off", of(WebhookRequest { enabled: false, ..to_all() })).await;
    stack.create(acme, "web", spec()).await;
    let mut labelled = spec();
    labelled.labels = labels;
    stack.create(acme, "shop", labelled).await;
    stack.agent().obey().await;
    let background = Background::start(stack.control());
    taken(&stack, "kinds", 2).await;
    taken(&stack, "named", 2).await;
    taken(&stack, "labels", 2).await;
    background.stop().await;
    let told = |log: Vec<DeliveryRecord>| -> BTreeSet<(String, &'static str)> {
        let what = |one: DeliveryRecord| match one.telling {
            Telling::Event(event) => (event.name.to_string(), event.event.kind.as_str()),
            Telling::Ping | Telling::WebhookDisabled { .. } => panic!("nobody asked for it"),
        };
        log.into_iter().map(what).collect()
    };
    let created = |name: &str| (name.to_owned(), EventKind::Created.as_str());
    assert_eq!(told(log(&stack, "kinds").await), [created("web"), created("shop")].into());
    assert!(told(log(&stack, "named").await).iter().all(|(name, _)| name == "web"));
    assert!(told(log(&stack, "labels").await).iter().all(|(name, _)| name == "shop"));
    assert_eq!(log(&stack, "off").await, []);
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_webhook_and_the_others_hear_of_it() {
    let stack = Stack::start().await;
    let receiver = Receiver::that([Answer::Status(410)]);
    stack.control().set_webhook_sender(receiver.clone());
    let acme = stack.acme();
    made(stack.control(), acme, "gone", to_all()).await;
    stack.create(acme, "web", spec()).await;
    made(stack.control(), acme, "other", to_all()).await;
    let gone = named("gone");
    let read = || stack.control().get_webhook(&acme.principal, &acme.project, &gone);
    let background = Background::start(stack.control());
    let disabled = eventually("it is disabled", || async { read().await.unwrap().disabled }).await;
    assert_eq!(disabled.reason, DisabledReason::Gone);
    let refused = stack.control().test_webhook(&acme.principal, &acme.project, &named("gone")).await.unwrap_err();
    assert_eq!(refused.code(), "webhook_disabled");
    taken(&stack, "other", 1).await;
    let told = log(&stack, "other")
        .await
        .into_iter()
        .any(|one| one.telling == Telling::WebhookDisabled { webhook: named("gone"), reason: DisabledReason::Gone });
    assert!(told);
    // What happens while it is off is not told; what happens from then on is.
    stack.create(acme, "unheard", spec()).await;
    let again = |_: &wherry_control::WebhookRecord| Ok::<_, Error>(to_all());
    stack.control().update_webhook(&acme.principal, &acme.project, &named("gone"), again).await.unwrap();
    stack.create(acme, "heard", spec()).await;
    taken(&stack, "gone", 1).await;
    background.stop().await;
    let names: Vec<String> = log(&stack, "gone")
        .await
        .into_iter()
        .filter_map(|one| match one.telling {
            Telling::Event(event) => Some(event.name.to_string()),
            Telling::Ping | Telling::WebhookDisabled { .. } => None,
        })
        .collect();
    assert_eq!(names, ["heard", "web"]);
}

#[tokio::test]
async fn a_ping_is_signed_with_both_secrets_for_a_while_and_made_again_when_asked() {
    let stack = Stack::start().await;
    let receiver = Receiver::that([]);
    stack.control().set_webhook_sender(receiver.clone());
    let (acme, control) = (stack.acme(), stack.control());
    let first = made(control, acme, "all", to_all()).await;
    assert!(first.secret.starts_with("whsec_"));
    let second = control.rotate_webhook_secret(&acme.principal, &acme.project, &named("all")).await.unwrap();
    assert_ne!(first.secret, second.secret);
    let ping = control.test_webhook(&acme.principal, &acme.project, &named("all")).await.unwrap();
    let background = Background::start(control);
    let state = |id: DeliveryId| async move {
        let found = control.get_delivery(&acme.principal, &acme.project, &named("all"), id).await.unwrap();
        (found.state == DeliveryState::Delivered).then_some(found)
    };
    eventually("the ping is taken", || state(ping.id)).await;
    let secrets = |one: &Outgoing| one.secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>();
    assert_eq!(secrets(&receiver.sent()[0]), [second.secret.clone(), first.secret]);
    stack.advance(Duration::from_hours(25));
    let again = control.redeliver(&acme.principal, &acme.project, &named("all"), ping.id).await.unwrap();
    assert_eq!((again.id, again.state), (ping.id, DeliveryState::Waiting));
    let done = eventually("it is taken again", || state(ping.id)).await;
    background.stop().await;
    assert_eq!(done.attempts, 2);
    assert_eq!(secrets(&receiver.sent()[1]), [second.secret]);
}

#[tokio::test]
async fn webhooks_are_bounded_and_their_urls_looked_at() {
    let stack = Stack::builder().configure(|config| config.webhooks.most_per_project = 2).start().await;
    stack.control().set_webhook_sender(Receiver::that([]));
    let (acme, control) = (stack.acme(), stack.control());
    let asked = |name: &str, request| control.create_webhook(&acme.principal, &acme.project, named(name), request);
    let http = WebhookRequest { url: "http://hooks.example".to_owned(), ..to_all() };
    assert_eq!(asked("a", http).await.unwrap_err().field(), Some("url"));
    asked("a", to_all()).await.unwrap();
    assert_eq!(asked("a", to_all()).await.unwrap_err().code(), "name_taken");
    asked("b", to_all()).await.unwrap();
    assert_eq!(asked("c", to_all()).await.unwrap_err().code(), "invalid_field");
    control.delete_webhook(&acme.principal, &acme.project, &named("a")).await.unwrap();
    asked("c", to_all()).await.unwrap();
    let shown = format!("{:?}", control.webhooks(&acme.principal, &acme.project).await.unwrap());
    assert!(!shown.contains("whsec_"), "{shown}");
}
