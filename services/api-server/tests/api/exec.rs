//! Programs in containers, run to their end.

use serde_json::{Value, json};

use crate::support::{App, create};

const WEB: &str = "/v1/projects/default/instances/web";
const EXEC: &str = "/v1/projects/default/instances/web/containers/main/exec";

#[tokio::test]
async fn a_program_runs_where_the_container_runs() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    let echo = || json!({"command": ["echo", "caf\u{e9}"], "timeout_seconds": 10});
    let early = app.call(&token, "POST", EXEC, echo()).await.expect_problem(409, "instance_not_running");
    assert!(early["detail"].as_str().unwrap().contains("scheduled"), "{early}");
    app.stack.agent().obey().await;
    let done = app.call(&token, "POST", EXEC, echo()).await.expect(200).json();
    let expected = json!({
        "exit_code": 0, "stdout": "echo caf\u{e9}", "stdout_encoding": "utf8",
        "stderr": "", "stderr_encoding": "utf8", "truncated": false,
    });
    assert_eq!(done, expected);
    app.call(&token, "POST", EXEC, json!({"command": ["true"]})).await.expect(200);
    let other = EXEC.replace("main", "other");
    app.call(&token, "POST", &other, echo()).await.expect_problem(404, "not_found");
    app.call(&token, "POST", &format!("{WEB}:stop"), Value::Null).await.expect(202);
    app.stack.agent().obey().await;
    app.call(&token, "POST", EXEC, echo()).await.expect_problem(409, "instance_not_running");
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_by_name() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    app.stack.agent().obey().await;
    for (body, status, code, field) in [
        (json!({}), 400, "invalid_request", None),
        (json!({"command": "echo hello"}), 400, "invalid_request", Some("command")),
        (json!({"command": ["true"], "tty": true}), 400, "invalid_request", Some("tty")),
        (json!({"command": []}), 422, "invalid_field", Some("command")),
        (json!({"command": ["a\u{0}b"]}), 422, "invalid_field", Some("command")),
        (json!({"command": ["true"], "timeout_seconds": 0}), 422, "invalid_field", Some("timeout_seconds")),
        (json!({"command": ["true"], "timeout_seconds": 301}), 422, "invalid_field", Some("timeout_seconds")),
    ] {
        let problem = app.call(&token, "POST", EXEC, body.clone()).await.expect_problem(status, code);
        assert_eq!(problem.get("field").and_then(Value::as_str), field, "{body}: {problem}");
    }
}

#[tokio::test]
async fn programs_have_a_bound_per_tenant_and_hold_no_place_among_the_requests() {
    let app = App::with(Vec::new(), |settings| {
        settings.max_execs_per_tenant = 0;
        settings.max_requests = 1;
    })
    .await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    app.stack.agent().obey().await;
    let refused = app.call(&token, "POST", EXEC, json!({"command": ["true"]})).await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_problem(429, "too_many_execs");

    // One that may run counts among the tenant's waits and streams as well.
    let app = App::with(Vec::new(), |settings| settings.max_streams_per_tenant = 0).await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    app.stack.agent().obey().await;
    app.call(&token, "POST", EXEC, json!({"command": ["true"]})).await.expect_problem(429, "too_many_streams");
    app.call(&token, "POST", &format!("{WEB}:start"), Value::Null).await.expect_problem(429, "too_many_streams");
    app.call(&token, "POST", &format!("{WEB}:stop"), Value::Null).await.expect(202);
}
