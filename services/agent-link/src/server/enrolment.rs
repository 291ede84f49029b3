//! How a machine gets its first certificate and a node its next.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use wherry_agent_api::{Applicant, ControlError};

use super::accept::Peer;
use super::admission::{Caller, Refusal, enrolled, not_enrolled};
use super::limits::MAX_SMALL_BYTES;
use super::{Port, body};
use crate::authority::{AuthorityError, SigningRequest};
use crate::wire::{EnrolAnswer, EnrolRequest, Issued, RenewRequest};

/// The longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 256;
/// The longest name.
const MAX_NAME_BYTES: usize = 253;

/// `POST enrol`: the only route that works without a certificate. The token and the key are judged by the control plane, the
/// certificate names whatever node it answers.
pub(super) async fn enrol(
    State(port): State<Arc<Port>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Json<EnrolAnswer>, Refusal> {
    let asked: EnrolRequest = body::read(body, MAX_SMALL_BYTES, port.limits.body).await?;
    if asked.token.len() > MAX_TOKEN_BYTES || asked.name.is_empty() || asked.name.len() > MAX_NAME_BYTES {
        return Err(ControlError::Refused("the token or the name is too long, or the name is empty".to_owned()).into());
    }
    let request = SigningRequest::from_pem(&asked.csr).map_err(refused)?;
    let applicant = Applicant { token: asked.token, public_key: request.public_key_hash(), name: asked.name };
    let enrolling = port.services.enrolment.enrol(applicant);
    let enrolled = tokio::time::timeout(port.limits.message, enrolling)
        .await
        .map_err(|_| ControlError::Unavailable("the enrolment took too long: run the same command again".to_owned()))?
        .inspect_err(|error| tracing::warn!(address = %peer.address, %error, "security: a machine was not enrolled"))?;
    let certificate = port.authority.issue_node(&request, enrolled.node).map_err(refused)?;
    tracing::info!(node = %enrolled.node, address = %peer.address, "a machine was enrolled");
    Ok(Json(EnrolAnswer { enrolled, issued: Issued { certificate, ca: port.authority.anchor_pem() } }))
}

/// `POST renew`: for the node of the connection's certificate, whatever the request names.
pub(super) async fn renew(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Issued>, Refusal> {
    let asked: RenewRequest = body::read(body, MAX_SMALL_BYTES, port.limits.body).await?;
    let request = SigningRequest::from_pem(&asked.csr).map_err(refused)?;
    // Asked again because the body may have taken its time.
    if !enrolled(&port, caller.node).await? {
        return Err(not_enrolled(&port, caller).await.into());
    }
    let certificate = port.authority.issue_node(&request, caller.node).map_err(refused)?;
    tracing::debug!(node = %caller.node, "a node's certificate was renewed");
    Ok(Json(Issued { certificate, ca: port.authority.anchor_pem() }))
}

fn refused(error: AuthorityError) -> Refusal {
    match error {
        AuthorityError::Request(reason) => {
            ControlError::Refused(format!("the certificate request cannot be used: {reason}")).into()
        }
        other => {
            tracing::error!(error = &other as &dyn std::error::Error, "a certificate cannot be made");
            ControlError::Unavailable("no certificate can be made now".to_owned()).into()
        }
    }
}
