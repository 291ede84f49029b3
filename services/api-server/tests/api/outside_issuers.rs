//! Tokens of an issuer that the operator trusts by configuration: keys from a file or a URL, a claim mapped to a tenant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use wherry_api_server::{JwksSource, OutsideAlgorithm, OutsideIssuer, SigningKey};
use wherry_model::{Scope, TenantName};

use crate::support::App;

const ISSUER: &str = "https://login.example/realm";

struct Seeded(u8);
impl wherry_model::Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

/// The public half of the issuer's key.
fn key_set(seed: u8) -> Value {
    let key = SigningKey::ephemeral(&Seeded(seed));
    json!({"keys": [key.public()]})
}

fn issuer(keys: JwksSource) -> OutsideIssuer {
    OutsideIssuer {
        issuer: ISSUER.to_owned(),
        audience: "wherry-api".to_owned(),
        keys,
        algorithms: vec![OutsideAlgorithm::Rs256, OutsideAlgorithm::EdDsa],
        tenant_claim: "org".to_owned(),
        tenants: BTreeMap::from([
            ("acme-inc".to_owned(), TenantName::new("acme").unwrap()),
            ("ghost".to_owned(), TenantName::new("nobody").unwrap()),
        ]),
        scopes: [Scope::InstancesRead].into_iter().collect(),
    }
}

fn token(app: &App, seed: u8, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let now = wherry_model::Clock::now(app.stack.clock().as_ref()).grid_second();
    let mut header = json!({"typ": "JWT", "alg": "EdDSA", "kid": SigningKey::ephemeral(&Seeded(seed)).public().kid});
    let mut claims = json!({
        "iss": ISSUER, "aud": ["wherry-api", "other"], "sub": "alice", "org": "acme-inc",
        "iat": now, "exp": now + 3600, "scope": "admin instances:write",
    });
    change(&mut header, &mut claims);
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encoded(&header), encoded(&claims));
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let key = EncodingKey::from_ed_der(&[prefix.as_slice(), &[seed; 32]].concat());
    format!("{signed}.{}", crypto::sign(signed.as_bytes(), &key, Algorithm::EdDSA).unwrap())
}

async fn trusting_file(folder: &Path) -> App {
    let file = folder.join("keys.json");
    std::fs::write(&file, key_set(3).to_string()).unwrap();
    App::with(vec![issuer(JwksSource::File(file))], |_| {}).await
}

#[tokio::test]
async fn a_trusted_issuers_token_acts_for_the_mapped_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let app = trusting_file(folder.path()).await;
    let acme = app.acme().await;
    app.call(&acme, "POST", "/v1/projects", json!({"name": "of-acme"})).await.expect(201);
    let alice = token(&app, 3, |_, _| {});
    let projects = app.get(&alice, "/v1/projects").await.expect(200).text();
    assert!(projects.contains("of-acme"));
    // What it may do is the operator's decision; the token's own `scope` is not heard.
    app.call(&alice, "POST", "/v1/projects", json!({"name": "x"})).await.expect_problem(403, "insufficient_scope");
    app.get(&alice, "/v1/admin/nodes").await.expect_problem(403, "insufficient_scope");
}

#[tokio::test]
async fn what_is_not_right_about_it_is_refused() {
    type Break = fn(&mut Value, &mut Value);
    let folder = tempfile::tempdir().unwrap();
    let app = trusting_file(folder.path()).await;
    let cases: [(&str, Break); 13] = [
        ("another tenant's word", |_, c| c["org"] = json!("blue")),
        ("a tenant that is not here", |_, c| c["org"] = json!("ghost")),
        ("no tenant", |_, c| c["org"] = json!(null)),
        ("an untrusted issuer", |_, c| c["iss"] = json!("https://evil.example")),
        ("another audience", |_, c| c["aud"] = json!("other")),
        ("other audiences", |_, c| c["aud"] = json!(["other"])),
        ("no subject", |_, c| c["sub"] = json!("")),
        ("expired", |_, c| c["exp"] = json!(1)),
        ("no time of issue", |_, c| c["iat"] = json!(null)),
        ("living too long", |_, c| c["exp"] = json!(c["iat"].as_i64().unwrap() + 90_000)),
        ("an algorithm that is not its", |h, _| h["alg"] = json!("ES256")),
        ("a type that is not an access token's", |h, _| h["typ"] = json!("logout+jwt")),
        ("an unknown key", |h, _| h["kid"] = json!("other")),
    ];
    for (what, break_it) in cases {
        let answer = app.get(&token(&app, 3, break_it), "/v1/projects").await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    }
    let forged = token(&app, 4, |header, _| header["kid"] = key_set(3)["keys"][0]["kid"].clone());
    app.get(&forged, "/v1/projects").await.expect_problem(401, "unauthenticated");
    // Ours, signed with the outside key; the outside issuer's, signed with ours.
    let ours = token(&app, 3, |header, claims| {
        claims["iss"] = json!(crate::support::URL);
        header["typ"] = json!("at+jwt");
    });
    app.get(&ours, "/v1/projects").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn keys_from_a_url_are_fetched_once_and_unknown_ones_do_not_flood_the_issuer() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetched);
    let routes = Router::new().route(
        "/keys",
        get(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { key_set(3).to_string() }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let app = App::with(vec![issuer(JwksSource::Url(format!("http://{address}/keys")))], |_| {}).await;
    for _ in 0..5 {
        app.get(&token(&app, 3, |_, _| {}), "/v1/projects").await.expect(200);
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
    for attempt in 0..50 {
        let unknown = token(&app, 3, |header, _| header["kid"] = json!(format!("unknown-{attempt}")));
        app.get(&unknown, "/v1/projects").await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1, "an unknown key is not a reason to fetch again at once");
    server.abort();
    app.get(&token(&app, 3, |_, _| {}), "/v1/projects").await.expect(200);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_not_a_reason_to_let_anybody_in() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let app = App::with(vec![issuer(JwksSource::Url(format!("http://{unused}/keys")))], |_| {}).await;
    app.get(&token(&app, 3, |_, _| {}), "/v1/projects").await.expect_problem(401, "unauthenticated");
    app.get(&app.acme().await, "/v1/projects").await.expect(200);
}
