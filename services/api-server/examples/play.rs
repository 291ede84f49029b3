//! The API on a played fleet: real application, real SQLite, no containers. To look at `/docs`, and for schemathesis:
//!
//! ```text
//! cargo run -p wherry-api-server --example play -- 127.0.0.1:8080 target/play.token
//! WHERRY_TOKEN=$(cat target/play.token) schemathesis --config-file xtask/schemathesis.toml run http://127.0.0.1:8080/openapi.json
//! ```
//!
//! The token may do everything and does not end: the clock of the played fleet stands still.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use wherry_api_server::{ApiParts, ApiSettings, ApiState, SigningKey, public_router, serve};
use wherry_control::TenantKeyRequest;
use wherry_model::ScopeSet;
use wherry_testkit::{Node, Stack};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let token_file = arguments.next();
    let stack = Stack::builder().nodes([Node::sized(10_000_000, 100_000_000)]).start().await;
    let obedience = stack.agent().keep_obeying();
    let shutdown = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let state = ApiState::new(ApiParts {
        control: stack.control().clone(),
        clock: Arc::clone(stack.clock()) as _,
        entropy: Arc::clone(stack.entropy()) as _,
        signing_key: SigningKey::ephemeral(stack.entropy().as_ref()),
        outside_issuers: Vec::new(),
        readiness: Vec::new(),
        settings: ApiSettings::new(format!("http://{}", listener.local_addr()?)),
        shutdown: shutdown.clone(),
    });
    let router = public_router(&state);

    let request = TenantKeyRequest { name: "play".to_owned(), scopes: ScopeSet::all(), expires_at: None };
    let key = stack.control().issue_key(stack.acme().record.id, request).await?;
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", key.record.id, key.secret);
    let ask = Request::post("/oauth2/token").header("content-type", "application/x-www-form-urlencoded");
    let answer = router.clone().oneshot(ask.body(Body::from(form))?).await?.into_body().collect().await?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let token = answer["access_token"].as_str().ok_or("no token was made")?;
    println!("http://{}/docs", listener.local_addr()?);
    match token_file {
        Some(file) => std::fs::write(file, token)?,
        None => println!("{token}"),
    }

    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    serve(listener, router, shutdown).await;
    drop(obedience);
    Ok(())
}
