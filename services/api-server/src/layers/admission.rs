//! How much is done at once. Beyond it a request is refused at once: a queue would only make everybody late.
//!
//! Waits and streams are idle most of their life, so they have a bound of their own and give back their place among the
//! requests: a thousand readers of logs do not keep anybody from creating an instance. A tenant has only a part of them, so
//! one tenant's readers do not keep another's out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use wherry_model::TenantId;

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
    /// Makes the exchange, if there is a place among the tenant's streams and among all.
    pub(crate) fn admit(&self, state: &ApiState, tenant: TenantId) -> Result<StreamPermit, ApiError> {
        let permit = Arc::clone(&state.streams).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::Overloaded("other waits and streams"))?;
        let max = state.settings.max_streams_per_tenant;
        if !state.streams_of.take(tenant, max) {
            return Err(ApiError::TooManyStreams(max));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let open = state.metrics.streams.clone();
        open.inc();
        Ok(StreamPermit { _permit: permit, open, tenant, streams_of: Arc::clone(&state.streams_of) })
    }
}

/// How many waits and streams each tenant has open. Tenants without any are not in it, so it is as small as its use.
#[derive(Default)]
pub(crate) struct StreamsOf(Mutex<HashMap<TenantId, usize>>);

impl StreamsOf {
    fn counts(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, tenant: TenantId, max: usize) -> bool {
        let mut counts = self.counts();
        let open = counts.entry(tenant).or_default();
        let room = *open < max;
        if room {
            *open += 1;
        }
        room
    }

    fn give_back(&self, tenant: TenantId) {
        let mut counts = self.counts();
        if let Some(open) = counts.get_mut(&tenant) {
            *open -= 1;
            if *open == 0 {
                counts.remove(&tenant);
            }
        }
    }
}

/// The place of a wait or stream; held until it ends.
pub(crate) struct StreamPermit {
    _permit: OwnedSemaphorePermit,
    open: prometheus::IntGauge,
    tenant: TenantId,
    streams_of: Arc<StreamsOf>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.open.dec();
        self.streams_of.give_back(self.tenant);
    }
}
