use futures_util::StreamExt;
use wherry_control::{Error, EventsRequest};
use wherry_model::EventKind;
use wherry_store::StoredEvent;
use wherry_testkit::{PATIENCE, Stack, Tenant, spec};

use crate::support::{delete, start, stop};

fn request(tenant: &Tenant, instance: Option<&str>, after: u64, limit: u32) -> EventsRequest {
    EventsRequest { project: tenant.project.clone(), instance: instance.map(str::to_owned), after, limit }
}

pub(crate) async fn of(stack: &Stack, tenant: &Tenant, instance: Option<&str>, after: u64) -> Vec<StoredEvent> {
    stack.control().events(&tenant.principal, &request(tenant, instance, after, 1_000)).await.unwrap()
}

fn kinds(events: &[StoredEvent]) -> Vec<EventKind> {
    events.iter().map(|stored| stored.event.kind).collect()
}

#[tokio::test]
async fn events_are_in_order_and_can_be_read_from_any_number() {
    let mut stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.create(stack.acme(), "other", spec()).await;
    stack.agent().obey().await;
    stop(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;

    let of_web = of(&stack, stack.acme(), Some("web"), 0).await;
    use EventKind as K;
    let wanted =
        [K::Created, K::PullStarted, K::Pulled, K::ContainerStarted, K::StopRequested, K::ContainerExited, K::Stopped];
    assert_eq!(kinds(&of_web), wanted);
    let all = of(&stack, stack.acme(), None, 0).await;
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(all.len(), of_web.len() + 4);
    assert!(of(&stack, stack.blue(), None, 0).await.is_empty());

    stack.reopen().await;
    assert_eq!(of(&stack, stack.acme(), None, 0).await, all);
    assert_eq!(of(&stack, stack.acme(), None, all[4].seq).await, all[5..]);
    let two = stack.control().events(&stack.acme().principal, &request(stack.acme(), None, 0, 2)).await.unwrap();
    assert_eq!(two, all[..2]);
}

#[tokio::test]
async fn a_stream_replays_and_goes_on() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "web", spec()).await;
    stack.create(acme, "other", spec()).await;
    let first = of(&stack, acme, Some("web"), 0).await;
    let mut stream = stack
        .control()
        .event_stream(&acme.principal, &request(acme, Some("web"), 0, 1))
        .await
        .unwrap()
        .map(|event| event.unwrap());
    assert_eq!(stream.next().await.unwrap(), first[0]);

    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(event) = stream.next().await {
            seen.push(event.event.kind);
            if event.event.kind == EventKind::Deleted {
                break;
            }
        }
        seen
    });
    stack.agent().obey().await;
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    let seen = tokio::time::timeout(PATIENCE, reader).await.expect("the stream brings the last event").unwrap();
    use EventKind as K;
    let wanted = [K::PullStarted, K::Pulled, K::ContainerStarted, K::DeleteRequested, K::ContainerExited, K::Deleted];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn the_oldest_events_go_and_who_comes_back_from_before_is_told() {
    let stack = Stack::builder().configure(|config| config.events_per_instance = 4).start().await;
    let acme = stack.acme();
    stack.create(acme, "calm", spec()).await;
    stack.create(acme, "busy", spec()).await;
    stack.agent().obey().await;
    for _ in 0..3 {
        stop(&stack, acme, "busy").await.unwrap();
        stack.agent().obey().await;
        start(&stack, acme, "busy").await.unwrap();
        stack.agent().obey().await;
    }
    let (calm, busy) = (of(&stack, acme, Some("calm"), 0).await, of(&stack, acme, Some("busy"), 0).await);
    assert!(busy.len() > 10, "{busy:?}");
    // A reader of old who has not gone on since.
    let mut slow =
        stack.control().event_stream(&acme.principal, &request(acme, Some("busy"), busy[0].seq, 1)).await.unwrap();
    let used = stack.control().instance_usage(&acme.principal, &acme.project, "busy").await.unwrap();
    stack.background().await;

    let kept = &busy[busy.len() - 4..];
    let last_gone = busy[busy.len() - 5].seq;
    assert_eq!(of(&stack, acme, Some("busy"), 0).await, kept);
    assert_eq!(of(&stack, acme, Some("busy"), last_gone).await, kept, "nothing behind that number is gone");
    assert_eq!(of(&stack, acme, Some("calm"), calm[0].seq).await, calm[1..], "another's are not");
    let gone = |found: Result<_, Error>| match found.map(|(): ()| ()).unwrap_err() {
        Error::EventsForgotten { after, through } => (after, through),
        other => panic!("{other}"),
    };
    for (instance, after) in [(Some("busy"), busy[0].seq), (Some("busy"), last_gone - 1), (None, calm[0].seq)] {
        let request = request(acme, instance, after, 100);
        let page = stack.control().events(&acme.principal, &request).await;
        assert_eq!(gone(page.map(drop)), (after, last_gone));
        let stream = stack.control().event_stream(&acme.principal, &request).await;
        assert_eq!(gone(stream.map(drop)), (after, last_gone));
    }
    assert_eq!(gone(slow.next().await.unwrap().map(drop)), (busy[0].seq, last_gone), "the reader of old is told too");
    let now = stack.control().instance_usage(&acme.principal, &acme.project, "busy").await.unwrap();
    assert_eq!(format!("{now:?}"), format!("{used:?}"), "no bill depends on events");
}
