//! Machines that are emptied.

use wherry_control::{DrainProgress, DrainRequest, NodeStatus};
use wherry_model::{DrainThen, EndReason, InstanceState, NodeState};
use wherry_testkit::{Node, ScriptedAgent, Stack, Tenant, interrupted, replaceable, sized, spec};

use crate::support::{delete, seconds, start, state, stop, work};

const HALF: Node = Node::sized(1_000, 2_048);

fn drain(grace: u64, then: DrainThen) -> DrainRequest {
    DrainRequest { grace: seconds(grace), then }
}

struct Two {
    stack: Stack,
    full: ScriptedAgent,
    empty: ScriptedAgent,
}

impl Two {
    /// Two machines; three instances run on one of them.
    async fn start() -> Self {
        let stack = Stack::builder().nodes([HALF, HALF]).start().await;
        for name in ["one", "two", "three"] {
            stack.create(stack.acme(), name, spec()).await;
        }
        let node = stack.read(stack.acme(), "one").await.instance.node;
        let (mut full, mut empty) = (None, None);
        for agent in stack.agents() {
            agent.obey().await;
            let slot = if Some(agent.node()) == node { &mut full } else { &mut empty };
            *slot = Some(agent.clone());
        }
        Self { full: full.unwrap(), empty: empty.unwrap(), stack }
    }

    fn acme(&self) -> &Tenant {
        self.stack.acme()
    }

    fn id(&self) -> String {
        self.full.node().to_string()
    }

    async fn drain(&self, request: DrainRequest) -> NodeStatus {
        self.stack.control().drain_node(self.stack.operator(), &self.id(), request).await.unwrap()
    }

    async fn progress(&self) -> DrainProgress {
        let status = self.stack.control().get_node(self.stack.operator(), &self.id()).await.unwrap();
        status.drain.expect("the machine is being emptied")
    }

    async fn states(&self) -> Vec<InstanceState> {
        let mut states = Vec::new();
        for name in ["one", "two", "three"] {
            states.push(state(&self.stack, self.acme(), name).await);
        }
        states
    }
}

#[tokio::test]
async fn a_drain_waits_its_grace_and_then_moves_what_is_left() {
    let two = Two::start().await;
    let stack = &two.stack;
    let status = two.drain(drain(60, DrainThen::Move)).await;
    assert_eq!(status.record.state, NodeState::Draining);
    assert_eq!(two.progress().await, DrainProgress { left: 3, staying: 3, ..DrainProgress::default() });
    work(stack).await;
    assert_eq!(two.states().await, [InstanceState::Running; 3], "the grace is not over");
    let fresh = stack.create(two.acme(), "fresh", sized(10, 4)).await.instance;
    assert_eq!(fresh.node, Some(two.empty.node()), "nothing new comes");
    delete(stack, two.acme(), "fresh").await.unwrap();
    stop(stack, two.acme(), "three").await.unwrap();
    two.full.obey().await;
    two.empty.obey().await;

    stack.let_pass(seconds(30)).await;
    for agent in [&two.full, &two.empty] {
        agent.heartbeat().await.unwrap();
    }
    stack.let_pass(seconds(14)).await;
    for agent in [&two.full, &two.empty] {
        agent.heartbeat().await.unwrap();
    }
    stack.background().await;
    assert_eq!(two.progress().await.staying, 2);
    stack.let_pass(seconds(17)).await;
    for agent in [&two.full, &two.empty] {
        agent.heartbeat().await.unwrap();
    }
    stack.background().await;
    assert_eq!(two.progress().await, DrainProgress { left: 2, moving: 2, gone: 1, ..DrainProgress::default() });
    let before = stack.read(two.acme(), "one").await;
    assert_eq!((before.instance.state, stack.zone().lookup(&before.fqdn)), (InstanceState::Stopping, None));
    two.full.obey().await;
    assert_eq!(two.progress().await, DrainProgress { gone: 3, ..DrainProgress::default() });
    assert_eq!(state(stack, two.acme(), "one").await, InstanceState::Pending);
    work(stack).await;
    two.empty.obey().await;
    assert_eq!(two.states().await, [InstanceState::Running, InstanceState::Running, InstanceState::Stopped]);
    let after = stack.read(two.acme(), "one").await;
    assert_eq!((after.instance.node, &after.fqdn), (Some(two.empty.node()), &before.fqdn));
    assert_eq!(stack.zone().lookup(&after.fqdn), after.instance.address);
    for ran in two.full.history() {
        for later in two.empty.history().iter().filter(|later| later.instance == ran.instance) {
            assert!(ran.to.unwrap() <= later.from, "never twice");
        }
    }

    stack.control().remove_node(stack.operator(), &two.id()).await.unwrap();
    let three = stack.read(two.acme(), "three").await.instance.id.to_string();
    start(stack, two.acme(), "three").await.unwrap();
    delete(stack, two.acme(), "three").await.unwrap();
    two.empty.obey().await;
    assert_eq!(state(stack, two.acme(), &three).await, InstanceState::Deleted);
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn a_drain_that_stops_says_that_the_service_did_it() {
    let two = Two::start().await;
    two.drain(drain(0, DrainThen::Stop)).await;
    work(&two.stack).await;
    assert_eq!(two.progress().await, DrainProgress { left: 3, stopping: 3, ..DrainProgress::default() });
    two.full.obey().await;
    let one = two.stack.read(two.acme(), "one").await.instance;
    assert_eq!((one.state, one.reason), (InstanceState::Stopped, Some(EndReason::Evicted)));
    assert_eq!(two.progress().await.left, 0);
    let again = start(&two.stack, two.acme(), "one").await.unwrap().instance;
    assert_eq!(again.node, Some(two.empty.node()));
}

#[tokio::test]
async fn nothing_is_stopped_to_be_moved_while_there_is_no_room_for_it() {
    let two = Two::start().await;
    let stack = &two.stack;
    // Room for one of the three.
    stack.control().cordon_node(stack.operator(), &two.id()).await.unwrap();
    stack.create(two.acme(), "big", sized(600, 64)).await;
    two.empty.obey().await;
    two.drain(drain(0, DrainThen::Move)).await;
    work(stack).await;
    assert_eq!(two.progress().await, DrainProgress { left: 3, moving: 1, staying: 2, ..DrainProgress::default() });
    two.full.obey().await;
    work(stack).await;
    two.empty.obey().await;
    work(stack).await;
    assert_eq!(two.progress().await, DrainProgress { left: 2, staying: 2, gone: 1, ..DrainProgress::default() });
    assert_eq!(two.states().await, [InstanceState::Running; 3]);
    delete(stack, two.acme(), "big").await.unwrap();
    two.empty.obey().await;
    for _ in 0..3 {
        work(stack).await;
        two.full.obey().await;
        two.empty.obey().await;
    }
    assert_eq!(two.progress().await.left, 0);
    assert_eq!(two.states().await, [InstanceState::Running; 3]);
}

#[tokio::test]
async fn a_cancelled_drain_keeps_what_still_runs() {
    let two = Two::start().await;
    let stack = &two.stack;
    stack.control().cordon_node(stack.operator(), &two.id()).await.unwrap();
    stack.create(two.acme(), "big", sized(600, 64)).await;
    two.empty.obey().await;
    two.drain(drain(0, DrainThen::Move)).await;
    work(stack).await;
    assert_eq!(two.progress().await.moving, 1);
    let status = stack.control().cancel_drain(stack.operator(), &two.id()).await.unwrap();
    assert_eq!((status.record.state, status.drain), (NodeState::Ready, None));
    work(stack).await;
    for _ in 0..2 {
        two.full.obey().await;
        work(stack).await;
        two.empty.obey().await;
    }
    assert_eq!(
        two.states().await,
        [InstanceState::Running; 3],
        "what was leaving is placed again, wherever there is room"
    );
    assert_eq!(stack.read(two.acme(), "big").await.instance.state, InstanceState::Running);
    let again = stack.control().cancel_drain(stack.operator(), &two.id()).await.unwrap_err();
    assert_eq!(again.code(), "node_not_draining");
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn a_cancel_after_the_end_opens_the_empty_machine() {
    let two = Two::start().await;
    two.drain(drain(0, DrainThen::Stop)).await;
    work(&two.stack).await;
    two.full.obey().await;
    let uncordon = two.stack.control().uncordon_node(two.stack.operator(), &two.id()).await.unwrap_err();
    assert_eq!(uncordon.code(), "node_draining");
    two.stack.control().cancel_drain(two.stack.operator(), &two.id()).await.unwrap();
    let status = two.stack.control().get_node(two.stack.operator(), &two.id()).await.unwrap();
    assert_eq!((status.record.state, status.record.used.instances), (NodeState::Ready, 0));
}

#[tokio::test]
async fn a_machine_that_dies_while_it_is_emptied_holds_nobody_for_ever() {
    let two = Two::start().await;
    let stack = &two.stack;
    stack.create(two.acme(), "moves", replaceable()).await;
    two.full.obey().await;
    two.empty.obey().await;
    stack.control().cordon_node(stack.operator(), &two.empty.node().to_string()).await.unwrap();
    // One is already leaving, and will never say that it left.
    stack.control().uncordon_node(stack.operator(), &two.empty.node().to_string()).await.unwrap();
    two.drain(drain(0, DrainThen::Move)).await;
    stack.background().await;
    let moving = two.progress().await.moving;
    assert!(moving > 0);
    for _ in 0..4 {
        stack.let_pass(seconds(5)).await;
        two.empty.heartbeat().await.unwrap();
        stack.background().await;
    }
    let progress = two.progress().await;
    assert!(progress.waits_for_node, "{progress:?}");
    let status = stack.control().get_node(stack.operator(), &two.id()).await.unwrap();
    assert!(status.silent_for.is_some());
    assert_eq!(status.record.state, NodeState::Draining, "the drain is not forgotten");

    stack.control().confirm_node_off(stack.operator(), &two.id()).await.unwrap();
    assert_eq!(two.progress().await.left, 0);
    for _ in 0..3 {
        work(stack).await;
        two.empty.obey().await;
    }
    assert_eq!(two.states().await, [InstanceState::Running; 3], "what was moving is moved");
    assert_eq!(state(stack, two.acme(), "moves").await, InstanceState::Running);
    stack.control().remove_node(stack.operator(), &two.id()).await.unwrap();
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn a_silent_machine_is_emptied_when_it_comes_back() {
    let two = Two::start().await;
    let stack = &two.stack;
    for _ in 0..4 {
        stack.let_pass(seconds(5)).await;
        two.empty.heartbeat().await.unwrap();
        stack.background().await;
    }
    assert_eq!(two.states().await, [InstanceState::Unknown; 3]);
    two.drain(drain(0, DrainThen::Move)).await;
    work(stack).await;
    assert_eq!(two.states().await, [InstanceState::Unknown; 3], "nothing can be stopped there");
    for _ in 0..3 {
        two.full.obey().await;
        two.empty.obey().await;
        work(stack).await;
    }
    two.empty.obey().await;
    assert_eq!(two.states().await, [InstanceState::Running; 3]);
    assert_eq!(two.progress().await.left, 0);
}

#[tokio::test]
async fn a_cordoned_machine_keeps_what_it_has_and_gets_nothing() {
    let two = Two::start().await;
    let stack = &two.stack;
    for _ in 0..2 {
        let status = stack.control().cordon_node(stack.operator(), &two.id()).await.unwrap();
        assert_eq!(status.record.state, NodeState::Cordoned);
    }
    two.full.hello().await.unwrap();
    two.full.heartbeat().await.unwrap();
    let fresh = stack.create(two.acme(), "fresh", sized(10, 4)).await.instance;
    assert_eq!(fresh.node, Some(two.empty.node()));
    work(stack).await;
    assert_eq!(two.states().await, [InstanceState::Running; 3]);
    let name = stack.control().get_node(stack.operator(), &two.id()).await.unwrap().record.name;
    let status = stack.control().uncordon_node(stack.operator(), &name).await.unwrap();
    assert_eq!(status.record.state, NodeState::Ready);
}

#[tokio::test]
async fn a_cancel_that_is_cut_off_anywhere_can_be_asked_for_again() {
    let two = Two::start().await;
    let (stack, operator) = (&two.stack, two.stack.operator());
    let (mut polls, mut cut_off) = (0, 0);
    loop {
        polls += 1 + polls / 8;
        two.drain(drain(3_600, DrainThen::Move)).await;
        let done = interrupted(polls, stack.control().cancel_drain(operator, &two.id())).await;
        stack.quiet().await;
        work(stack).await;
        assert_eq!(two.states().await, [InstanceState::Running; 3]);
        // Whoever asks again finds it ready, or opens it.
        match stack.control().cancel_drain(operator, &two.id()).await {
            Ok(status) => assert_eq!(status.record.state, NodeState::Ready),
            Err(error) => {
                assert_eq!(error.code(), "node_not_draining");
                let status = stack.control().uncordon_node(operator, &two.id()).await.unwrap();
                assert_eq!(status.record.state, NodeState::Ready);
            }
        }
        if done.is_some() {
            assert!(cut_off > 3);
            return;
        }
        cut_off += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_races_the_emptying_leaves_nobody_half_way() {
    for _ in 0..10 {
        let two = Two::start().await;
        two.drain(drain(0, DrainThen::Move)).await;
        let emptying = tokio::spawn({
            let control = two.stack.control().clone();
            async move { Stack::background_of(&control).await }
        });
        let status = two.stack.control().cancel_drain(two.stack.operator(), &two.id()).await.unwrap();
        assert_eq!(status.record.state, NodeState::Ready);
        emptying.await.unwrap();
        for _ in 0..3 {
            two.full.obey().await;
            two.empty.obey().await;
            Stack::background_of(two.stack.control()).await;
        }
        for agent in [&two.full, &two.empty] {
            agent.obey().await;
        }
        assert_eq!(two.states().await, [InstanceState::Running; 3]);
        wherry_store_contract::invariants::check(&two.stack.store()).await.unwrap();
    }
}
