//! What can go wrong between a client and the service.

use thiserror::Error;
use wherry_api_types::Problem;

/// Why a call gave no result.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The service said no, and why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The key got no token.
    #[error("the key was not accepted: {0}")]
    Token(String),
    /// No answer: the service is not reachable, or went away in the middle.
    #[error("{server} does not answer")]
    Away {
        /// Which service.
        server: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that this client does not understand: something else answers there, or a much newer service.
    #[error("{server} gave an answer that is not Wherry's (status {status}): {excerpt}")]
    Unexpected {
        /// Which service.
        server: String,
        /// The HTTP status.
        status: u16,
        /// How the body begins.
        excerpt: String,
    },
    /// The connection ended in the middle.
    #[error("{server} broke the connection off; whether what ran there goes on is not known")]
    BrokenOff {
        /// Which service.
        server: String,
    },
    /// The server's address cannot be used.
    #[error("{0:?} is not the address of a service, write for example http://127.0.0.1:7070")]
    Address(String),
    /// This machine trusts nobody, so no `https` address can be used.
    #[error(
        "{server} cannot be asked over TLS: install the certificates to trust, for example with apt-get install ca-certificates"
    )]
    Tls {
        /// Which service.
        server: String,
        /// What is missing.
        #[source]
        source: reqwest::Error,
    },
}

impl ClientError {
    /// The problem's stable code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Unexpected { status, .. } => Some(*status),
            Self::Token(_) => Some(401),
            Self::Away { .. } | Self::BrokenOff { .. } | Self::Address(_) | Self::Tls { .. } => None,
        }
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}
