use futures_util::TryStreamExt;
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
