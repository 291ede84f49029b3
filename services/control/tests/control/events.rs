use futures_util::StreamExt;
use wherry_control::EventsRequest;
use wherry_model::EventKind;
use wherry_store::StoredEvent;
use wherry_testkit::{PATIENCE, Stack, Tenant, spec};

use crate::support::{delete, stop};

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
