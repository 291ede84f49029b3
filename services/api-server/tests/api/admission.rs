//! How much at once (A41): beyond the bounds a refusal comes at once, and streams do not keep anybody from working.

use std::time::Duration;

use serde_json::Value;

use crate::support::{App, create, request, token_request};

#[tokio::test]
async fn beyond_the_bound_a_request_is_refused_at_once() {
    let app = App::with(Vec::new(), |settings| settings.max_requests = 1).await;
    let token = app.acme().await;
    // A request that is stuck in its body holds the only place.
    let never = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let mut stuck = request(Some(&token), "POST", "/v1/projects", &Value::Null);
    stuck.headers_mut().insert("content-type", "application/json".parse().unwrap());
    *stuck.body_mut() = never;
    let router = app.router.clone();
    let holder = tokio::spawn(async move { tower::ServiceExt::oneshot(router, stuck).await });
    // On this runtime of one thread the request takes its place before anybody else is asked.
    tokio::task::yield_now().await;
    let refused = app.get(&token, "/v1/projects").await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_problem(503, "overloaded");
    holder.abort();
    wherry_testkit::eventually("the place is free again", || async {
        (app.get(&token, "/v1/projects").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn streams_have_a_bound_of_their_own() {
    let app = App::with(Vec::new(), |settings| {
        settings.max_requests = 1;
        settings.max_streams = 2;
    })
    .await;
    let token = app.acme().await;
    let follow = || request(Some(&token), "GET", "/v1/projects/default/events", &Value::Null);
    let first = app.send(follow()).await;
    let second = app.send(follow()).await;
    assert!(first.status().is_success() && second.status().is_success());
    app.ask(follow()).await.expect_problem(503, "overloaded");
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    drop(first);
    let third = app.send(follow()).await;
    assert!(third.status().is_success(), "a stream that ended leaves its place");
}

#[tokio::test]
async fn a_wait_does_not_hold_a_place_among_the_requests() {
    let app = App::with(Vec::new(), |settings| settings.max_requests = 1).await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    let wait = request(Some(&token), "GET", "/v1/projects/default/instances/web/wait?state=running", &Value::Null);
    let router = app.router.clone();
    let waiting = tokio::spawn(async move { tower::ServiceExt::oneshot(router, wait).await });
    tokio::task::yield_now().await;
    wherry_testkit::eventually("others are served meanwhile", || async {
        (app.get(&token, "/v1/projects").await.status == 200).then_some(())
    })
    .await;
    app.stack.agent().obey().await;
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert!(answer.status().is_success());
}

#[tokio::test]
async fn one_tenants_streams_do_not_keep_anothers_out() {
    let app = App::with(Vec::new(), |settings| settings.max_streams_per_tenant = 1).await;
    let follow = |token: &str| request(Some(token), "GET", "/v1/projects/default/events", &Value::Null);
    let (acme, blue) = (app.acme().await, app.blue().await);
    let first = app.send(follow(&acme)).await;
    let refused = app.ask(follow(&acme)).await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_problem(429, "too_many_streams");
    assert!(app.send(follow(&blue)).await.status().is_success());
    drop(first);
    assert!(app.send(follow(&acme)).await.status().is_success());
}

#[tokio::test]
async fn strangers_slow_bodies_do_not_keep_callers_out() {
    let app = App::with(Vec::new(), |settings| settings.max_logins = 2).await;
    let token = app.acme().await;
    let stuck = || {
        let never = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let mut request = token_request("");
        *request.body_mut() = never;
        tokio::spawn(tower::ServiceExt::oneshot(app.router.clone(), request))
    };
    let _held = [stuck(), stuck()];
    tokio::task::yield_now().await;
    app.ask(token_request("grant_type=client_credentials")).await.expect_problem(503, "overloaded");
    app.get(&token, "/v1/projects").await.expect(200);
}
