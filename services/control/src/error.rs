//! The one error of the application. `Display` is what the caller may read; the source is for the log.

use std::time::Duration;

use thiserror::Error;
use wherry_model::{InstanceState, Scope, SpecError};
use wherry_store::StoreError;

/// What the store said, kept away from callers.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct StoreContext(#[from] pub StoreError);

/// Why a use case did not do what was asked. Nothing was stored unless a variant says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// The caller is not known, or its key does not work any more.
    #[error("the credentials are not valid: they are wrong, expired or revoked")]
    Unauthenticated,
    /// The caller may not do this.
    #[error("this needs the scope {0}, which the token does not have")]
    InsufficientScope(Scope),
    /// There is no such thing, or it is another tenant's: the caller cannot tell which.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A field is wrong.
    #[error("{0}")]
    InvalidField(#[from] SpecError),
    /// The name is in use.
    #[error("the name {0} is in use: choose another one, or delete the old one first")]
    NameTaken(String),
    /// This field of the spec is fixed while the instance is there to run.
    #[error(
        "{field} cannot be changed while {name} is there to run: stop it, change it and start it again, or delete it first"
    )]
    NotInPlace {
        /// Its path.
        field: String,
        /// Of which instance.
        name: String,
    },
    /// This field of the spec stays as long as the instance.
    #[error("{message}")]
    NotChangeable {
        /// Its path.
        field: String,
        /// Why, and the way out.
        message: String,
    },
    /// The DNS name is in use in its reuse scope.
    #[error(
        "the DNS label {0} is in use in this reuse scope: choose another dns_label or another dns_reuse_scope, or delete \
         the instance that has it"
    )]
    DnsLabelTaken(String),
    /// The idempotency key was used for another request.
    #[error("this Idempotency-Key was used for another request: use a new key for a new request")]
    IdempotencyMismatch,
    /// The generation is not the one the caller wanted to change.
    #[error("the instance is at generation {0}, not at the one in If-Match: read it again and decide anew")]
    GenerationMismatch(u64),
    /// Something is under way that has to end first.
    #[error("the instance is {0}: try again when that is done")]
    Busy(InstanceState),
    /// What it is about is not in a state in which this can be done.
    #[error("{message}")]
    Conflict {
        /// The machine code.
        code: &'static str,
        /// What is the matter, and what to do.
        message: String,
    },
    /// Events that were asked for are not kept any more.
    #[error(
        "events after {after} are asked for, and those through {through} are not kept any more: leave `after` (or Last-Event-ID) out for \
         all that are kept, or go on after {through}"
    )]
    EventsForgotten {
        /// After which number.
        after: u64,
        /// The highest that is gone.
        through: u64,
    },
    /// The tenant's instances were entered as often as they may be.
    #[error(
        "instances of this tenant were entered {most} times within an hour, which is the most: try again later, or do more in one \
         exec"
    )]
    TooManyEntries {
        /// How often within an hour.
        most: u32,
        /// When there is room for one.
        after: Duration,
    },
    /// No machine has room for it now.
    #[error("there is no capacity for this now: {0}")]
    CapacityUnavailable(String),
    /// Something that is needed does not answer; the same request later is right.
    #[error("{message}: try again in a moment, nothing was lost")]
    Unavailable {
        /// What does not answer.
        message: String,
        /// Why.
        #[source]
        source: Option<StoreContext>,
    },
    /// A bug or damage. The log has the rest.
    #[error("something went wrong inside the service; the request id finds it in the log")]
    Internal {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<StoreContext>,
    },
}

impl Error {
    /// The stable machine code of the error, the same in every answer and log line.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::NotFound(_) => "not_found",
            Self::InvalidField(_) => "invalid_field",
            Self::NameTaken(_) => "name_taken",
            Self::NotInPlace { .. } => "cannot_change_in_place",
            Self::NotChangeable { .. } => "cannot_change",
            Self::DnsLabelTaken(_) => "dns_label_taken",
            Self::IdempotencyMismatch => "idempotency_parameter_mismatch",
            Self::GenerationMismatch(_) => "generation_mismatch",
            Self::Busy(_) => "instance_busy",
            Self::Conflict { code, .. } => code,
            Self::EventsForgotten { .. } => "events_forgotten",
            Self::TooManyEntries { .. } => "too_many_entries",
            Self::CapacityUnavailable(_) => "capacity_unavailable",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }

    /// The field of the request that is at fault.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidField(error) => Some(&error.field),
            Self::NameTaken(_) => Some("name"),
            Self::NotInPlace { field, .. } | Self::NotChangeable { field, .. } => Some(field),
            Self::DnsLabelTaken(_) => Some("dns_label"),
            Self::EventsForgotten { .. } => Some("after"),
            Self::IdempotencyMismatch => Some("Idempotency-Key"),
            Self::GenerationMismatch(_) => Some("If-Match"),
            _ => None,
        }
    }

    /// When it makes sense to send the same request again.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyEntries { after, .. } => Some(*after),
            Self::CapacityUnavailable(_) => Some(Duration::from_secs(30)),
            Self::Unavailable { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    pub(crate) fn internal(context: impl Into<String>) -> Self {
        Self::Internal { context: context.into(), source: None }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), source: None }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::Unavailable {
                message: "the service's disk is full, it takes no new work".to_owned(),
                source: Some(error.into()),
            },
            error if error.is_retryable() => Self::Unavailable {
                message: "the service's database does not answer".to_owned(),
                source: Some(error.into()),
            },
            error => Self::Internal { context: "store".to_owned(), source: Some(error.into()) },
        }
    }
}
