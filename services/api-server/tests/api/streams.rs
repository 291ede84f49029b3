//! Events and logs: streams that can be resumed, and that end when they should.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{App, create, fields, request};

const INSTANCES: &str = "/v1/projects/default/instances";

/// The next piece of a stream.
async fn piece(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("the stream says something");
    frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn events_are_replayed_from_a_number_and_then_live() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", INSTANCES, create("web")).await.expect(201);
    app.stack.agent().obey().await;
    let past = app.get(&token, "/v1/projects/default/events?follow=false").await.expect(200);
    assert_eq!(past.headers["content-type"], "text/event-stream");
    let text = past.text();
    let (ids, kinds) = (fields(&text, "id"), fields(&text, "event"));
    assert_eq!(kinds.first(), Some(&"created"));
    assert!(kinds.contains(&"container_started"), "{text}");
    let first: Value = serde_json::from_str(fields(&text, "data")[0]).unwrap();
    assert_eq!((&first["instance"], &first["kind"]), (&json!("web"), &json!("created")));
    assert_eq!(first["seq"].to_string(), ids[0]);
    assert!(!text.contains("node"), "nothing tells of machines: {text}");

    // From a number; `Last-Event-ID` says the same and wins.
    let rest = app.get(&token, &format!("/v1/projects/default/events?follow=false&after={}", ids[0])).await.text();
    assert_eq!(fields(&rest, "id"), ids[1..]);
    let mut again = request(Some(&token), "GET", &format!("{INSTANCES}/web/events?follow=false&after=0"), &Value::Null);
    again.headers_mut().insert("last-event-id", ids[ids.len() - 2].parse().unwrap());
    assert_eq!(fields(&app.ask(again).await.text(), "id"), ids[ids.len() - 1..]);

    // Live: nothing, then what happens.
    let last = ids[ids.len() - 1];
    let live = request(Some(&token), "GET", &format!("{INSTANCES}/web/events?after={last}"), &Value::Null);
    let mut body = app.send(live).await.into_body();
    app.call(&token, "POST", &format!("{INSTANCES}/web:stop"), Value::Null).await.expect(202);
    let news = piece(&mut body).await.unwrap();
    assert_eq!(fields(&news, "event"), ["stop_requested"], "{news}");
    app.shutdown.cancel();
    assert_eq!(piece(&mut body).await, None, "a shutdown ends streams");
}

#[tokio::test]
async fn events_that_are_not_kept_any_more_are_said_to_be_gone() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", INSTANCES, create("old")).await.expect(201);
    app.stack.agent().obey().await;
    app.call(&token, "DELETE", &format!("{INSTANCES}/old"), Value::Null).await.expect(202);
    app.stack.agent().obey().await;
    let text = app.get(&token, "/v1/projects/default/events?follow=false").await.expect(200).text();
    let ids: Vec<u64> = fields(&text, "id").iter().map(|id| id.parse().unwrap()).collect();
    let (first, last) = (ids[0], ids[ids.len() - 1]);
    // Past the days for which a deleted instance is kept.
    app.stack.advance(Duration::from_hours(24 * 30));
    app.stack.background().await;
    let token = app.acme().await;
    for follow in [true, false] {
        let path = format!("/v1/projects/default/events?follow={follow}&after={first}");
        let problem = app.get(&token, &path).await.expect(410).json();
        assert_eq!((&problem["code"], &problem["field"]), (&json!("events_forgotten"), &json!("after")));
        assert!(problem["detail"].as_str().unwrap().contains(&format!("go on after {last}")), "{problem}");
    }
    for after in [0, last] {
        let path = format!("/v1/projects/default/events?follow=false&after={after}");
        assert_eq!(app.get(&token, &path).await.expect(200).text(), "");
    }
}

#[tokio::test]
async fn an_idle_event_stream_says_that_it_is_alive() {
    let app = App::with(Vec::new(), |settings| settings.stream_keep_alive = Duration::from_millis(20)).await;
    let token = app.acme().await;
    let live = request(Some(&token), "GET", "/v1/projects/default/events", &Value::Null);
    let mut body = app.send(live).await.into_body();
    let comment = piece(&mut body).await.unwrap();
    assert!(comment.starts_with(':'), "{comment:?}");
}

#[tokio::test]
async fn logs_are_what_was_printed() {
    let app = App::start().await;
    let token = app.acme().await;
    let logs = format!("{INSTANCES}/web/containers/main/logs");
    let made = app.call(&token, "POST", INSTANCES, create("web")).await.expect(201).json();
    assert_eq!(app.get(&token, &logs).await.expect(200).text(), "", "it has not run yet");
    app.stack.agent().obey().await;
    let id = made["id"].as_str().unwrap().parse().unwrap();
    for line in ["one", "two", "<script>three</script>"] {
        app.stack.agent().print(id, line);
    }
    let answer = app.get(&token, &logs).await.expect(200);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.text(), "one\ntwo\n<script>three</script>\n");
    assert_eq!(app.get(&token, &format!("{logs}?tail=1")).await.text(), "<script>three</script>\n");
    app.get(&token, &format!("{logs}?tail=-1")).await.expect_problem(400, "invalid_request");
    app.get(&token, &format!("{logs}?run=-1")).await.expect_problem(404, "not_found");
    let other = format!("{INSTANCES}/web/containers/other/logs");
    app.get(&token, &other).await.expect_problem(404, "not_found");
}
