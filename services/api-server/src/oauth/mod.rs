//! Tokens for keys, and what whoever verifies them needs.

mod credentials;
pub(crate) mod jwks;
pub(crate) mod metadata;
pub(crate) mod token;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::ApiState;

/// The operations with their documentation. They need no token.
pub(crate) fn routes(router: OpenApiRouter<ApiState>) -> OpenApiRouter<ApiState> {
    router.routes(routes!(token::handle)).routes(routes!(jwks::handle)).routes(routes!(metadata::handle))
}
