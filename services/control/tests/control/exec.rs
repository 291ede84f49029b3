use std::sync::Arc;

use futures_util::TryStreamExt;
use wherry_agent_api::{NodeDirectory, NodeServices};
use wherry_control::{Error, ExecOutcome, ExecRequest, LogRequest};
use wherry_model::{ContainerName, NodeId, ScopeSet};
use wherry_testkit::{ScriptedAgent, Stack, main_container, spec};

use crate::support::stop;

fn run(words: &[&str], timeout_seconds: u32) -> ExecRequest {
    ExecRequest { command: words.iter().map(|word| (*word).to_owned()).collect(), stdin: None, timeout_seconds }
}

async fn exec(stack: &Stack, request: ExecRequest) -> Result<ExecOutcome, Error> {
    let acme = stack.acme();
    stack.control().instance_exec(&acme.principal, &acme.project, "web", &main_container(), request).await
}

#[tokio::test]
async fn a_program_runs_where_the_instance_runs() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let early = exec(&stack, run(&["true"], 1)).await.unwrap_err();
    assert_eq!(early.code(), "instance_not_running");
    stack.agent().obey().await;
    let done = exec(&stack, run(&["echo", "hello"], 10)).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_slice()), (0, b"echo hello".as_slice()));
    let acme = stack.acme();
    let side = ContainerName::new("side").unwrap();
    let missing = stack.control().instance_exec(&acme.principal, &acme.project, "web", &side, run(&["true"], 1)).await;
    assert_eq!(missing.unwrap_err().code(), "not_found");
    stop(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(exec(&stack, run(&["true"], 1)).await.unwrap_err().code(), "instance_not_running");
}

#[tokio::test]
async fn what_a_program_may_be_has_bounds() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    let many = vec!["x"; 257];
    let long = "x".repeat(33 * 1024);
    for words in [&[][..], &[""], &["a", "b\0c"], &many, &[long.as_str()]] {
        assert_eq!(exec(&stack, run(words, 10)).await.unwrap_err().field(), Some("command"));
    }
    for wrong in [0, 301] {
        assert_eq!(exec(&stack, run(&["true"], wrong)).await.unwrap_err().field(), Some("timeout_seconds"));
    }
    exec(&stack, run(&["a", "", "b"], 300)).await.expect("an empty argument is one");
}

#[tokio::test]
async fn entering_is_a_right_of_its_own() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    let acme = stack.acme();
    let reader: ScopeSet = "instances:read instances:write logs:read".parse().unwrap();
    let refused = stack
        .control()
        .instance_exec(&acme.with_scopes(reader), &acme.project, "web", &main_container(), run(&["true"], 1))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "insufficient_scope");
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_said_without_saying_which() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    let unattached = stack.replica().await;
    let acme = stack.acme();
    let refused = unattached
        .instance_exec(&acme.principal, &acme.project, "web", &main_container(), run(&["true"], 1))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    assert!(!refused.to_string().contains("node"), "{refused}");
}

/// The way to nodes whose agents are in other processes: here, all are this one.
struct Directory(ScriptedAgent);

impl NodeDirectory for Directory {
    fn services(&self, node: NodeId) -> Arc<dyn NodeServices> {
        assert_eq!(node, self.0.node(), "the node of the instance is asked");
        Arc::new(self.0.clone())
    }
}

#[tokio::test]
async fn another_replica_reaches_the_node_by_its_directory() {
    let stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    stack.agent().obey().await;
    stack.agent().print(web.id, "hello");
    let other = stack.replica().await;
    other.set_directory(Arc::new(Directory(stack.agent().clone())));
    let acme = stack.acme();
    let request = run(&["echo", "hello"], 10);
    let done = other.instance_exec(&acme.principal, &acme.project, "web", &main_container(), request).await.unwrap();
    assert_eq!(done.stdout, b"echo hello");
    let logs = other
        .instance_logs(&acme.principal, &acme.project, "web", &main_container(), LogRequest::default())
        .await
        .unwrap();
    let chunks: Vec<Vec<u8>> = logs.try_collect().await.unwrap();
    assert_eq!(chunks.concat(), b"hello\n");
}
