//! The token endpoint and what is published for those who verify tokens.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Request;
use serde_json::Value;

use crate::support::{App, URL, request, token_request};

#[tokio::test]
async fn a_key_gets_a_token_both_ways() {
    let app = App::start().await;
    let key = &app.stack.acme().key;
    let basic = STANDARD.encode(format!("{}:{}", key.record.id, key.secret));
    let ask = Request::post("/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Basic {basic}"))
        .body(Body::from("grant_type=client_credentials&scope=logs%3Aread"))
        .unwrap();
    let answer = app.ask(ask).await.expect(200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let grant = answer.json();
    assert_eq!(
        (&grant["token_type"], &grant["expires_in"], &grant["scope"]),
        (&"Bearer".into(), &900.into(), &"logs:read".into())
    );
    let token = grant["access_token"].as_str().unwrap();
    app.get(token, "/v1/projects").await.expect_problem(403, "insufficient_scope");

    let part = |index: usize| -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!((&header["typ"], &header["alg"]), (&"at+jwt".into(), &"EdDSA".into()));
    assert_eq!((&claims["iss"], &claims["aud"]), (&URL.into(), &"wherry".into()));
    for claim in ["exp", "nbf", "iat", "sub", "jti", "scope", "tenant", "client_id"] {
        assert!(!claims[claim].is_null(), "{claim} is missing: {claims}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);

    let published = app.ask(request(None, "GET", "/.well-known/jwks.json", &Value::Null)).await.expect(200).json();
    assert_eq!(published["keys"][0]["kid"], header["kid"]);
    assert!(published["keys"][0].get("d").is_none(), "the private half stays here");
    let metadata = app.ask(request(None, "GET", "/.well-known/oauth-authorization-server", &Value::Null)).await;
    assert_eq!(metadata.expect(200).json()["token_endpoint"], format!("{URL}/oauth2/token"));
}

#[tokio::test]
async fn refusals_have_the_form_of_rfc_6749() {
    let app = App::start().await;
    let key = &app.stack.acme().key;
    let client = format!("client_id={}&client_secret={}", key.record.id, key.secret);
    let grant = "grant_type=client_credentials";
    let other = app.stack.blue().key.record.id;
    for (status, error, form) in [
        (400, "invalid_request", client.clone()),
        (400, "invalid_request", format!("{grant}&{grant}&{client}")),
        (400, "unsupported_grant_type", format!("grant_type=password&{client}")),
        (400, "invalid_scope", format!("{grant}&{client}&scope=root")),
        (400, "invalid_scope", format!("{grant}&{client}&scope=admin")),
        (401, "invalid_client", grant.to_owned()),
        (401, "invalid_client", format!("{grant}&client_id={}&client_secret=wrong", key.record.id)),
        (401, "invalid_client", format!("{grant}&client_id={other}&client_secret={}", key.secret)),
        (401, "invalid_client", format!("{grant}&client_id=nobody&client_secret=x")),
    ] {
        let answer = app.ask(token_request(&form)).await.expect(status);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
        let body = answer.json();
        assert_eq!(body["error"], error, "{form}");
        assert!(!body["error_description"].as_str().unwrap().is_empty());
    }
    let json =
        Request::post("/oauth2/token").header("content-type", "application/json").body(Body::from("{}")).unwrap();
    assert_eq!(app.ask(json).await.expect(400).json()["error"], "invalid_request");
}

#[tokio::test]
async fn an_expired_key_gets_nothing_and_its_tokens_end() {
    let app = App::start().await;
    let token = app.acme().await;
    let expires = "2026-01-01T00:05:00Z";
    let body = serde_json::json!({"name": "short", "scopes": ["instances:read"], "expires_at": expires});
    let made = app.call(&token, "POST", "/v1/keys", body).await.expect(201).json();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        made["key"]["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap()
    );
    let grant = app.ask(token_request(&form)).await.expect(200).json();
    let short = grant["access_token"].as_str().unwrap();
    // The state of a key is believed for a few seconds; none of them has passed here before the first use.
    app.stack.advance(std::time::Duration::from_secs(301));
    app.get(short, "/v1/projects").await.expect_problem(401, "unauthenticated");
    app.ask(token_request(&form)).await.expect(401);
}
