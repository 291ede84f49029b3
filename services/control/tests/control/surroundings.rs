//! What nodes are told of the fleet around them.

use std::net::Ipv4Addr;

use wherry_agent_api::{ControlError, ControlPlane, Surroundings};
use wherry_control::Background;
use wherry_model::Fact;
use wherry_testkit::{Node, Stack, eventually, sized};

use crate::support::{delete, stop};

const SMALL: Node = Node::sized(1_000, 1_024);

/// Two machines, each with one instance of acme; blue has one beside it.
async fn furnished() -> Stack {
    let stack = Stack::builder().nodes([SMALL, SMALL]).start().await;
    for name in ["one", "two"] {
        stack.create(stack.acme(), name, sized(600, 64)).await;
    }
    stack.create(stack.blue(), "other", sized(300, 64)).await;
    for agent in stack.agents() {
        agent.obey().await;
    }
    stack
}

async fn around(stack: &Stack, index: usize) -> Surroundings {
    stack.agents()[index].surroundings().await.unwrap()
}

#[tokio::test]
async fn a_node_learns_names_ways_and_neighbours() {
    let stack = furnished().await;
    let names = stack.zone().records();
    for (index, other) in [(0, 1), (1, 0)] {
        let around = around(&stack, index).await;
        let told: std::collections::BTreeMap<String, Ipv4Addr> =
            around.names.iter().map(|record| (record.name.clone(), record.address)).collect();
        assert_eq!((told, around.apex.as_str()), (names.clone(), "local.wherry.internal"));
        let far = &stack.agents()[other];
        let peers: Vec<_> = around.peers.iter().map(|peer| (peer.node, peer.range)).collect();
        assert_eq!(peers, [(far.node(), far.introduction().range)]);
        assert_eq!(Some(around.peers[0].underlay), far.introduction().underlay);
        let elsewhere = stack.store().instances_on(far.node()).await.unwrap().unwrap().instances;
        let acme: Vec<Ipv4Addr> = elsewhere
            .iter()
            .filter(|instance| instance.tenant == stack.acme().record.id)
            .filter_map(|instance| instance.address)
            .collect();
        assert_eq!(around.neighbours.len(), 1, "of another tenant's project only where it has something");
        assert_eq!(around.neighbours[0].tenant, stack.acme().record.id);
        assert_eq!(around.neighbours[0].addresses, acme);
    }
}

#[tokio::test]
async fn the_same_is_told_once_and_news_at_once() {
    let stack = furnished().await;
    let before = around(&stack, 0).await;
    let control = stack.control().clone();
    let node = stack.agents()[0].node();
    let waiting = tokio::spawn({
        let (control, have) = (control.clone(), before.tag);
        async move { control.surroundings(node, Some(have)).await }
    });
    stack.quiet().await;
    assert!(!waiting.is_finished());
    stop(&stack, stack.acme(), "two").await.unwrap();
    let news = waiting.await.unwrap().unwrap().expect("a name went away");
    assert_eq!(news.names.len(), before.names.len() - 1);
    assert_ne!(news.tag, before.tag);
    assert_eq!(around(&stack, 0).await.tag, news.tag, "the tag names the contents");
    let nobody = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(control.surroundings(nobody, None).await, Err(ControlError::UnknownNode));
}

#[tokio::test]
async fn replicas_tell_the_same_with_the_same_tag() {
    let stack = furnished().await;
    let other = stack.replica().await;
    let background = Background::start(&other);
    delete(&stack, stack.acme(), "two").await.unwrap();
    for agent in stack.agents() {
        agent.obey().await;
    }
    let node = stack.agents()[0].node();
    let here = around(&stack, 0).await;
    eventually("the other says the same", || async {
        let there = other.surroundings(node, None).await.unwrap().unwrap();
        (there.peers == here.peers && there.neighbours == here.neighbours && there.names == here.names).then(|| {
            assert_eq!(there.tag, here.tag);
        })
    })
    .await;
    background.stop().await;
}

#[tokio::test]
async fn a_node_cannot_claim_an_address_of_another() {
    let stack = furnished().await;
    let theirs = stack.read(stack.acme(), "two").await.instance;
    let mine = stack.read(stack.acme(), "one").await;
    let agent = stack.agents().iter().find(|agent| Some(agent.node()) == mine.instance.node).unwrap();
    let address = theirs.address.unwrap();
    agent.say(mine.instance.id, mine.instance.generation, Fact::SandboxReady { address });
    agent.report().await.unwrap();
    assert_eq!(stack.read(stack.acme(), "one").await.instance.address, mine.instance.address);
    assert_eq!(stack.zone().lookup(&mine.fqdn), mine.instance.address);
}
