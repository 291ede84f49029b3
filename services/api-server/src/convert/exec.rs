//! What a program printed: bytes, told as text where they are text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wherry_api_types::{DEFAULT_EXEC_TIMEOUT_SECONDS, ExecRequest, ExecResult, OutputEncoding};
use wherry_control::{ExecOutcome, ExecRequest as Asked};

use crate::error::ApiError;

/// Bytes of one character at most, less the one that would have made it whole.
const MAX_BROKEN_TAIL: usize = 3;

/// The program that is asked for.
pub(crate) fn exec_request(body: ExecRequest) -> Result<Asked, ApiError> {
    let ExecRequest { command, stdin, stdin_encoding, timeout_seconds } = body;
    let stdin = match (stdin, stdin_encoding) {
        (None, Some(_)) => {
            return Err(ApiError::impossible("stdin_encoding", "it says the form of stdin: give that too"));
        }
        (None, None) => None,
        (Some(text), None | Some(OutputEncoding::Utf8)) => Some(text.into_bytes()),
        (Some(text), Some(OutputEncoding::Base64)) => {
            let wrong = |_| ApiError::impossible("stdin", "it is not base64 as of RFC 4648 section 4, with padding");
            Some(STANDARD.decode(text).map_err(wrong)?)
        }
    };
    Ok(Asked { command, stdin, timeout_seconds: timeout_seconds.unwrap_or(DEFAULT_EXEC_TIMEOUT_SECONDS) })
}

/// How the program ended and what it printed.
pub(crate) fn exec_result(outcome: ExecOutcome) -> ExecResult {
    let ExecOutcome { exit_code, stdout, stderr, truncated } = outcome;
    let (stdout, stdout_encoding) = text_or_base64(stdout, truncated);
    let (stderr, stderr_encoding) = text_or_base64(stderr, truncated);
    ExecResult { exit_code, stdout, stdout_encoding, stderr, stderr_encoding, truncated }
}

/// Where output was cut off, the cut may go through a character: that one is left out, and the rest stays text.
fn text_or_base64(bytes: Vec<u8>, truncated: bool) -> (String, OutputEncoding) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, OutputEncoding::Utf8),
        Err(error) => {
            let (valid, is_cut) = (error.utf8_error().valid_up_to(), error.utf8_error().error_len().is_none());
            let mut bytes = error.into_bytes();
            if truncated && is_cut && bytes.len().saturating_sub(valid) <= MAX_BROKEN_TAIL {
                bytes.truncate(valid);
                if let Ok(text) = String::from_utf8(bytes) {
                    return (text, OutputEncoding::Utf8);
                }
                return (String::new(), OutputEncoding::Utf8);
            }
            (STANDARD.encode(bytes), OutputEncoding::Base64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_the_rest_is_base64() {
        assert_eq!(text_or_base64(b"caf\xc3\xa9\n".to_vec(), false), ("caf\u{e9}\n".to_owned(), OutputEncoding::Utf8));
        assert_eq!(text_or_base64(vec![0xff, 0], false), ("/wA=".to_owned(), OutputEncoding::Base64));
        assert_eq!(text_or_base64(vec![b'a', 0xc3], false).1, OutputEncoding::Base64, "it was not cut off");
    }

    #[test]
    fn a_cut_through_a_character_leaves_text() {
        assert_eq!(text_or_base64(vec![b'a', 0xe2, 0x82], true), ("a".to_owned(), OutputEncoding::Utf8));
        assert_eq!(text_or_base64(vec![b'a', 0xff, b'b', 0xc3], true).1, OutputEncoding::Base64);
    }
}
