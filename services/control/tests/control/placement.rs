//! Where instances go by what they ask, why they do not, and what operators are told of it.

use wherry_agent_api::NodeHello;
use wherry_control::{CreateInstance, Error, ExplainInstance, NewNodes, WhatIf};
use wherry_model::{
    CpuMillis, EndReason, EventKind, InstanceSpec, InstanceState, MemoryMib, NodeId, Overcommit, PlacementRules,
    Priority, SpreadOver, SpreadRule,
};
use wherry_testkit::{Node, Stack, Tenant, sized};

use crate::support::{seconds, start};

const HALF: Node = Node::sized(1_000, 2_048);

fn labelled(app: &str, placement: PlacementRules) -> InstanceSpec {
    let labels = [("app".to_owned(), app.to_owned())].into_iter().collect();
    InstanceSpec { labels, placement, ..sized(100, 64) }
}

fn spot(cpu: u32, memory: u32) -> InstanceSpec {
    InstanceSpec { priority: Priority::Spot, ..sized(cpu, memory) }
}

async fn node_of(stack: &Stack, tenant: &Tenant, name: &str) -> NodeId {
    stack.read(tenant, name).await.instance.node.unwrap()
}

async fn refusal(stack: &Stack, tenant: &Tenant, spec: InstanceSpec) -> Error {
    let request = CreateInstance { project: tenant.project.clone(), name: None, spec, idempotency_key: None };
    stack.control().create_instance(&tenant.principal, request).await.unwrap_err()
}

/// Machine `index` stands in `zone` from now on.
async fn stands_in(stack: &Stack, index: usize, zone: &str) {
    let agent = &stack.agents()[index];
    agent.hello_as(NodeHello { zone: Some(zone.parse().unwrap()), ..agent.introduction().clone() }).await.unwrap();
}

#[tokio::test]
async fn a_decision_explains_itself_to_operators_and_in_other_words_to_tenants() {
    let stack = Stack::builder().nodes([HALF, HALF, Node::sized(4_000, 256)]).start().await;
    let (control, operator, acme) = (stack.control(), stack.operator(), stack.acme());
    let told = control.explain_spec(operator, Some("acme"), &sized(500, 1_024)).await.unwrap();
    assert_eq!((told.nodes, told.fits, told.best.len(), told.told), (3, 2, 2, None));
    assert_eq!(told.refused.iter().map(|one| (one.rule, one.nodes)).collect::<Vec<_>>(), [("memory", 1)]);

    stack.create(acme, "web", sized(900, 1_024)).await;
    let request = |instance: &str| ExplainInstance {
        tenant: Some("acme".to_owned()),
        project: acme.project.clone(),
        instance: instance.to_owned(),
    };
    let of_web = control.explain_instance(operator, &request("web")).await.unwrap();
    let (state, place) = of_web.instance.unwrap();
    assert_eq!((state, place.unwrap().0), (InstanceState::Scheduled, node_of(&stack, acme, "web").await));
    assert_eq!(of_web.fits, 2, "what it holds is free for it");
    assert_eq!(control.explain_instance(operator, &request("other")).await.unwrap_err().code(), "not_found");
    let unknown = control.explain_spec(operator, Some("nobody"), &sized(1, 1)).await.unwrap_err();
    assert_eq!(unknown.code(), "invalid_field", "the spec is looked at first");

    stack.create(acme, "other", sized(900, 1_024)).await;
    let refused = refusal(&stack, acme, sized(950, 2_000)).await.to_string();
    assert!(
        refused.contains("with too little CPU left") && refused.contains("with too little memory left"),
        "{refused}"
    );
    let dry = control.dry_run(&acme.principal, &acme.project, None, &sized(950, 2_000)).await.unwrap();
    let why = dry.why_not.unwrap();
    assert!(why.contains("too little") && !why.contains("node-"), "{why}");
}

#[tokio::test]
async fn what_emptying_a_machine_would_move_and_what_new_ones_would_take() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let (control, operator, acme) = (stack.control(), stack.operator(), stack.acme());
    for name in ["one", "two"] {
        stack.create(acme, name, sized(600, 512)).await;
    }
    let room = control.room().await.unwrap();
    assert_eq!((room.used_nodes, room.sampled_nodes, room.shapes.len()), (2, 2, 1));
    let shape = room.shapes[0];
    assert_eq!((shape.instances, shape.fits, shape.fits_by_totals), (2, 0, 1), "800 millis are free, in two pieces");
    assert_eq!((room.stranded_cpu_millis, room.stranded_memory_mib > 2_000), (0, true));

    let drain = |add| WhatIf { drain: vec!["node-0".to_owned()], add };
    let alone = control.what_if(operator, &drain(None)).await.unwrap();
    assert_eq!((alone.moved, alone.stuck, alone.moves.len()), (1, 1, 1));
    assert!(alone.moves[0].to.is_err());
    let helped = control.what_if(operator, &drain(Some((2, NewNodes::Like("node-1".to_owned()))))).await.unwrap();
    assert_eq!((helped.moved, helped.stuck), (1, 0));
    assert_eq!(helped.moves[0].to.as_deref(), Ok("new-1"));
    let sized = NewNodes::Sized(CpuMillis::new(6_000), MemoryMib::new(8_192));
    let more = control.what_if(operator, &WhatIf { drain: Vec::new(), add: Some((1, sized)) }).await.unwrap();
    assert_eq!((more.before.shapes[0].fits, more.after.shapes[0].fits), (0, 10));
    let nobody = WhatIf { drain: vec!["lyon".to_owned()], add: None };
    assert_eq!(control.what_if(operator, &nobody).await.unwrap_err().code(), "not_found");
    assert_eq!(control.node_statuses(operator).await.unwrap()[0].drain, None, "nothing was changed");
}

#[tokio::test]
async fn a_zone_is_kept_and_one_that_is_not_there_is_refused() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let acme = stack.acme();
    let zoned = |zone: &str| InstanceSpec { zone: Some(zone.parse().unwrap()), ..sized(100, 64) };
    let refused = refusal(&stack, acme, zoned("east")).await;
    assert_eq!((refused.code(), refused.field()), ("invalid_field", Some("zone")));
    stands_in(&stack, 0, "west").await;
    stands_in(&stack, 1, "east").await;
    for (index, zone) in ["west", "east"].into_iter().enumerate() {
        for number in 0..2 {
            let name = format!("{zone}-{number}");
            stack.create(acme, &name, zoned(zone)).await;
            assert_eq!(node_of(&stack, acme, &name).await, stack.agents()[index].node());
        }
    }
    assert_eq!(
        refusal(&stack, acme, InstanceSpec { zone: Some("east".parse().unwrap()), ..sized(900, 64) }).await.code(),
        "capacity_unavailable"
    );
}

#[tokio::test]
async fn a_dedicated_instance_is_alone_with_its_tenant() {
    let stack = Stack::builder().nodes([HALF, HALF]).start().await;
    let (acme, blue) = (stack.acme(), stack.blue());
    let dedicated = InstanceSpec { dedicated: true, ..sized(100, 64) };
    stack.create(blue, "theirs", sized(100, 64)).await;
    stack.create(acme, "mine", dedicated.clone()).await;
    let (theirs, mine) = (node_of(&stack, blue, "theirs").await, node_of(&stack, acme, "mine").await);
    assert_ne!(theirs, mine);
    stack.create(acme, "beside", sized(100, 64)).await;
    assert_eq!(node_of(&stack, acme, "beside").await, mine, "what a tenant has alone is filled up by it first");
    for name in ["a", "b"] {
        stack.create(blue, name, sized(400, 64)).await;
        assert_eq!(node_of(&stack, blue, name).await, theirs);
    }
    let full = refusal(&stack, blue, sized(400, 64)).await;
    assert_eq!(full.code(), "capacity_unavailable");
    let status = stack.control().get_node(stack.operator(), &mine.to_string()).await.unwrap();
    assert_eq!(status.record.offer.sole_tenant, Some(acme.record.id));
}

#[tokio::test]
async fn instances_are_spread_put_near_and_kept_apart() {
    let mut stack = Stack::builder().nodes([HALF, HALF, HALF]).start().await;
    for (index, zone) in ["west", "west", "east"].into_iter().enumerate() {
        stands_in(&stack, index, zone).await;
    }
    let spread = |over| PlacementRules {
        spread: vec![SpreadRule { label: "app".to_owned(), max_skew: 1, over }],
        ..PlacementRules::default()
    };
    let mut nodes = std::collections::BTreeSet::new();
    for name in ["web-1", "web-2", "web-3"] {
        stack.create(stack.acme(), name, labelled("web", spread(SpreadOver::Nodes))).await;
        nodes.insert(node_of(&stack, stack.acme(), name).await);
    }
    assert_eq!(nodes.len(), 3, "one on each");
    let east = stack.agents()[2].node();
    for name in ["db-1", "db-2"] {
        stack.create(stack.acme(), name, labelled("db", spread(SpreadOver::Zones))).await;
    }
    let in_east = [node_of(&stack, stack.acme(), "db-1").await, node_of(&stack, stack.acme(), "db-2").await];
    assert_eq!(in_east.iter().filter(|node| **node == east).count(), 1, "one in each zone");

    let near = PlacementRules { near: vec!["app=db".parse().unwrap()], ..PlacementRules::default() };
    let apart = PlacementRules { apart: vec!["app=db".parse().unwrap()], ..PlacementRules::default() };
    for name in ["near-1", "near-2"] {
        stack.create(stack.acme(), name, labelled("cache", near.clone())).await;
        assert!(in_east.contains(&node_of(&stack, stack.acme(), name).await));
    }
    stack.create(stack.acme(), "apart", labelled("batch", apart.clone())).await;
    let free_of_it = node_of(&stack, stack.acme(), "apart").await;
    assert!(!in_east.contains(&free_of_it));
    // Another tenant's labels are another tenant's.
    let nowhere = refusal(&stack, stack.blue(), labelled("x", near)).await.to_string();
    assert!(nowhere.contains("without what it must be near to"), "{nowhere}");

    // A process that starts anew knows who is where, and that what keeps apart keeps others away too.
    stack.reopen().await;
    stack.greet().await;
    for number in 0..3 {
        let name = format!("db-late-{number}");
        stack.create(stack.acme(), &name, labelled("db", PlacementRules::default())).await;
        assert_ne!(node_of(&stack, stack.acme(), &name).await, free_of_it);
    }
}

#[tokio::test]
async fn spot_instances_make_room_after_a_notice() {
    let stack = Stack::builder().nodes([HALF]).start().await;
    let acme = stack.acme();
    let dear = stack.create(acme, "dear", sized(100, 64)).await;
    let cheap = stack.create(acme, "cheap", spot(100, 64)).await;
    assert_eq!(cheap.cost.per_hour.0 * 2, dear.cost.per_hour.0);
    stack.create(acme, "batch", spot(700, 1_024)).await;
    stack.agent().obey().await;

    let refused = refusal(&stack, acme, spot(500, 512)).await.to_string();
    assert!(!refused.contains("make room"), "spot does not drive spot away: {refused}");
    let refused = refusal(&stack, acme, sized(500, 512)).await.to_string();
    assert!(refused.contains("try again in 30 seconds"), "{refused}");
    let told = stack.read(acme, "batch").await.instance;
    assert_eq!((told.state, told.evict_at.is_some()), (InstanceState::Running, true));
    assert_eq!(stack.read(acme, "cheap").await.instance.evict_at, None, "the one that is enough has to go");
    // Who asks again meanwhile drives nobody else away.
    stack.let_pass(seconds(1)).await;
    stack.agent().heartbeat().await.unwrap();
    refusal(&stack, acme, sized(500, 512)).await;
    assert_eq!(stack.read(acme, "cheap").await.instance.evict_at, None);

    for _ in 0..4 {
        stack.let_pass(seconds(8)).await;
        stack.agent().heartbeat().await.unwrap();
    }
    stack.background().await;
    stack.agent().obey().await;
    let evicted = stack.read(acme, "batch").await.instance;
    assert_eq!((evicted.state, evicted.reason), (InstanceState::Stopped, Some(EndReason::Evicted)));
    assert_eq!(evicted.evict_at, None);
    let events = crate::events::of(&stack, acme, None, 0).await;
    assert!(events.iter().any(|event| event.event.kind == EventKind::Leaving && event.event.message.contains("room")));
    stack.create(acme, "regular", sized(500, 512)).await;
    stack.agent().obey().await;
    start(&stack, acme, "cheap").await.unwrap();
    assert_eq!(stack.read(acme, "cheap").await.instance.state, InstanceState::Running);
}

#[tokio::test]
async fn nobody_makes_room_for_what_would_be_refused_all_the_same_or_was_made_before() {
    let stack = Stack::builder().nodes([HALF]).start().await;
    let acme = stack.acme();
    let (first, asked) = (sized(300, 512), |name| crate::support::keyed(name, sized(300, 512), "one key"));
    let made = crate::support::create(stack.control(), acme, asked(None)).await.unwrap();
    let called_shop = InstanceSpec { dns_label: Some("shop".parse().unwrap()), ..spot(700, 1_024) };
    stack.create(acme, "batch", called_shop).await;
    stack.agent().obey().await;

    let same_label = InstanceSpec { dns_label: Some("shop".parse().unwrap()), ..first.clone() };
    assert_eq!(refusal(&stack, acme, same_label).await.code(), "dns_label_taken");
    let again = crate::support::create(stack.control(), acme, asked(None)).await.unwrap();
    assert_eq!((again.view.instance.id, again.replayed), (made.view.instance.id, true));
    let other = crate::support::keyed(None, sized(301, 512), "one key");
    let reused = crate::support::create(stack.control(), acme, other).await.unwrap_err();
    assert!(matches!(reused, Error::IdempotencyMismatch), "{reused}");
    assert_eq!(stack.read(acme, "batch").await.instance.evict_at, None, "nobody was told to leave");
    // The same without a reason against it: somebody is.
    assert_eq!(refusal(&stack, acme, first).await.code(), "capacity_unavailable");
    assert!(stack.read(acme, "batch").await.instance.evict_at.is_some());
}

#[tokio::test]
async fn a_machine_hands_out_more_than_it_has_where_the_operator_says_so() {
    let overcommit = Overcommit { cpu_percent: 200, ..Overcommit::default() };
    let stack = Stack::builder().nodes([HALF]).configure(|config| config.overcommit = overcommit).start().await;
    let acme = stack.acme();
    stack.create(acme, "one", sized(1_500, 1_024)).await;
    stack.create(acme, "two", sized(500, 1_024)).await;
    assert_eq!(refusal(&stack, acme, sized(100, 64)).await.code(), "capacity_unavailable");
    let status = stack.control().get_node(stack.operator(), "node-0").await.unwrap();
    assert_eq!((status.record.offer.overcommit, status.record.used.cpu_millis), (overcommit, 2_000));
}

#[tokio::test]
async fn disk_that_is_asked_for_is_kept() {
    let stack = Stack::builder().nodes([HALF]).start().await;
    let acme = stack.acme();
    let agent = stack.agent();
    agent.hello_as(NodeHello { disk_mib: Some(1_024), ..agent.introduction().clone() }).await.unwrap();
    let on_disk = |mib| InstanceSpec { ephemeral_disk: Some(MemoryMib::new(mib)), ..sized(100, 64) };
    stack.create(acme, "one", on_disk(1_000)).await;
    let refused = refusal(&stack, acme, on_disk(100)).await.to_string();
    assert!(refused.contains("with too little disk left"), "{refused}");
    stack.create(acme, "two", sized(100, 64)).await;
    stack.create(acme, "three", on_disk(24)).await;
}
