//! Questions to nodes on their way between replicas.

use wherry_agent_api::{Call, CallBoard, LogQuery, Question};
use wherry_model::{Clock, NodeId};
use wherry_testkit::{Node, Stack, main_container, spec};

use crate::support::seconds;

async fn call(stack: &Stack, node: NodeId, ticket: &str) -> Call {
    let instance = stack.read(stack.acme(), "web").await.instance.id;
    let query = LogQuery {
        instance,
        container: main_container(),
        run: None,
        tail: None,
        follow: false,
        timestamps: false,
        since: None,
    };
    Call {
        ticket: ticket.to_owned(),
        node,
        reply_to: "https://a:1".to_owned(),
        expires_at: stack.clock().now().plus(Call::LIFETIME),
        question: Question::Logs(query),
    }
}

#[tokio::test]
async fn a_call_reaches_the_node_at_whichever_replica_it_waits_and_only_once() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024); 2]).start().await;
    let other = stack.replica().await;
    stack.create(stack.acme(), "web", spec()).await;
    let [node, stranger] = [0, 1].map(|index: usize| stack.agents()[index].node());
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.calls(node).await }
    });
    let foreign = tokio::spawn({
        let other = other.clone();
        async move { other.calls(stranger).await }
    });
    stack.quiet().await;
    let posted = call(&stack, node, "t-1").await;
    stack.control().post_call(posted.clone()).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), [posted]);
    assert!(!foreign.is_finished(), "calls are for one node");
    foreign.abort();
    for number in 2..5 {
        stack.control().post_call(call(&stack, node, &format!("t-{number}")).await).await.unwrap();
    }
    let mut tickets: Vec<String> =
        stack.control().calls(node).await.unwrap().into_iter().map(|call| call.ticket).collect();
    tickets.sort();
    assert_eq!(tickets, ["t-2", "t-3", "t-4"]);
}

#[tokio::test]
async fn a_call_that_waited_too_long_is_not_handed_out() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let node = stack.agent().node();
    stack.control().post_call(call(&stack, node, "late").await).await.unwrap();
    stack.advance(Call::LIFETIME + seconds(1));
    let fresh = call(&stack, node, "fresh").await;
    stack.control().post_call(fresh.clone()).await.unwrap();
    assert_eq!(stack.control().calls(node).await.unwrap(), [fresh]);
}
