use std::collections::BTreeSet;
use std::time::Duration;

use wherry_agent_api::NodeHello;
use wherry_control::Error;
use wherry_model::{
    Architecture, Capacity, DnsReuseScope, InstanceSpec, InstanceState, Isolation, IsolationSet, TenantName,
};
use wherry_testkit::{Node, Stack, interrupted, sized, spec};

use crate::support::{asked, create, delete, keyed, used};

#[tokio::test]
async fn a_create_is_placed_and_priced() {
    let stack = Stack::start().await;
    let created = create(stack.control(), stack.acme(), asked(Some("web"), spec())).await.unwrap();
    assert!(!created.replayed);
    let instance = &created.view.instance;
    assert_eq!((instance.state, instance.holds_resources), (InstanceState::Scheduled, true));
    assert_eq!(instance.node, Some(stack.agent().node()));
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity { cpu_millis: 250, memory_mib: 64, instances: 1 });
    assert_eq!(created.view.cost.per_hour.0, 3_600 * (250 * 10_000 + 64 * 1_000));
    assert_eq!(created.view.cost.so_far.0, 0);
    assert!(created.view.fqdn.starts_with("web.") && created.view.fqdn.ends_with(".local.wherry.internal"));
}

#[tokio::test]
async fn a_key_gives_the_same_instance_also_after_a_restart_and_its_end() {
    let mut stack = Stack::start().await;
    let request = keyed(None, spec(), "order-1");
    let first = create(stack.control(), stack.acme(), request.clone()).await.unwrap();
    stack.reopen().await;
    let again = create(stack.control(), stack.acme(), request.clone()).await.unwrap();
    assert_eq!((again.replayed, again.view.instance), (true, first.view.instance.clone()));

    stack.greet().await;
    delete(&stack, stack.acme(), first.view.instance.name.as_str()).await.unwrap();
    stack.agent().obey().await;
    let gone = create(stack.control(), stack.acme(), request).await.unwrap();
    assert_eq!((gone.replayed, gone.view.instance.id), (true, first.view.instance.id));
    assert_eq!(gone.view.instance.state, InstanceState::Deleted);
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity::default());
}

#[tokio::test]
async fn a_key_used_for_something_else_is_refused() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    create(control, acme, keyed(Some("web"), spec(), "k")).await.unwrap();
    for other in [keyed(Some("web2"), spec(), "k"), keyed(None, spec(), "k"), keyed(Some("web"), sized(10, 4), "k")] {
        let refused = create(control, acme, other).await.unwrap_err();
        assert!(matches!(refused, Error::IdempotencyMismatch), "{refused}");
        assert_eq!(refused.field(), Some("Idempotency-Key"));
    }
    let of_another_tenant = create(control, stack.blue(), keyed(Some("web"), spec(), "k")).await.unwrap();
    assert!(!of_another_tenant.replayed, "keys belong to their tenant");
    for wrong in ["", "tab\there", "ä", &"x".repeat(256)] {
        let refused = create(control, acme, keyed(None, spec(), wrong)).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidField(_)), "{wrong:?}: {refused}");
    }
}

#[tokio::test]
async fn a_name_is_taken_until_its_instance_is_gone() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    let first = stack.create(acme, "web", spec()).await;
    let refused = create(control, acme, asked(Some("web"), spec())).await.unwrap_err();
    assert!(matches!(refused, Error::NameTaken(_)), "{refused}");
    assert_eq!(used(&stack, stack.agent().node()).await.instances, 1, "a refused create takes nothing");
    stack.create(stack.blue(), "web", spec()).await;

    delete(&stack, acme, "web").await.unwrap();
    let still = create(control, acme, asked(Some("web"), spec())).await.unwrap_err();
    assert!(matches!(still, Error::NameTaken(_)), "{still}");
    stack.agent().obey().await;
    let second = stack.create(acme, "web", spec()).await;
    assert_ne!(second.instance.id, first.instance.id);
    assert_eq!(second.fqdn, first.fqdn);
}

#[tokio::test]
async fn a_taken_name_is_told_even_when_nothing_has_room() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    stack.create(stack.acme(), "web", sized(1_000, 1_024)).await;
    let refused = create(stack.control(), stack.acme(), asked(Some("web"), spec())).await.unwrap_err();
    assert!(matches!(refused, Error::NameTaken(_)), "waiting for capacity would not help: {refused}");
}

#[tokio::test]
async fn a_repeated_create_gets_the_first_answer_though_its_name_is_in_use_and_nothing_has_room() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let request = || keyed(Some("web"), sized(1_000, 1_024), "k");
    let first = create(stack.control(), stack.acme(), request()).await.unwrap();
    let again = create(stack.control(), stack.acme(), request()).await.unwrap();
    assert_eq!((again.view.instance, again.replayed), (first.view.instance, true));
}

#[tokio::test]
async fn who_gives_no_name_gets_one() {
    let stack = Stack::start().await;
    let mut names = BTreeSet::new();
    for _ in 0..10 {
        let created = create(stack.control(), stack.acme(), asked(None, sized(10, 4))).await.unwrap();
        names.insert(created.view.instance.name);
    }
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.as_str().starts_with("i-")), "{names:?}");
}

#[tokio::test]
async fn no_room_says_why_and_when_to_come_back() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let (control, acme) = (stack.control(), stack.acme());
    stack.create(acme, "big", sized(800, 1_000)).await;

    let refused = create(control, acme, asked(Some("web"), spec())).await.unwrap_err();
    assert_eq!((refused.code(), refused.retry_after()), ("capacity_unavailable", Some(Duration::from_secs(30))));
    let sentence = refused.to_string();
    assert!(sentence.contains("250m CPU") && sentence.contains("try again later"), "{sentence}");
    assert!(!sentence.contains("node-0") && !sentence.contains(&stack.agent().node().to_string()), "{sentence}");

    let never = create(control, acme, asked(None, sized(1_001, 64))).await.unwrap_err().to_string();
    assert!(never.contains("more than any machine has"), "{never}");
    let mut arm = spec();
    arm.architecture = Some(Architecture::Arm64);
    let elsewhere = create(control, acme, asked(None, arm)).await.unwrap_err().to_string();
    assert!(elsewhere.contains("arm64"), "{elsewhere}");

    delete(&stack, acme, "big").await.unwrap();
    stack.agent().obey().await;
    create(control, acme, asked(Some("web"), spec())).await.expect("what was given back is there again");
}

#[tokio::test]
async fn a_wrong_spec_names_its_field_and_stores_nothing() {
    let stack = Stack::start().await;
    let refused = create(stack.control(), stack.acme(), asked(Some("web"), sized(1, 64))).await.unwrap_err();
    assert_eq!((refused.code(), refused.field()), ("invalid_field", Some("containers[0].cpu")));
    let elsewhere = wherry_control::CreateInstance { project: "none".parse().unwrap(), ..asked(Some("web"), spec()) };
    let refused = create(stack.control(), stack.acme(), elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), "not_found");
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity::default());
    stack.create(stack.acme(), "web", spec()).await;
}

#[tokio::test]
async fn a_refusing_row_teaches_and_the_next_node_is_proposed() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024), Node::sized(1_000, 1_024)]).start().await;
    let behind = stack.replica().await;
    let first = stack.create(stack.acme(), "first", sized(1_000, 1_024)).await;
    // The replica still believes that both are empty, and would take the same one.
    let second = create(&behind, stack.blue(), asked(Some("second"), sized(1_000, 1_024))).await.unwrap();
    assert_ne!(second.view.instance.node, first.instance.node);
    let none = create(&behind, stack.blue(), asked(Some("third"), spec())).await.unwrap_err();
    assert_eq!(none.code(), "capacity_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_that_race_for_the_last_room_never_get_more_than_there_is() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let replicas = [stack.control().clone(), stack.replica().await];
    let mut racing = Vec::new();
    for number in 0..24 {
        let (control, acme) = (replicas[number % 2].clone(), stack.acme().clone());
        racing.push(tokio::spawn(async move {
            create(&control, &acme, asked(Some(&format!("web-{number}")), sized(300, 64))).await
        }));
    }
    let mut placed = 0;
    for racer in racing {
        match racer.await.unwrap() {
            Ok(_) => placed += 1,
            Err(error) => assert_eq!(error.code(), "capacity_unavailable", "{error}"),
        }
    }
    assert_eq!(placed, 3);
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity { cpu_millis: 900, memory_mib: 192, instances: 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_creates_with_one_key_make_one_instance() {
    let stack = Stack::start().await;
    let replicas = [stack.control().clone(), stack.replica().await];
    let racing: Vec<_> = (0..10)
        .map(|number| {
            let (control, acme) = (replicas[number % 2].clone(), stack.acme().clone());
            tokio::spawn(async move { create(&control, &acme, keyed(None, spec(), "once")).await.unwrap() })
        })
        .collect();
    let mut ids = BTreeSet::new();
    let mut created = 0;
    for racer in racing {
        let made = racer.await.unwrap();
        created += u32::from(!made.replayed);
        ids.insert(made.view.instance.id);
    }
    assert_eq!((ids.len(), created), (1, 1));
    assert_eq!(used(&stack, stack.agent().node()).await.instances, 1);
}

#[tokio::test]
async fn a_create_cut_off_anywhere_is_there_once_or_not_at_all() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let acme = stack.acme();
    let (mut cut_off, mut polls) = (0, 0);
    loop {
        polls += 1 + polls / 8;
        let name = format!("web-{polls}");
        let request = keyed(Some(&name), sized(1_000, 1_024), &name);
        let done = interrupted(polls, create(stack.control(), acme, request.clone())).await;
        stack.quiet().await;
        // It takes the whole node: a second one, or a place that stays reserved for nobody, would leave no room.
        let again = create(stack.control(), acme, request).await.unwrap();
        assert_eq!(used(&stack, stack.agent().node()).await.instances, 1, "after {polls} polls");
        delete(&stack, acme, again.view.instance.name.as_str()).await.unwrap();
        stack.agent().obey().await;
        if done.is_some() {
            assert!(again.replayed);
            assert!(cut_off > 3, "the create was cut off nowhere");
            return;
        }
        cut_off += 1;
    }
}

#[tokio::test]
async fn tenants_are_made_once() {
    let stack = Stack::start().await;
    let control = stack.control();
    let again = control.ensure_tenant(TenantName::new("acme").unwrap()).await.unwrap();
    assert_eq!(again, stack.acme().record);
    let taken = control.create_tenant(stack.operator(), TenantName::new("acme").unwrap()).await.unwrap_err();
    assert_eq!(taken.code(), "name_taken");
}

/// Whatever scope is asked for: who still asks for a name that is free again reaches its former tenant or nobody.
#[tokio::test]
async fn a_stranger_never_gets_a_name_that_was_anothers() {
    let stack = Stack::start().await;
    let scopes = [DnsReuseScope::Project, DnsReuseScope::Tenant, DnsReuseScope::None];
    let shop = |scope| InstanceSpec { dns_label: Some("shop".parse().unwrap()), dns_reuse_scope: scope, ..spec() };
    let mut mine = Vec::new();
    for (number, scope) in scopes.into_iter().enumerate() {
        let name = format!("web-{number}");
        let created = create(stack.control(), stack.acme(), asked(Some(&name), shop(scope))).await.unwrap();
        assert!(created.view.fqdn.starts_with("shop."), "{}", created.view.fqdn);
        mine.push(created.view.fqdn);
        let taken = create(stack.control(), stack.acme(), asked(None, shop(scope))).await;
        match taken {
            Ok(other) => assert!(scope == DnsReuseScope::None && !mine.contains(&other.view.fqdn)),
            Err(refused) => {
                assert!(matches!(&refused, Error::DnsLabelTaken(label) if label == "shop"), "{refused}");
                assert_eq!((refused.code(), refused.field()), ("dns_label_taken", Some("dns_label")));
            }
        }
        stack.greet().await;
        delete(&stack, stack.acme(), &name).await.unwrap();
        stack.agent().obey().await;
    }
    for scope in scopes {
        let theirs = create(stack.control(), stack.blue(), asked(None, shop(scope))).await.unwrap().view.fqdn;
        assert!(!mine.contains(&theirs), "{theirs}");
    }
    let again = create(stack.control(), stack.acme(), asked(None, shop(DnsReuseScope::Tenant))).await.unwrap();
    assert_eq!(again.view.fqdn, mine[1], "it is free for its own tenant");
    let anew = create(stack.control(), stack.acme(), asked(Some("web-2"), shop(DnsReuseScope::None))).await.unwrap();
    assert!(!mine.contains(&anew.view.fqdn), "{}", anew.view.fqdn);
}

#[tokio::test]
async fn a_class_goes_where_it_is_offered_or_is_refused_with_those_that_are() {
    let stack = Stack::builder().nodes([Node::sized(4_000, 4_096); 2]).start().await;
    let apart = || InstanceSpec { isolation: Isolation::Sandboxed, ..spec() };
    let refused = create(stack.control(), stack.acme(), asked(None, apart())).await.unwrap_err();
    assert_eq!(refused.field(), Some("isolation"));
    assert!(refused.to_string().contains("no machine here offers sandboxed; there is: shared"), "{refused}");
    let offering = &stack.agents()[1];
    let isolation: IsolationSet = [Isolation::Sandboxed].into_iter().collect();
    offering.hello_as(NodeHello { isolation, ..offering.introduction().clone() }).await.unwrap();
    for _ in 0..3 {
        let made = create(stack.control(), stack.acme(), asked(None, apart())).await.unwrap();
        assert_eq!(made.view.instance.node, Some(offering.node()));
    }
    let large = InstanceSpec { isolation: Isolation::Sandboxed, ..sized(4_000, 64) };
    let full = create(stack.control(), stack.acme(), asked(None, large)).await.unwrap_err();
    assert!(matches!(&full, Error::CapacityUnavailable(why) if why.contains("with isolation sandboxed")), "{full}");
}
