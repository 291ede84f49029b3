//! `GET /v1/projects/{project}/instances/{instance}/port-forward`

use axum::extract::{Extension, State};
use axum::response::Response;
use utoipa::IntoParams;
use wherry_api_types::{Problem, text};
use wherry_control::SessionKind;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{FromQuery, InstancePath, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::session::{Upgrade, Wanted, begin};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PortQuery {
    /// The TCP port, as programs inside of the instance see it on their loopback address.
    #[param(required = true, minimum = 1, maximum = 65535, value_type = u16)]
    port: u16,
}

impl FromQuery for PortQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let port = query.number("port", 1..=u16::MAX)?;
        Ok(Self { port: port.ok_or_else(|| ApiError::malformed("port", "say which port, for example port=8080"))? })
    }
}

/// Connect to a port inside of an instance
///
/// One TCP connection, also to what listens on loopback only. Goes on as a WebSocket of the subprotocol `wherry.v1`, as
/// `container_exec_session` describes: channel 0 to the port, channel 1 from it.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/port-forward",
    operation_id = "instance_port_forward",
    tag = "instances",
    security(("token" = ["instances:exec"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        PortQuery,
    ),
    responses(
        (status = 101, description = "It is connected; what follows is the WebSocket."),
        (status = 409, description = "The instance does not run, or nothing listens on the port.", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "This goes on as a WebSocket, which the request does not ask for.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open, or entered its instances too often within an hour.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(PortQuery { port }): Query<PortQuery>,
    Extension(place): Extension<StreamPlace>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let kind = SessionKind::Port { port };
    begin(state, principal, place, upgrade, Wanted { project, instance, kind }).await
}
