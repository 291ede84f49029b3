//! Instances through their life, as a tenant meets it.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, App, create, spec};

const INSTANCES: &str = "/v1/projects/default/instances";

async fn create_with_key(app: &App, token: &str, key: &str, body: Value) -> Answer {
    let request = Request::post(INSTANCES)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap();
    app.ask(request).await
}

#[tokio::test]
async fn create_run_stop_start_delete() {
    let app = App::start().await;
    let token = app.acme().await;
    let answer = app.call(&token, "POST", INSTANCES, create("web")).await.expect(201);
    assert_eq!(answer.headers["location"], "/v1/projects/default/instances/web");
    assert_eq!(answer.headers["etag"], "\"1\"");
    let made = answer.json();
    assert_eq!((made["state"].as_str(), made["name"].as_str()), (Some("scheduled"), Some("web")));
    assert_eq!(made["cost"]["so_far"], "0.00");
    assert_eq!(made["cost"]["currency"], "USD");
    assert_eq!(made["spec"]["restart_policy"], "on_failure");
    assert!(made["fqdn"].as_str().unwrap().starts_with("web."), "{made}");
    assert!(made.get("node").is_none() && made.get("address").is_none(), "{made}");

    app.stack.agent().obey().await;
    let waited = app.get(&token, &format!("{INSTANCES}/web/wait?state=running&timeout=5s")).await.expect(200).json();
    assert_eq!(waited["reached"], true);
    let running = &waited["instance"];
    assert_eq!(running["containers"][0]["state"], "running");
    assert_eq!(running["containers"][0]["runs"][0]["number"], 1);
    assert!(running["address"].is_string() && running["started_at"].is_string(), "{running}");

    app.stack.advance(std::time::Duration::from_secs(100));
    app.stack.agent().heartbeat().await.unwrap();
    let shown = app.get(&token, &format!("{INSTANCES}/web")).await.expect(200).json();
    assert_ne!(shown["cost"]["so_far"], "0.00", "a running instance shows its cost");
    let bill = app.get(&token, &format!("{INSTANCES}/web/usage")).await.expect(200).json();
    assert_eq!(bill["total"], shown["cost"]["so_far"], "{bill}");
    let cpu = bill["lines"].as_array().unwrap().iter().find(|line| line["resource"] == "cpu" && line["kind"] == "run");
    assert_eq!(cpu.unwrap()["quantity"], "10000", "100 thousandths of a core for 100 seconds: {bill}");
    let all = app.get(&token, "/v1/usage?project=default").await.expect(200).json();
    assert_eq!(all["total"], bill["total"]);

    let stopping = app.call(&token, "POST", &format!("{INSTANCES}/web:stop"), Value::Null).await.expect(202).json();
    assert_eq!(stopping["state"], "stopping");
    app.stack.agent().obey().await;
    let stopped = app.get(&token, &format!("{INSTANCES}/web/wait?state=stopped&timeout=5s")).await.expect(200).json();
    assert_eq!(stopped["reached"], true, "{stopped}");
    assert_eq!(stopped["instance"]["reason"], "stopped_by_user");

    let started = app.call(&token, "POST", &format!("{INSTANCES}/web:start"), Value::Null).await.expect(202).json();
    assert_eq!(started["generation"], 2, "a start is another generation");
    app.stack.agent().obey().await;
    let running = app.get(&token, &format!("{INSTANCES}/web")).await.expect(200).json();
    assert_eq!(running["state"], "running");
    assert_eq!(running["containers"][0]["runs"][1]["number"], 2);

    let deleting = app.call(&token, "DELETE", &format!("{INSTANCES}/web"), Value::Null).await.expect(202).json();
    assert_eq!(deleting["state"], "deleting");
    app.call(&token, "DELETE", &format!("{INSTANCES}/web"), Value::Null).await.expect(202);
    app.stack.agent().obey().await;
    app.get(&token, &format!("{INSTANCES}/web")).await.expect_problem(404, "not_found");
    let id = made["id"].as_str().unwrap();
    let gone = app.get(&token, &format!("{INSTANCES}/{id}")).await.expect(200).json();
    assert_eq!(gone["state"], "deleted", "still readable by its id");
    app.call(&token, "DELETE", &format!("{INSTANCES}/{id}"), Value::Null).await.expect(202);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_instance() {
    let app = App::start().await;
    let token = app.acme().await;
    let body = json!({"containers": spec()["containers"]});
    let first = create_with_key(&app, &token, "order-1", body.clone()).await.expect(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = create_with_key(&app, &token, "order-1", body.clone()).await.expect(201);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(first.json()["id"], again.json()["id"]);
    let problem = create_with_key(&app, &token, "order-1", create("x"))
        .await
        .expect_problem(409, "idempotency_parameter_mismatch");
    assert_eq!(problem["field"], "Idempotency-Key");
    create_with_key(&app, &token, "", body.clone()).await.expect_problem(400, "invalid_request");
    create_with_key(&app, &token, &"k".repeat(256), body.clone()).await.expect_problem(400, "invalid_request");
    // The key is the tenant's own.
    let blue = app.blue().await;
    let other = create_with_key(&app, &blue, "order-1", body).await.expect(201);
    assert!(!other.headers.contains_key("idempotency-replayed"));
}

#[tokio::test]
async fn put_makes_sure_that_it_is_there() {
    let app = App::start().await;
    let token = app.acme().await;
    let path = format!("{INSTANCES}/web");
    let first = app.call(&token, "PUT", &path, spec()).await.expect(201).json();
    let again = app.call(&token, "PUT", &path, spec()).await.expect(200).json();
    assert_eq!(first["id"], again["id"]);
    // Written differently, it is still the same.
    let mut same = spec();
    same["containers"][0]["cpu"] = json!("0.1");
    app.call(&token, "PUT", &path, same).await.expect(200);
    let matching = |tag: &str, path: &str| {
        Request::put(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("if-match", tag)
            .body(Body::from(spec().to_string()))
            .unwrap()
    };
    app.ask(matching("\"1\"", &path)).await.expect(200);
    app.ask(matching("\"7\"", &path)).await.expect_problem(409, "generation_mismatch");
    app.ask(matching("*", &path)).await.expect_problem(400, "invalid_request");
    app.ask(matching("1", &format!("{INSTANCES}/absent"))).await.expect_problem(404, "not_found");
    app.call(&token, "PUT", &format!("{INSTANCES}/Web"), spec()).await.expect_problem(422, "invalid_field");
}

#[tokio::test]
async fn an_instance_is_changed_where_it_is() {
    let app = App::start().await;
    let token = app.acme().await;
    let path = format!("{INSTANCES}/web");
    let first = app.call(&token, "PUT", &path, spec()).await.expect(201).json();
    let mut other = spec();
    other["containers"][0]["args"] = json!(["more"]);
    let preview = app.call(&token, "PUT", &format!("{path}?dry_run=true"), other.clone()).await.expect(200).json();
    assert_eq!(preview["restarts"], json!([{"container": "main", "because": ["args"]}]), "{preview}");
    assert_eq!((&preview["fits"], &preview["changes"]), (&json!(true), &json!(["containers[0].args"])));
    assert_eq!(app.get(&token, &path).await.json()["generation"], 1, "a dry run changes nothing");
    let changed = app.call(&token, "PUT", &path, other).await.expect(200);
    assert_eq!(changed.headers["etag"], "\"2\"");
    assert_eq!((&changed.json()["id"], &changed.json()["generation"]), (&first["id"], &json!(2)));

    // A patch changes what it names, and null takes back to the default.
    let patched = app.call(&token, "PATCH", &path, json!({"labels": {"a": "b"}, "ttl_seconds": 60})).await.expect(200);
    let spec_of = |answer: &crate::support::Answer| answer.json()["spec"].clone();
    assert_eq!((&spec_of(&patched)["labels"], &spec_of(&patched)["ttl_seconds"]), (&json!({"a": "b"}), &json!(60)));
    assert_eq!(spec_of(&patched)["containers"], changed.json()["spec"]["containers"]);
    let preview = app.call(&token, "PATCH", &format!("{path}?dry_run=true"), json!({"ttl_seconds": 1})).await;
    assert!(preview.expect(200).json().get("restarts").is_none());
    let undone = app.call(&token, "PATCH", &path, json!({"labels": null, "ttl_seconds": null})).await.expect(200);
    assert!(spec_of(&undone).get("ttl_seconds").is_none() && spec_of(&undone).get("labels").is_none());

    let patch = |tag: &str, media_type: &str, body: &str| {
        Request::patch(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", media_type)
            .header("if-match", tag)
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let media_type = "application/merge-patch+json";
    app.ask(patch("\"1\"", media_type, r#"{"labels":{}}"#)).await.expect_problem(409, "generation_mismatch");
    app.ask(patch("\"4\"", media_type, r#"{"labels":{"c":"d"}}"#)).await.expect(200);
    app.ask(patch("\"5\"", "text/plain", "{}")).await.expect_problem(415, "unsupported_media_type");
    for (body, status, code, field) in [
        (json!({"nonsense": 1}), 400, "invalid_request", Some("nonsense")),
        (json!({"schedule": {"suspended": true}}), 422, "invalid_field", Some("schedule.cron")),
        (json!({"containers": null}), 400, "invalid_request", None),
        (json!([1]), 400, "invalid_request", None),
        (json!({"name": "other"}), 422, "invalid_field", Some("name")),
        (json!({"on_node_loss": "replace"}), 409, "cannot_change_in_place", Some("on_node_loss")),
        (json!({"dns": {"searches": ["a.example"]}}), 409, "cannot_change_in_place", Some("dns")),
    ] {
        let problem = app.call(&token, "PATCH", &path, body.clone()).await.expect_problem(status, code);
        assert_eq!(problem.get("field").and_then(|field| field.as_str()), field, "{body}: {problem}");
    }
    assert_eq!(app.get(&token, &path).await.json()["generation"], 5);
}

#[tokio::test]
async fn restarts_are_asked_for() {
    let app = App::start().await;
    let token = app.acme().await;
    let path = format!("{INSTANCES}/web");
    app.call(&token, "PUT", &path, spec()).await.expect(201);
    app.call(&token, "POST", &format!("{path}:restart"), serde_json::Value::Null).await.expect(202);
    let one = format!("{path}/containers/main:restart?pull=true");
    let answer = app.call(&token, "POST", &one, serde_json::Value::Null).await.expect(202).json();
    assert_eq!(answer["generation"], 1, "it is no change of spec or place");
    let absent = format!("{path}/containers/absent:restart");
    app.call(&token, "POST", &absent, serde_json::Value::Null).await.expect_problem(404, "not_found");
    let wrong = format!("{path}:restart?pull=perhaps");
    app.call(&token, "POST", &wrong, serde_json::Value::Null).await.expect_problem(400, "invalid_request");
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_cost_and_whether_it_fits() {
    let app = App::start().await;
    let token = app.acme().await;
    let path = format!("{INSTANCES}?dry_run=true");
    let small = app.call(&token, "POST", &path, create("web")).await.expect(200).json();
    assert_eq!(small["fits"], true, "{small}");
    assert_ne!(small["price_per_hour"], "0.00");
    let mut huge = create("web");
    huge["containers"][0]["cpu"] = json!("1000");
    let huge = app.call(&token, "POST", &path, huge.clone()).await.expect(200).json();
    assert_eq!(huge["fits"], false);
    assert!(huge["why_not"].is_string());
    assert_eq!(app.get(&token, INSTANCES).await.expect(200).json()["items"], json!([]));
}

#[tokio::test]
async fn what_does_not_fit_says_when_to_try_again() {
    let app = App::start().await;
    let token = app.acme().await;
    let mut huge = create("web");
    huge["containers"][0]["cpu"] = json!("1000");
    let answer = app.call(&token, "POST", INSTANCES, huge).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.expect_problem(503, "capacity_unavailable");
    app.call(&token, "POST", INSTANCES, create("web")).await.expect(201);
    app.call(&token, "POST", INSTANCES, create("web")).await.expect_problem(409, "name_taken");
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let app = App::start().await;
    let token = app.acme().await;
    for name in ["a", "b", "c"] {
        let mut body = create(name);
        body["labels"] = json!({"app": if name == "c" { "other" } else { "shop" }});
        app.call(&token, "POST", INSTANCES, body).await.expect(201);
        app.stack.clock().advance(std::time::Duration::from_secs(1));
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = app.get(&token, &format!("{INSTANCES}?limit=2")).await.expect(200).json();
    assert_eq!(names(&first), ["c", "b"], "newest first");
    let next = first["next"].as_str().unwrap();
    let second = app.get(&token, &format!("{INSTANCES}?limit=2&cursor={next}")).await.expect(200).json();
    assert_eq!(names(&second), ["a"]);
    assert!(second.get("next").is_none());
    let shop = app.get(&token, &format!("{INSTANCES}?label=app%3Dshop")).await.expect(200).json();
    assert_eq!(names(&shop), ["b", "a"]);
    let running = app.get(&token, &format!("{INSTANCES}?state=running&state=pulling")).await.expect(200).json();
    assert_eq!(names(&running), Vec::<String>::new());
    // A cursor of one tenant shows another nothing but its own (A02).
    let blue = app.blue().await;
    let foreign = app.get(&blue, &format!("{INSTANCES}?cursor={next}")).await.expect(200).json();
    assert_eq!(names(&foreign), Vec::<String>::new());
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", INSTANCES, create("web")).await.expect(201);
    let waited = app.get(&token, &format!("{INSTANCES}/web/wait?state=running&timeout=0s")).await.expect(200).json();
    assert_eq!((&waited["reached"], &waited["instance"]["state"]), (&json!(false), &json!("scheduled")));
}

#[tokio::test]
async fn a_create_that_was_answered_survives_the_process() {
    let mut app = App::start().await;
    let token = app.acme().await;
    let made = create_with_key(&app, &token, "order-2", create("web")).await.expect(201).json();
    let body = create("web");
    app = app.restarted().await;
    let token = app.acme().await;
    let again = create_with_key(&app, &token, "order-2", body).await.expect(201);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.json()["id"], made["id"]);
}
