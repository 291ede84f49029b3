//! How much is done at once. Beyond it a request is refused at once: a queue would only make everybody late.
//!
//! Waits and streams are idle most of their life, so they have a bound of their own and give back their place among the
//! requests: a thousand readers of logs do not keep anybody from creating an instance.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::state::ApiState;

pub(super) async fn limit(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&state.requests).try_acquire_owned() else {
        return ApiError::Overloaded("other requests").into_response();
    };
    let place = StreamPlace(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    drop(place);
    response
}

/// A request's place among the requests, which a wait or stream exchanges for one among the streams.
#[derive(Clone)]
pub(crate) struct StreamPlace(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl StreamPlace {
    /// Makes the exchange, if there is a place among the streams.
    pub(crate) fn admit(&self, state: &ApiState) -> Result<StreamPermit, ApiError> {
        let permit = Arc::clone(&state.streams).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::Overloaded("other waits and streams"))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let open = state.metrics.streams.clone();
        open.inc();
        Ok(StreamPermit { _permit: permit, open })
    }
}

/// The place of a wait or stream; held until it ends.
pub(crate) struct StreamPermit {
    _permit: OwnedSemaphorePermit,
    open: prometheus::IntGauge,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.open.dec();
    }
}
