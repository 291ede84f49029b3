use std::collections::BTreeMap;
use std::time::Duration;

use wherry_control::{Error, InstancePage, ListInstances};
use wherry_model::InstanceState;
use wherry_testkit::{Stack, Tenant, sized};

use crate::support::{delete, stop};

fn all(tenant: &Tenant) -> ListInstances {
    ListInstances {
        project: tenant.project.clone(),
        states: Vec::new(),
        labels: BTreeMap::new(),
        cursor: None,
        limit: 200,
    }
}

async fn list(stack: &Stack, request: ListInstances) -> Result<InstancePage, Error> {
    stack.control().list_instances(&stack.acme().principal, request).await
}

async fn names(stack: &Stack, request: ListInstances) -> Vec<String> {
    let page = list(stack, request).await.unwrap();
    page.views.iter().map(|view| view.instance.name.to_string()).collect()
}

#[tokio::test]
async fn found_by_name_and_by_id_until_it_is_forgotten() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    let web = stack.create(acme, "web", sized(10, 4)).await;
    let id = web.instance.id.to_string();
    assert_eq!(stack.read(acme, &id).await, stack.read(acme, "web").await);
    for unknown in ["other", "not a name", "0190f8a0-0000-7000-8000-000000000001", ""] {
        let missing = control.get_instance(&acme.principal, &acme.project, unknown).await.unwrap_err();
        assert_eq!(missing.code(), "not_found", "{unknown:?}");
    }
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    assert!(control.get_instance(&acme.principal, &acme.project, "web").await.is_err());
    assert_eq!(stack.read(acme, &id).await.instance.state, InstanceState::Deleted);
    stack.advance(control.config().retention + Duration::from_secs(1));
    stack.background().await;
    assert!(control.get_instance(&acme.principal, &acme.project, &id).await.is_err());
}

#[tokio::test]
async fn pages_are_newest_first_and_hold_under_creates() {
    let stack = Stack::start().await;
    for number in 0..5 {
        stack.create(stack.acme(), &format!("web-{number}"), sized(10, 4)).await;
        stack.advance(Duration::from_millis(1));
    }
    let first = list(&stack, ListInstances { limit: 2, ..all(stack.acme()) }).await.unwrap();
    stack.create(stack.acme(), "late", sized(10, 4)).await;
    let mut seen: Vec<String> = first.views.iter().map(|view| view.instance.name.to_string()).collect();
    let mut next = first.next;
    while let Some(cursor) = next {
        let page = list(&stack, ListInstances { limit: 2, cursor: Some(cursor), ..all(stack.acme()) }).await.unwrap();
        assert!(!page.views.is_empty());
        seen.extend(page.views.iter().map(|view| view.instance.name.to_string()));
        next = page.next;
    }
    assert_eq!(seen, ["web-4", "web-3", "web-2", "web-1", "web-0"]);
}

#[tokio::test]
async fn labels_and_states_filter() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    for (name, tier, zone) in [("a", "front", "x"), ("b", "front", "y"), ("c", "back", "x")] {
        let mut spec = sized(10, 4);
        spec.labels = BTreeMap::from([("tier".to_owned(), tier.to_owned()), ("zone".to_owned(), zone.to_owned())]);
        stack.create(acme, name, spec).await;
        stack.advance(Duration::from_millis(1));
    }
    let labelled = |wanted: &[(&str, &str)]| ListInstances {
        labels: wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..all(acme)
    };
    assert_eq!(names(&stack, labelled(&[("tier", "front")])).await, ["b", "a"]);
    assert_eq!(names(&stack, labelled(&[("tier", "front"), ("zone", "x")])).await, ["a"]);
    assert!(names(&stack, labelled(&[("tier", "none")])).await.is_empty());

    stack.agent().obey().await;
    stop(&stack, acme, "a").await.unwrap();
    delete(&stack, acme, "b").await.unwrap();
    stack.agent().obey().await;
    let in_state = |states: &[InstanceState]| ListInstances { states: states.to_vec(), ..all(acme) };
    assert_eq!(names(&stack, all(acme)).await, ["c", "a"], "deleted ones come only when asked for");
    assert_eq!(names(&stack, in_state(&[InstanceState::Stopped])).await, ["a"]);
    assert_eq!(names(&stack, in_state(&[InstanceState::Deleted, InstanceState::Running])).await, ["c", "b"]);
}

#[tokio::test]
async fn limits_and_cursors_are_checked() {
    let stack = Stack::start().await;
    for limit in [0, 201, u32::MAX] {
        let refused = list(&stack, ListInstances { limit, ..all(stack.acme()) }).await.unwrap_err();
        assert_eq!(refused.field(), Some("limit"));
    }
    for cursor in ["", "x", "🦀", "NDIvMQ"] {
        let request = ListInstances { cursor: Some(cursor.to_owned()), ..all(stack.acme()) };
        assert_eq!(list(&stack, request).await.unwrap_err().field(), Some("cursor"), "{cursor:?}");
    }
}
