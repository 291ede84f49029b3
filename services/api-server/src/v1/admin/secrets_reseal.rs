//! `POST /v1/admin/secrets:reseal`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{SecretsResealed, text};
use wherry_control::Resealed;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{FromQuery, Query, QueryReader};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResealQuery {
    /// `next` of the answer before; from the beginning when absent.
    #[param(required = false, value_type = text::ResealCursor)]
    after: Option<String>,
}

impl FromQuery for ResealQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let after = query.text("after")?;
        let is_formed = |text: &str| {
            let rest = text.strip_prefix(['i', 'w']);
            rest.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        };
        if after.as_deref().is_some_and(|text| !is_formed(text)) {
            return Err(ApiError::malformed("after", "it is `next` of an answer before: begin again without it"));
        }
        Ok(Self { after })
    }
}

/// Seal stored secrets with the newest key
///
/// After another sealing key has come: a hundred instances or webhooks at a time. Ask again with `next` until there is none; a second
/// pass changes nothing, and proves with `unopened: 0` that older keys are not needed any more. Nothing restarts.
#[utoipa::path(
    post,
    path = "/v1/admin/secrets:reseal",
    operation_id = "secrets_reseal",
    tag = "admin",
    security(("token" = ["admin"])),
    params(ResealQuery),
    responses((status = 200, description = "What was done, and where to go on.", body = SecretsResealed))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<ResealQuery>,
) -> Result<Json<SecretsResealed>, ApiError> {
    let done = state.control.reseal_secrets(&principal, query.after.as_deref()).await?;
    let Resealed { key, examined, resealed, unopened, next } = done;
    Ok(Json(SecretsResealed { key, examined, resealed, unopened, next }))
}
