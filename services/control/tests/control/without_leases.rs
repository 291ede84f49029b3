//! Agents of a protocol without leases: a machine whose agent was rolled back, and upgraded again.

use wherry_agent_api::{ControlError, NodeHello};
use wherry_control::FleetEventKind;
use wherry_model::{Generation, InstanceState, NodeRecord};
use wherry_testkit::{Node, ScriptedAgent, Stack, replaceable, sized, spec};

use crate::support::{asked, create, seconds, state, work};

const HALF: Node = Node::sized(1_000, 2_048);

/// Time in which only these agents prove life, and every reconciler works.
async fn pass(stack: &Stack, count: u64, heard: &[&ScriptedAgent]) {
    for _ in 0..count / 5 {
        stack.let_pass(seconds(5)).await;
        for agent in heard {
            agent.heartbeat().await.unwrap();
        }
        stack.background().await;
    }
}

/// Another agent of the machine introduces itself.
async fn introduced(agent: &ScriptedAgent, fences: bool) {
    let protocol = NodeRecord::PROTOCOL_OF_LEASES - u32::from(!fences);
    agent.hello_as(NodeHello { protocol, ..agent.introduction().clone() }).await.unwrap();
}

/// Two machines, and an instance that may be replaced on one of them.
struct Two {
    stack: Stack,
    old: ScriptedAgent,
    other: ScriptedAgent,
}

impl Two {
    async fn start() -> Self {
        let stack = Stack::builder().nodes([HALF, HALF]).start().await;
        let node = stack.create(stack.acme(), "web", replaceable()).await.instance.node;
        let (one, two) = (stack.agents()[0].clone(), stack.agents()[1].clone());
        let (old, other) = if Some(one.node()) == node { (one, two) } else { (two, one) };
        old.obey().await;
        other.obey().await;
        Self { stack, old, other }
    }

    fn told(&self) -> Vec<String> {
        let events = self.stack.control().fleet_events(self.stack.operator(), 0, 1_000).unwrap();
        let of_old = events.into_iter().filter(|event| event.node == Some(self.old.node()));
        of_old.filter(|event| event.kind == FleetEventKind::NodeChanged).map(|event| event.message).collect()
    }
}

#[tokio::test]
async fn what_is_on_a_machine_whose_agent_is_rolled_back_stays_there_until_somebody_knows() {
    let two = Two::start().await;
    let (stack, acme) = (&two.stack, two.stack.acme());
    introduced(&two.old, false).await;
    assert!(two.told().iter().any(|message| message.contains("upgrade it")), "{:?}", two.told());
    let web = stack.read(acme, "web").await.instance;
    assert!(two.old.desired().await.unwrap().instances.iter().any(|one| one.id == web.id), "it is still its own");
    two.old.obey().await;
    assert_eq!(state(stack, acme, "web").await, InstanceState::Running);

    // Nothing new of the kind, although the machine is the fuller one; everything else.
    let elsewhere = stack.create(acme, "new", replaceable()).await.instance;
    assert_eq!(elsewhere.node, Some(two.other.node()));
    assert_eq!(stack.create(acme, "kept", sized(750, 64)).await.instance.node, Some(two.old.node()));

    // Silent for much longer than the fence: nobody has ended it there.
    pass(stack, 600, &[&two.other]).await;
    let web = stack.read(acme, "web").await.instance;
    assert_eq!((web.state, web.node, web.generation), (InstanceState::Unknown, Some(two.old.node()), Generation(1)));
    two.old.heartbeat().await.expect("it knows no epochs, and is heard in any");
    assert_eq!(state(stack, acme, "web").await, InstanceState::Running, "it ran on");

    // A person knows.
    pass(stack, 20, &[&two.other]).await;
    stack.control().confirm_node_off(stack.operator(), &two.old.node().to_string()).await.unwrap();
    work(stack).await;
    assert_eq!(stack.read(acme, "web").await.instance.node, Some(two.other.node()));
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}

#[tokio::test]
async fn where_no_agent_fences_a_create_that_needs_it_is_refused_with_the_reason() {
    let two = Two::start().await;
    for agent in two.stack.agents() {
        introduced(agent, false).await;
    }
    let acme = two.stack.acme();
    let refused = create(two.stack.control(), acme, asked(None, replaceable())).await.unwrap_err();
    assert_eq!(refused.code(), "capacity_unavailable");
    assert!(refused.to_string().contains("on_node_loss replace"), "{refused}");
    create(two.stack.control(), acme, asked(None, spec())).await.expect("others are welcome");
}

#[tokio::test]
async fn an_upgraded_agent_is_believed_to_fence_once_it_knows_what() {
    let two = Two::start().await;
    let (stack, acme) = (&two.stack, two.stack.acme());
    introduced(&two.old, false).await;
    two.old.obey().await;
    introduced(&two.old, true).await;
    assert!(matches!(two.old.heartbeat().await, Err(ControlError::Fenced { .. })), "it is to fetch what to end first");
    // It has not, and falls silent.
    pass(stack, 600, &[&two.other]).await;
    assert_eq!(stack.read(acme, "web").await.instance.node, Some(two.old.node()));
    // Now it has: this silence is a loss as any other.
    two.old.obey().await;
    assert_eq!(state(stack, acme, "web").await, InstanceState::Running);
    assert!(two.told().iter().any(|message| message.contains("again")), "{:?}", two.told());
    pass(stack, 330, &[&two.other]).await;
    two.old.fence();
    pass(stack, 100, &[&two.other]).await;
    work(stack).await;
    assert_eq!(stack.read(acme, "web").await.instance.node, Some(two.other.node()));
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}
