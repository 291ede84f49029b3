//! Requests that are wrong: each is told what is wrong and what would be right, and nothing is stored.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use wherry_api_server::openapi_text;

use crate::support::{App, create, request};

const INSTANCES: &str = "/v1/projects/default/instances";

#[tokio::test]
async fn wrong_fields_are_named() {
    let app = App::start().await;
    let token = app.acme().await;
    type Break = fn(&mut Value);
    let cases: Vec<(u16, &str, &str, Break)> = vec![
        (400, "invalid_request", "tenant", |b| b["tenant"] = json!("blue")),
        (400, "invalid_request", "node", |b| b["node"] = json!("n1")),
        (400, "invalid_request", "state", |b| b["state"] = json!("running")),
        (400, "invalid_request", "containers[0].privileged", |b| b["containers"][0]["privileged"] = json!(true)),
        (400, "invalid_request", "containers[0].image", |b| b["containers"][0]["image"] = json!(7)),
        (400, "invalid_request", "restart_policy", |b| b["restart_policy"] = json!("sometimes")),
        (400, "invalid_request", "containers[0].ports[0].port", |b| {
            b["containers"][0]["ports"] = json!([{"port": 65536}]);
        }),
        (422, "invalid_field", "name", |b| b["name"] = json!("Web")),
        (422, "invalid_field", "name", |b| b["name"] = json!("xn--80ak6aa92e")),
        (422, "invalid_field", "name", |b| b["name"] = json!("ns")),
        (422, "invalid_field", "containers", |b| b["containers"] = json!([])),
        (422, "invalid_field", "containers[0].image", |b| b["containers"][0]["image"] = json!("nginx")),
        (422, "invalid_field", "containers[0].cpu", |b| b["containers"][0]["cpu"] = json!("9m")),
        (422, "invalid_field", "containers[0].memory", |b| b["containers"][0]["memory"] = json!("1Pi")),
        (422, "invalid_field", "containers[0].ports[0].port", |b| b["containers"][0]["ports"] = json!([{"port": 0}])),
        (422, "invalid_field", "containers[0].working_dir", |b| b["containers"][0]["working_dir"] = json!("srv")),
        (422, "invalid_field", "containers[0].env[0].name", |b| {
            b["containers"][0]["env"] = json!([{"name": "", "value": ""}]);
        }),
        (422, "invalid_field", "labels", |b| b["labels"] = json!({"a b": ""})),
        (422, "invalid_field", "stop_grace_seconds", |b| b["stop_grace_seconds"] = json!(601)),
    ];
    for (status, code, field, break_it) in cases {
        let mut body = create("web");
        break_it(&mut body);
        let problem = app.call(&token, "POST", INSTANCES, body).await.expect_problem(status, code);
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
    }
    let list = app.get(&token, INSTANCES).await.expect(200).json();
    assert_eq!(list["items"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn wrong_webhooks_are_refused_by_the_field_at_fault() {
    let app = App::start().await;
    let token = app.acme().await;
    let webhooks = "/v1/projects/default/webhooks";
    let good = json!({"name": "pager", "url": "https://hooks.example/a"});
    for (status, code, field, value) in [
        (400, "invalid_request", "secret", json!("whsec_x")),
        (400, "invalid_request", "url", json!(7)),
        (400, "invalid_request", "events", json!("failed")),
        (400, "invalid_request", "enabled", json!("no")),
        (422, "invalid_field", "name", json!("Pager")),
        (422, "invalid_field", "name", json!("")),
        (422, "invalid_field", "url", json!("")),
        (422, "invalid_field", "url", json!("hooks.example")),
        (422, "invalid_field", "url", json!("ftp://hooks.example")),
        (422, "invalid_field", "url", json!("https://user@hooks.example")),
        (422, "invalid_field", "url", json!("https://hooks.example/#a")),
        (422, "invalid_field", "url", json!("https://hooks.example/a b")),
        (422, "invalid_field", "url", json!(format!("https://hooks.example/{}", "a".repeat(2_048)))),
        (422, "invalid_field", "events[0]", json!(["exploded"])),
        (422, "invalid_field", "events", json!(vec!["failed"; 65])),
        (422, "invalid_field", "instance", json!("Web")),
        (422, "invalid_field", "labels", json!({"a b": ""})),
    ] {
        let mut body = good.clone();
        body[field.trim_end_matches("[0]")] = value;
        let problem = app.call(&token, "POST", webhooks, body.clone()).await.expect_problem(status, code);
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    let list = app.get(&token, webhooks).await.expect(200).json();
    assert_eq!(list["items"], json!([]), "nothing was stored");
    let made = app.call(&token, "POST", webhooks, good.clone()).await.expect(201).json();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    app.call(&token, "POST", webhooks, good).await.expect_problem(409, "name_taken");
    let one = format!("{webhooks}/pager");
    for (field, patch) in
        [("url", json!({"url": null})), ("events[0]", json!({"events": ["exploded"]})), ("name", json!({"name": "b"}))]
    {
        let answer = app.call(&token, "PATCH", &one, patch).await;
        assert!(answer.status.is_client_error(), "{field}: {}", answer.text());
    }
    let patched = app.call(&token, "PATCH", &one, json!({"enabled": false})).await.expect(200).json();
    assert_eq!((&patched["spec"]["enabled"], &patched["disabled_reason"]), (&json!(false), &json!("asked")));
    assert_eq!(patched["secret"], Value::Null);
    app.call(&token, "POST", &format!("{one}:test"), Value::Null).await.expect_problem(409, "webhook_disabled");
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let app = App::start().await;
    let token = app.acme().await;
    let post = |kind: Option<&str>, body: Body| {
        let builder = Request::post(INSTANCES).header("authorization", format!("Bearer {token}"));
        let builder = kind.into_iter().fold(builder, |builder, kind| builder.header("content-type", kind));
        builder.body(body).unwrap()
    };
    let json = Some("application/json");
    let problem = app.ask(post(json, Body::from("{\n  oops"))).await.expect_problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("line 2 column"), "{problem}");
    app.ask(post(json, Body::empty())).await.expect_problem(400, "invalid_request");
    app.ask(post(json, Body::from("[".repeat(50_000)))).await.expect_problem(400, "invalid_request");
    app.ask(post(json, Body::from(vec![0xff, 0xfe]))).await.expect_problem(400, "invalid_request");
    app.ask(post(None, Body::from("{}"))).await.expect_problem(415, "unsupported_media_type");
    app.ask(post(Some("text/plain"), Body::from("{}"))).await.expect_problem(415, "unsupported_media_type");
    let large = Body::from(vec![b' '; 1024 * 1024 + 1]);
    app.ask(post(json, large)).await.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let app = App::with(Vec::new(), |settings| settings.body_timeout = std::time::Duration::from_millis(50)).await;
    let token = app.acme().await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post(INSTANCES)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(never)
        .unwrap();
    app.ask(request).await.expect_problem(408, "body_timeout");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served() {
    let app = App::start().await;
    let token = app.acme().await;
    app.get(&token, "/v2/anything").await.expect_problem(404, "no_such_route");
    app.get(&token, "/v1/projects/default/instances/").await.expect_problem(404, "no_such_route");
    app.call(&token, "POST", "/v1/projects/default/instances/web:explode", Value::Null)
        .await
        .expect_problem(404, "no_such_route");
    for (method, path, allowed) in [
        ("PATCH", INSTANCES, "GET,HEAD,POST"),
        ("GET", "/v1/projects/default/instances/web:stop", "POST"),
        ("POST", "/v1/projects/default/instances/web", "GET,HEAD,PUT,PATCH,DELETE"),
        ("DELETE", "/oauth2/token", "POST"),
    ] {
        let answer = app.call(&token, method, path, Value::Null).await;
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
        answer.expect_problem(405, "method_not_allowed");
    }
    // A name that no instance can have is one that none has.
    for path in ["Web", "a.b", "%2e%2e", "web%00", "..%2f..%2fetc", "a%20b", "web:8080"] {
        let answer = app.get(&token, &format!("{INSTANCES}/{path}")).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn query_parameters_are_known_or_refused() {
    let app = App::start().await;
    let token = app.acme().await;
    for (path, field) in [
        ("/v1/projects/default/instances?stat=running", "stat"),
        ("/v1/projects/default/instances?state=walking", "state"),
        ("/v1/projects/default/instances?limit=0", "limit"),
        ("/v1/projects/default/instances?limit=1&limit=2", "limit"),
        ("/v1/projects/default/instances?label=app", "label"),
        ("/v1/projects/default/instances?dry_run=true", "dry_run"),
        ("/v1/projects/default/instances/web/wait", "state"),
        ("/v1/projects/default/instances/web/wait?state=running&timeout=1h", "timeout"),
        ("/v1/projects/default/events?after=-1", "after"),
        ("/v1/projects?x=1", "x"),
    ] {
        let problem = app.get(&token, path).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["field"], field, "{path}");
    }
    for (path, field) in [
        ("/v1/projects/default/instances?cursor=AAAA", "cursor"),
        ("/v1/usage?from=yesterday", "from"),
        ("/v1/usage?from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z", "to"),
    ] {
        let problem = app.get(&token, path).await.expect_problem(422, "invalid_field");
        assert_eq!(problem["field"], field, "{path}");
    }
}

#[tokio::test]
async fn the_request_id_is_the_clients_if_it_is_plain() {
    let app = App::start().await;
    let ask = |id: &str| Request::get("/healthz").header("x-request-id", id).body(Body::empty()).unwrap();
    let answer = app.ask(ask("order-66")).await.expect(200);
    assert_eq!(answer.headers["x-request-id"], "order-66");
    for hostile in ["a b", "<script>", &"x".repeat(65), "\"injected\""] {
        let answer = app.ask(ask(hostile)).await.expect(200);
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id != hostile && id.len() == 36, "{id}");
    }
    let answer = app.ask(request(None, "GET", "/readyz", &Value::Null)).await.expect(200);
    assert_eq!(answer.json()["status"], "ready");
}

/// Every place in a schema where an object belongs, as a body that has a list there and nothing else, and the field's path.
fn lists_for_objects(document: &Value, schema: &Value, place: &str, depth: usize, found: &mut Vec<(Value, String)>) {
    assert!(depth < 20, "{place} has no end");
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return lists_for_objects(document, target, place, depth + 1, found);
    }
    for one in ["oneOf", "anyOf", "allOf"].iter().flat_map(|key| schema[*key].as_array().into_iter().flatten()) {
        lists_for_objects(document, one, place, depth + 1, found);
    }
    let is_a =
        |kind: &str| schema["type"] == kind || schema["type"].as_array().is_some_and(|all| all.contains(&json!(kind)));
    let inner = |schema: &Value, place: &str| {
        let mut found = Vec::new();
        lists_for_objects(document, schema, place, depth + 1, &mut found);
        found
    };
    if is_a("array") {
        let items = inner(&schema["items"], &format!("{place}[0]"));
        found.extend(items.into_iter().map(|(body, place)| (json!([body]), place)));
    }
    if is_a("object") {
        found.push((json!([]), place.to_owned()));
        found.push((json!([null, null, null]), place.to_owned()));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let dot = if place.is_empty() { "" } else { "." };
            let fields = inner(property, &format!("{place}{dot}{name}"));
            found.extend(fields.into_iter().map(|(body, place)| (json!({ name: body }), place)));
        }
    }
}

#[tokio::test]
async fn a_list_is_no_object_in_any_request_of_the_document() {
    let app = App::start().await;
    let token = app.operator().await;
    let document: Value = serde_json::from_str(&openapi_text()).unwrap();
    let id = "0193573e-7a00-7000-8000-0000000000a1";
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let parts =
                path.split('/').map(|part| match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
                    Some(("project", verb)) => format!("default{verb}"),
                    Some(("name" | "container", verb)) => format!("web{verb}"),
                    Some((_, verb)) => format!("{id}{verb}"),
                    None => part.to_owned(),
                });
            let path = parts.collect::<Vec<_>>().join("/");
            let mut bodies = Vec::new();
            lists_for_objects(&document, schema, "", 0, &mut bodies);
            assert!(!bodies.is_empty(), "{method} {path} takes no object");
            for (body, place) in bodies {
                let answer = app.call(&token, &method.to_uppercase(), &path, body.clone()).await;
                assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.text());
                let problem = answer.expect_problem(400, "invalid_request");
                assert_eq!(problem["field"].as_str().unwrap_or_default(), place, "{method} {path} {body}: {problem}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "only {tried} places were found");
}
