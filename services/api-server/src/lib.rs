//! The public API over HTTP: routes with their documentation, authentication, and one mapping from errors to answers.
//!
//! A handler reads a request, asks [`wherry_control::Control`], and writes the answer; decisions are made elsewhere. To add
//! an operation: write its file under `v1`, name it in `v1::routes`, run the example `openapi` to renew the checked-in
//! document, and give it a row in the table of `tests/api/isolation.rs`, which fails without one.
//!
//! [`serve`] brings the public and the operator's router to a listener each.

mod auth;
mod convert;
mod docs;
mod document;
mod error;
mod extract;
mod health;
mod layers;
mod metrics;
mod node_operator;
mod oauth;
mod router;
mod serve;
mod session;
mod settings;
mod state;
mod v1;

pub use auth::{JwksSource, JwksSourceError, OutsideAlgorithm, OutsideIssuer, SigningKey, SigningKeyError};
pub use convert::cloud_event;
pub use docs::text as openapi_text;
pub use node_operator::node_operator_router;
pub use router::{openapi, operator_router, public_router};
pub use serve::serve;
pub use settings::{ApiSettings, JoinPoint};
pub use state::{ApiParts, ApiState, ReadinessCheck};
