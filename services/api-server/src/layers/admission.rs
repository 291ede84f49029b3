//! How much is done at once. Beyond it a request is refused at once: a queue would only make everybody late.
//!
//! Waits and streams are idle most of their life, so they have a bound of their own and give back their place among the
//! requests: a thousand readers of logs do not keep anybody from creating an instance. A tenant has only a part of them, so
//! one tenant's readers do not keep another's out. A start may have to wait for a stop, and a program that runs in a
//! container waits for its end: both count as waits. Programs have a lower bound besides, because each may leave some MiB of
//! output in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
        let place = state.streams.take(tenant)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let open = state.metrics.streams.clone();
        open.inc();
        Ok(StreamPermit { _place: place, open })
    }
}

/// The place of a wait or stream; held until it ends.
pub(crate) struct StreamPermit {
    _place: Place,
    open: prometheus::IntGauge,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Places of one kind: so many in all, and of these so many for one tenant.
pub(crate) struct Places {
    what: &'static str,
    code: &'static str,
    all: Arc<Semaphore>,
    max_of_tenant: usize,
    /// Tenants that have none are not in it, so it is as small as its use.
    taken: Arc<Mutex<HashMap<TenantId, usize>>>,
}

impl Places {
    /// `what` and `code` are for those who find no place.
    pub(crate) fn new(what: &'static str, code: &'static str, max: usize, max_of_tenant: usize) -> Self {
        Self { what, code, all: Arc::new(Semaphore::new(max)), max_of_tenant, taken: Arc::default() }
    }

    /// A place for the tenant, or the refusal.
    pub(crate) fn take(&self, tenant: TenantId) -> Result<Place, ApiError> {
        let permit = Arc::clone(&self.all).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::Overloaded(self.what))?;
        {
            let mut taken = counts(&self.taken);
            let count = taken.entry(tenant).or_default();
            if *count >= self.max_of_tenant {
                let (what, max, code) = (self.what, self.max_of_tenant, self.code);
                // A bound of none leaves no entry behind.
                if *count == 0 {
                    taken.remove(&tenant);
                }
                return Err(ApiError::TooManyOfTenant { what, max, code });
            }
            *count += 1;
        }
        Ok(Place { _permit: permit, tenant, taken: Arc::clone(&self.taken) })
    }
}

fn counts(taken: &Mutex<HashMap<TenantId, usize>>) -> MutexGuard<'_, HashMap<TenantId, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of [`Places`]; given back when dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    tenant: TenantId,
    taken: Arc<Mutex<HashMap<TenantId, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = counts(&self.taken);
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wherry_model::TenantId;

    use super::*;

    #[test]
    fn a_tenant_has_a_part_of_the_places_and_gives_them_back() {
        let [acme, blue, red] = [1, 2, 3].map(|number| TenantId::from_uuid(uuid::Uuid::from_u128(number)));
        let places = Places::new("things", "too_many_things", 3, 2);
        let first = places.take(acme).unwrap();
        let second = places.take(acme).unwrap();
        let refused = places.take(acme).err().unwrap();
        assert!(matches!(refused, ApiError::TooManyOfTenant { max: 2, code: "too_many_things", .. }), "{refused}");
        let third = places.take(blue).unwrap();
        assert!(matches!(places.take(red).err(), Some(ApiError::Overloaded("things"))), "there are three in all");
        drop(first);
        drop(places.take(acme).unwrap());
        drop((second, third));
        assert!(counts(&places.taken).is_empty(), "who has none is forgotten");
        assert_eq!(places.all.available_permits(), 3);
    }

    #[test]
    fn a_bound_of_none_lets_nobody_in_and_remembers_nobody() {
        let places = Places::new("things", "too_many_things", 3, 0);
        assert!(places.take(TenantId::from_uuid(uuid::Uuid::from_u128(1))).is_err());
        assert!(counts(&places.taken).is_empty());
    }
}
