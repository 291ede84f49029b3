//! Why a command did not do what was asked: one sentence for people, one exit code for scripts.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::process::ExitCode;

use wherry_api_types::Problem;

use super::connection::ConnectionError;
use super::text::clean;

/// Exit codes; the help of `wherry` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    NoRoom = 4,
    ServerAway = 5,
    Refused = 6,
    TimedOut = 7,
    /// `wherry exec` alone: the program could not be run. Lower codes are the program's own.
    NotRun = 125,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::NoRoom => 4,
            Exit::ServerAway => 5,
            Exit::Refused => 6,
            Exit::TimedOut => 7,
            Exit::NotRun => 125,
        })
    }
}

/// Why a command ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Who read the output has seen enough. Nothing is said about it.
    OutputClosed,
    /// A program in a container ended with this code, and has said itself what there is to say.
    Ended(u8),
    /// Everything else.
    Told {
        /// For scripts.
        exit: Exit,
        /// For people.
        message: String,
    },
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into() }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Whether the same may work in a moment, because only the server is away.
    pub(super) const fn is_server_away(&self) -> bool {
        matches!(self, Self::Told { exit: Exit::ServerAway, .. })
    }

    /// The server refused.
    pub(super) fn refused(problem: &Problem) -> Self {
        let exit = match (problem.code.as_str(), problem.status) {
            ("not_found", _) | (_, 404) => Exit::NotFound,
            ("capacity_unavailable" | "quota_exceeded", _) => Exit::NoRoom,
            (_, 502..=504) => Exit::ServerAway,
            (_, 400..=499) => Exit::Refused,
            _ => Exit::Failed,
        };
        let detail = clean(&problem.detail);
        // Most details begin with the field already.
        let mut message = match &problem.field {
            Some(field) if !detail.contains(field.as_str()) => format!("{}: {detail}", clean(field)),
            _ => detail,
        };
        message.push_str(match problem.code.as_str() {
            "unauthenticated" => " (is this the right key? `wherry up` writes a new one when the old one is revoked)",
            "insufficient_scope" => " (make a key that has it with `wherry key create NAME --scope …`)",
            _ => "",
        });
        // Where something broke, the log of the service tells the rest.
        if problem.code == "internal"
            && let Some(id) = &problem.request_id
        {
            let _ = write!(message, " [request {}]", clean(id));
        }
        Self::new(exit, message)
    }

    /// The server gave no answer.
    pub(super) fn away(server: &str, why: &str) -> Self {
        let message = format!("{server} does not answer: is `wherry up` running? ({})", clean(why));
        Self::new(Exit::ServerAway, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let exit = match &error {
            ConnectionError::Absent(_) => Exit::ServerAway,
            ConnectionError::HalfAKey(_) | ConnectionError::OtherServer { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        let source = std::error::Error::source(&error).map(|source| format!(" ({source})")).unwrap_or_default();
        Self::new(exit, format!("{error}{source}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, detail: &str, field: Option<&str>) -> (Exit, String) {
        let problem = Problem {
            kind: "about:blank".into(),
            title: "x".into(),
            status,
            code: code.into(),
            detail: detail.into(),
            field: field.map(str::to_owned),
            request_id: Some("r-1".into()),
        };
        match Failure::refused(&problem) {
            Failure::Told { exit, message } => (exit, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        for (status, code, exit) in [
            (404, "not_found", Exit::NotFound),
            (503, "capacity_unavailable", Exit::NoRoom),
            (403, "quota_exceeded", Exit::NoRoom),
            (503, "unavailable", Exit::ServerAway),
            (403, "insufficient_scope", Exit::Refused),
            (422, "invalid_field", Exit::Refused),
            (409, "name_taken", Exit::Refused),
            (500, "internal", Exit::Failed),
        ] {
            assert_eq!(refused(status, code, "no", None).0, exit, "{code}");
        }
    }

    #[test]
    fn a_refusal_is_one_sentence_with_its_field() {
        let (_, message) = refused(422, "invalid_field", "\"x\" is not a quantity", Some("containers[0].cpu"));
        assert_eq!(message, "containers[0].cpu: \"x\" is not a quantity");
        let (_, message) = refused(422, "invalid_field", "name: 64 characters\u{1b}[2J", Some("name"));
        assert_eq!(message, "name: 64 characters\\u{1b}[2J");
        assert!(refused(500, "internal", "broken", None).1.ends_with("[request r-1]"));
    }

    #[test]
    fn a_closed_pipe_is_no_complaint() {
        assert_eq!(Failure::from(std::io::Error::from(ErrorKind::BrokenPipe)), Failure::OutputClosed);
    }
}
