//! The application with its router, and short ways to ask it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use wherry_api_server::{
    ApiParts, ApiSettings, ApiState, JoinPoint, OutsideIssuer, SigningKey, operator_router, public_router,
};
use wherry_control::{NewKey, TenantKeyRequest};
use wherry_model::{ScopeSet, TenantId};
use wherry_testkit::{Stack, Tenant};

pub(crate) const URL: &str = "https://wherry.example";

pub(crate) struct App {
    pub(crate) stack: Stack,
    pub(crate) router: Router,
    pub(crate) operator: Router,
    pub(crate) key: SigningKey,
    pub(crate) shutdown: CancellationToken,
}

/// An answer that was read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    /// It is a refusal in the right form with this code.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], answer.headers["x-request-id"].to_str().unwrap());
        problem
    }
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::with(Vec::new(), |_| {}).await
    }

    pub(crate) async fn with(outside: Vec<OutsideIssuer>, change: impl FnOnce(&mut ApiSettings)) -> Self {
        Self::on(Stack::start().await, outside, change)
    }

    /// Another installation: nothing in it has an id of the first.
    pub(crate) async fn elsewhere() -> Self {
        Self::on(Stack::builder().seed(2).start().await, Vec::new(), |_| {})
    }

    /// Signs its tokens with this key.
    pub(crate) async fn signing_with(key: SigningKey) -> Self {
        Self::assemble(Stack::start().await, Some(key), Vec::new(), |_| {})
    }

    /// The same data, after the process has been killed and started again.
    pub(crate) async fn restarted(self) -> Self {
        let Self { mut stack, router, operator, key, .. } = self;
        drop((router, operator));
        stack.reopen().await;
        stack.greet().await;
        Self::assemble(stack, Some(key), Vec::new(), |_| {})
    }

    fn on(stack: Stack, outside: Vec<OutsideIssuer>, change: impl FnOnce(&mut ApiSettings)) -> Self {
        Self::assemble(stack, None, outside, change)
    }

    fn assemble(
        stack: Stack,
        key: Option<SigningKey>,
        outside: Vec<OutsideIssuer>,
        change: impl FnOnce(&mut ApiSettings),
    ) -> Self {
        let key = key.unwrap_or_else(|| SigningKey::ephemeral(stack.entropy().as_ref()));
        let mut settings = ApiSettings::new(URL);
        change(&mut settings);
        let shutdown = CancellationToken::new();
        let state = ApiState::new(ApiParts {
            control: stack.control().clone(),
            clock: Arc::clone(stack.clock()) as _,
            entropy: Arc::clone(stack.entropy()) as _,
            signing_key: key.clone(),
            outside_issuers: outside,
            readiness: Vec::new(),
            settings,
            shutdown: shutdown.clone(),
        });
        Self { router: public_router(&state), operator: operator_router(&state), stack, key, shutdown }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// With a token, and a JSON body unless it is null.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.ask(request(Some(token), method, path, &body)).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null).await
    }

    /// A token for the key, with some of its scopes or all.
    pub(crate) async fn token_of(&self, key: &NewKey, scope: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
            key.record.id,
            key.secret,
            scope.replace(' ', "+").replace(':', "%3A")
        );
        let answer = self.ask(token_request(&form)).await.expect(200).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn token(&self, tenant: &Tenant) -> String {
        self.token_of(&tenant.key, "").await
    }

    pub(crate) async fn acme(&self) -> String {
        self.token(self.stack.acme()).await
    }

    pub(crate) async fn blue(&self) -> String {
        self.token(self.stack.blue()).await
    }

    /// A token with every scope, `admin` too.
    pub(crate) async fn operator(&self) -> String {
        let key = self.new_key(self.stack.operator().tenant, ScopeSet::all()).await;
        self.token_of(&key, "").await
    }

    pub(crate) async fn new_key(&self, tenant: TenantId, scopes: ScopeSet) -> NewKey {
        let request = TenantKeyRequest { name: "test".to_owned(), scopes, expires_at: None };
        self.stack.control().issue_key(tenant, request).await.unwrap()
    }
}

pub(crate) fn request(token: Option<&str>, method: &str, path: &str, body: &Value) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    if body.is_null() {
        return builder.body(Body::empty()).unwrap();
    }
    builder.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

pub(crate) fn token_request(form: &str) -> Request<Body> {
    Request::builder()
        .method("POST")
        .uri("/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap()
}

/// A spec that any tenant may ask for.
pub(crate) fn spec() -> Value {
    json!({"containers": [{"image": "registry.example/demo/web:1", "cpu": "100m", "memory": "64Mi"}]})
}

/// A create of that name.
pub(crate) fn create(name: &str) -> Value {
    let mut body = spec();
    body["name"] = json!(name);
    body
}

/// Where machines would join.
pub(crate) fn join_point() -> JoinPoint {
    JoinPoint { url: "https://192.0.2.1:7443".to_owned(), ca_fingerprint: format!("sha256:{}", "0a".repeat(32)) }
}

/// The fields of that name in a stream of events.
pub(crate) fn fields<'a>(stream: &'a str, name: &str) -> Vec<&'a str> {
    stream.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).collect()
}
