//! `GET /v1/projects/{project}/instances/{instance}/containers/{container}/attach`

use axum::extract::{Extension, State};
use axum::response::Response;
use utoipa::IntoParams;
use wherry_api_types::{Problem, text};
use wherry_control::{SessionKind, TerminalSize};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{ContainerPath, FromQuery, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::session::{Upgrade, Wanted, begin, terminal};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttachQuery {
    /// Whether input is sent. Only where the container has `stdin`.
    #[param(required = false, value_type = bool)]
    stdin: bool,
    /// Whether the terminal of the container gets the size below, and changes of it. Only where the container has `tty`.
    #[param(required = false, value_type = bool)]
    tty: Option<TerminalSize>,
    /// Of the terminal; 80 when absent.
    #[param(required = false, minimum = 1, maximum = 65535, value_type = u16)]
    #[expect(dead_code, reason = "a parameter of the document, read with tty")]
    columns: (),
    /// Of the terminal; 24 when absent.
    #[param(required = false, minimum = 1, maximum = 65535, value_type = u16)]
    #[expect(dead_code, reason = "a parameter of the document, read with tty")]
    rows: (),
}

impl FromQuery for AttachQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { stdin: query.flag("stdin", false)?, tty: terminal(query)?, columns: (), rows: () })
    }
}

/// Watch and talk to the main program of a container
///
/// What it prints from now on, and its input; what it printed before is in its log. Goes on as a WebSocket of the subprotocol
/// `wherry.v1`, as `container_exec_session` describes. Who goes away leaves the program as it is.
///
/// Of a container with `stdin` or `tty` every byte comes as it is printed; of others lines come, as their log has them. The end of
/// the input is the program's where the container has `stdin_once`, and so is the way of who gives it; otherwise, and on a terminal,
/// it is nobody's. Several may be attached at once: each hears all, what they send is put together as it comes, and the terminal has
/// the size that was asked for last. The program waits for who does not take its output, for at most ten seconds: then that one is
/// cut off.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}/attach",
    operation_id = "container_attach",
    tag = "instances",
    security(("token" = ["instances:exec"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
        AttachQuery,
    ),
    responses(
        (status = 101, description = "What follows is the WebSocket."),
        (status = 409, description = "The container does not run, or has no input or no terminal.", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "This goes on as a WebSocket, which the request does not ask for.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open, or entered its instances too often within an hour.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(query): Query<AttachQuery>,
    Extension(place): Extension<StreamPlace>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let kind = SessionKind::Attach { container, stdin: query.stdin, tty: query.tty };
    begin(state, principal, place, upgrade, Wanted { project, instance, kind }).await
}
