//! `GET /v1/projects/{project}/instances/{instance}/containers/{container}/exec`

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
pub(crate) struct ExecQuery {
    /// The program, and once more for each of its arguments, at most 32 KiB together. No shell is added.
    #[param(required = true, value_type = Vec<text::PlainText>, min_items = 1, max_items = 200)]
    command: Vec<String>,
    /// Whether it gets input; without it its input is empty.
    #[param(required = false, value_type = bool)]
    stdin: bool,
    /// Whether it gets a terminal: then all of its output is on one channel.
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

impl FromQuery for ExecQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self {
            command: query.all("command"),
            stdin: query.flag("stdin", false)?,
            tty: terminal(query)?,
            columns: (),
            rows: (),
        })
    }
}

/// Run a program and talk to it
///
/// Goes on as a WebSocket of the subprotocol `wherry.v1`. Every message is binary, and its first byte is a channel: 0 input,
/// 1 output, 2 errors, 3 control. On the control channel the client sends `{"resize":{"columns":80,"rows":24}}` and
/// `{"end_of_input":true}`; the service's last message is there, `{"exit_code":0}` or `{"error":{…}}` with a Problem. A message
/// carries at most 32 KiB besides its channel. Who goes away ends the program. Each session is on record: see `project_audit`.
///
/// A browser, which cannot set `Authorization`, offers two subprotocols: `wherry.v1` and `bearer.TOKEN`.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}/exec",
    operation_id = "container_exec_session",
    tag = "instances",
    security(("token" = ["instances:exec"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
        ExecQuery,
    ),
    responses(
        (status = 101, description = "The program runs; what follows is the WebSocket."),
        (status = 409, description = "The container does not run, or has no such program.", body = Problem, content_type = "application/problem+json"),
        (status = 414, description = "The command does not fit into a URL: call it in the body of `container_exec`."),
        (status = 426, description = "This goes on as a WebSocket, which the request does not ask for.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open, or entered its instances too often within an hour.", body = Problem, content_type = "application/problem+json"),
        (status = 431, description = "The command does not fit into the head of a request: call it in the body of `container_exec`."),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(query): Query<ExecQuery>,
    Extension(place): Extension<StreamPlace>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let ExecQuery { command, stdin, tty, .. } = query;
    let kind = SessionKind::Exec { container, command, stdin, tty };
    begin(state, principal, place, upgrade, Wanted { project, instance, kind }).await
}
