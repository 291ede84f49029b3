//! [`ControlError`] as an HTTP status and back.

use http::StatusCode;
use wherry_agent_api::ControlError;

pub(crate) fn status_of(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        ControlError::UnknownNode => StatusCode::NOT_FOUND,
        ControlError::Fenced { .. } => StatusCode::CONFLICT,
        // One status for both: whoever does not know the code takes it for the other, from which nothing follows.
        ControlError::Removed | ControlError::Forbidden(_) => StatusCode::FORBIDDEN,
        ControlError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// What an answer with a status that is no success means. A body that cannot be read (a proxy's, or of a version that knows
/// errors which this one does not) leaves the status to tell.
pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> ControlError {
    if let Ok(error) = serde_json::from_slice::<ControlError>(body) {
        return error;
    }
    let said = || format!("the answer was {status}");
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ControlError::Forbidden(said()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ControlError::Unavailable(said()),
        status if status.is_server_error() => ControlError::Unavailable(said()),
        _ => ControlError::Refused(said()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_survives_the_way_and_has_its_status() {
        let errors = [
            (ControlError::Unavailable("later".to_owned()), 503),
            (ControlError::UnknownNode, 404),
            (ControlError::Fenced { epoch: 7 }, 409),
            (ControlError::Removed, 403),
            (ControlError::Forbidden("no".to_owned()), 403),
            (ControlError::Refused("what".to_owned()), 422),
        ];
        for (error, status) in errors {
            assert_eq!(status_of(&error).as_u16(), status);
            let body = serde_json::to_vec(&error).unwrap();
            assert_eq!(from_answer(status_of(&error), &body), error);
        }
    }

    #[test]
    fn an_answer_that_is_not_ours_is_judged_by_its_status() {
        let newer = br#"{"error":"moved","message":"elsewhere"}"#;
        assert!(matches!(from_answer(StatusCode::CONFLICT, newer), ControlError::Refused(_)));
        assert!(matches!(from_answer(StatusCode::BAD_GATEWAY, b"<html>"), ControlError::Unavailable(_)));
        assert!(matches!(from_answer(StatusCode::FORBIDDEN, b""), ControlError::Forbidden(_)));
    }
}
