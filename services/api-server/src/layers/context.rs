//! Who and what a request is: its id, its log line, its numbers.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tracing::Instrument;
use wherry_model::TenantId;

use super::verbs::public_template;
use crate::error::with_request_id;
use crate::state::ApiState;

/// Where a request's id stands, both ways.
const REQUEST_ID: &str = "x-request-id";

/// The longest id that is taken from a client.
const MAX_ID_BYTES: usize = 64;

/// Goes with a request; whoever learns more about it writes it here.
#[derive(Clone, Default)]
pub(crate) struct RequestContext {
    tenant: Arc<OnceLock<TenantId>>,
}

impl RequestContext {
    pub(crate) fn set_tenant(&self, tenant: TenantId) {
        // Only the first is kept; a request has one caller.
        let _ = self.tenant.set(tenant);
    }
}

/// Gives the request its id, and when it is answered writes one log line and counts it.
pub(crate) async fn observe(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = id_from(request.headers()).unwrap_or_else(|| fresh_id(&state));
    let route = request.extensions().get::<MatchedPath>().map(|path| public_template(path.as_str()));
    let route = route.unwrap_or_else(|| "unmatched".to_owned());
    let method = request.method().clone();
    let context = RequestContext::default();
    request.extensions_mut().insert(context.clone());

    let span = tracing::info_span!("request", %id);
    let in_flight = InFlight::new(&state);
    let response = next.run(request).instrument(span).await;
    drop(in_flight);

    let status = response.status().as_u16();
    let took = started.elapsed();
    // A method that no route knows is a word of the client's choice: it must not become a label.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let label = known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
    state.metrics.answered(&route, label, status, took);
    let tenant = context.tenant.get().map(ToString::to_string);
    tracing::info!(
        %id,
        tenant = tenant.as_deref().unwrap_or("-"),
        method = label,
        route,
        status,
        time_ms = format_args!("{:.3}", took.as_secs_f64() * 1_000.0),
        "answered"
    );
    let mut response = with_request_id(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Counts down also when the client goes away and the handler is dropped half-way.
struct InFlight(prometheus::IntGauge);

impl InFlight {
    fn new(state: &ApiState) -> Self {
        let gauge = state.metrics.in_flight.clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The client's own id, when it is short and plain enough for a log.
fn id_from(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain)).then(|| id.to_owned())
}

fn fresh_id(state: &ApiState) -> String {
    let mut random = [0_u8; 16];
    state.entropy.fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}
