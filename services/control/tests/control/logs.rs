use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use wherry_agent_api::{ExecOutcome, ExecQuery, LogQuery, LogStream, NodeError, NodeServices};
use wherry_control::{Error, LogRequest};
use wherry_model::ContainerName;
use wherry_testkit::{Stack, main_container, spec};

async fn read(stack: &Stack, container: &ContainerName, request: LogRequest) -> Result<String, Error> {
    let acme = stack.acme();
    let chunks = stack.control().instance_logs(&acme.principal, &acme.project, "web", container, request).await?;
    let chunks: Vec<Vec<u8>> = chunks.try_collect().await?;
    Ok(String::from_utf8(chunks.concat()).unwrap())
}

#[tokio::test]
async fn output_comes_from_the_node_by_run() {
    let mut stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let main = main_container();
    assert_eq!(read(&stack, &main, LogRequest::default()).await.unwrap(), "", "nothing ran yet");
    stack.agent().obey().await;
    for line in ["one", "two", "three"] {
        stack.agent().print(web.id, line);
    }
    stack.agent().exit(web.id, 1, Some(stack.agent().now()));
    stack.agent().start_again(web.id);
    stack.agent().report().await.unwrap();
    stack.agent().print(web.id, "again");

    let run = |run| LogRequest { run: Some(run), ..LogRequest::default() };
    assert_eq!(read(&stack, &main, LogRequest::default()).await.unwrap(), "again\n");
    assert_eq!(read(&stack, &main, run(0)).await.unwrap(), "again\n");
    assert_eq!(read(&stack, &main, run(-1)).await.unwrap(), "one\ntwo\nthree\n");
    assert_eq!(read(&stack, &main, LogRequest { tail: Some(2), ..run(1) }).await.unwrap(), "two\nthree\n");
    for missing in [-2, -9, 3, i64::MIN] {
        assert_eq!(read(&stack, &main, run(missing)).await.unwrap_err().code(), "not_found", "{missing}");
    }
    assert_eq!(read(&stack, &main, run(i64::MAX)).await.unwrap_err().field(), Some("run"));
    let tail = LogRequest { tail: Some(100_001), ..LogRequest::default() };
    assert_eq!(read(&stack, &main, tail).await.unwrap_err().field(), Some("tail"));
    let other = ContainerName::new("side").unwrap();
    assert_eq!(read(&stack, &other, LogRequest::default()).await.unwrap_err().code(), "not_found");

    stack.reopen().await;
    assert_eq!(read(&stack, &main, run(-1)).await.unwrap(), "one\ntwo\nthree\n");
}

/// A machine that has nothing of an instance, and notes whether it was to be followed.
#[derive(Default)]
struct Forgetful(Mutex<Vec<bool>>);

#[async_trait]
impl NodeServices for Forgetful {
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        self.0.lock().unwrap().push(query.follow);
        Err(NodeError::NotFound("the instance".to_owned()))
    }

    async fn exec(&self, _query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        Err(NodeError::NotFound("the instance".to_owned()))
    }
}

/// One that is asked to follow waits until it hears of the instance, which of a deleted one it never does.
#[tokio::test]
async fn a_machine_does_not_wait_to_hear_of_what_is_deleted() {
    let stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    stack.agent().obey().await;
    let machine = Arc::new(Forgetful::default());
    stack.control().attach_node(stack.agent().node(), Arc::clone(&machine) as Arc<dyn NodeServices>);
    let acme = stack.acme();
    let follow = async || {
        let request = LogRequest { follow: true, ..LogRequest::default() };
        let (id, main) = (web.id.to_string(), main_container());
        let answer = stack.control().instance_logs(&acme.principal, &acme.project, &id, &main, request).await;
        answer.err().map(|error| error.code())
    };
    assert_eq!(follow().await, Some("not_found"));
    stack.control().delete_instance(&acme.principal, &acme.project, "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(follow().await, Some("not_found"));
    assert_eq!(*machine.0.lock().unwrap(), [true, false]);
}
