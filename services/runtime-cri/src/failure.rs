//! gRPC status of containerd → [`RuntimeError`].
//!
//! containerd 1.6 answers most failures with code `Unknown` and a chain of Go error texts, so the text decides. Each text
//! matched here is one that was seen; what is not recognised stays `Internal` with the engine's words.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use wherry_runtime::RuntimeError;

/// Longest text that is passed on to a person, in characters.
const MESSAGE_LIMIT: usize = 400;

/// What a call was about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Engine,
    Image(&'a str),
    Sandbox(&'a str),
    /// Creating a container of this image in this sandbox.
    Create {
        sandbox: &'a str,
        image: &'a str,
    },
    Container(&'a str),
}

const DISK_FULL: &[&str] = &["no space left on device", "disk quota exceeded"];

const UNAUTHORIZED: &[&str] = &[
    "pull access denied",
    "insufficient_scope",
    "authorization failed",
    "401 Unauthorized",
    "403 Forbidden",
    "no basic auth credentials",
];

const REGISTRY_UNAVAILABLE: &[&str] = &[
    "dial tcp",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "no such host",
    "network is unreachable",
    "no route to host",
    "TLS handshake",
    "x509:",
    "tls:",
    "HTTP response to HTTPS client",
    "unexpected EOF",
    ": EOF",
    "unexpected status code",
    "unexpected status from",
    "unexpected commit",
    "toomanyrequests",
    "429 Too Many Requests",
];

/// In lower case: runc and crun write the same things differently.
const CANNOT_START: &[&str] = &[
    "no such file or directory",
    "executable file",
    "permission denied",
    "exec format error",
    "is a directory",
    "not a directory",
    "no users found",
    "no matching entries in passwd",
    "no groups found",
    "unable to find user",
    "no command specified",
];

/// What a sandbox asked for that the engine's configuration does not have.
const NO_HANDLER: &str = "no runtime for";

/// Marks what an OCI runtime said, as opposed to containerd about its own files.
const OCI_RUNTIME: &str = "OCI runtime";

/// Error of a call that asked for `limit` and got `status`.
pub(crate) fn runtime_error(call: &'static str, about: About<'_>, limit: Duration, status: &Status) -> RuntimeError {
    let text = status.message();
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if is_timeout(status) {
        return RuntimeError::Timeout { call, after: limit };
    }
    if status.source().is_some() || matches!(status.code(), Code::Unavailable) || text.contains("transport error") {
        return RuntimeError::Unavailable { message: transport_text(status) };
    }
    if has(DISK_FULL) {
        return RuntimeError::DiskFull { message: concise(text) };
    }
    if status.code() == Code::AlreadyExists || text.contains("is reserved for") {
        return RuntimeError::AlreadyExists { message: concise(text) };
    }
    let message = concise(text);
    match about {
        About::Image(reference) => image_error(reference.to_owned(), status, message),
        About::Create { image, .. } if status.code() == Code::NotFound && text.contains("failed to resolve image") => {
            RuntimeError::ImageNotFound { reference: image.to_owned(), message: "it is not on this machine".into() }
        }
        About::Create { sandbox: id, .. } | About::Sandbox(id) if status.code() == Code::NotFound => {
            RuntimeError::NotFound { what: "sandbox", id: id.to_owned() }
        }
        About::Container(id) if status.code() == Code::NotFound && !text.contains(OCI_RUNTIME) => {
            RuntimeError::NotFound { what: "container", id: id.to_owned() }
        }
        About::Container(_) if text.contains(OCI_RUNTIME) && names_cannot_start(text) => {
            RuntimeError::CannotStart { message: start_text(text) }
        }
        About::Create { .. } if names_cannot_start(text) => RuntimeError::CannotStart { message: start_text(text) },
        About::Engine | About::Sandbox(_) | About::Create { .. } | About::Container(_) => match status.code() {
            Code::InvalidArgument => RuntimeError::InvalidArgument { message },
            _ if has(&[NO_HANDLER]) => RuntimeError::InvalidArgument { message },
            _ => RuntimeError::Internal { message },
        },
    }
}

fn names_cannot_start(text: &str) -> bool {
    let text = text.to_lowercase();
    CANNOT_START.iter().any(|needle| text.contains(needle))
}

fn image_error(reference: String, status: &Status, message: String) -> RuntimeError {
    let text = status.message();
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if has(UNAUTHORIZED) {
        RuntimeError::Unauthorized { reference, message }
    } else if has(REGISTRY_UNAVAILABLE) {
        RuntimeError::RegistryUnavailable { reference, message }
    } else if status.code() == Code::NotFound || text.contains("no match for platform") {
        RuntimeError::ImageNotFound { reference, message }
    } else if status.code() == Code::InvalidArgument || text.contains("failed to parse image reference") {
        RuntimeError::InvalidArgument { message }
    } else {
        RuntimeError::Internal { message }
    }
}

fn is_timeout(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message().contains("imeout"))
        || status.message().contains("context deadline exceeded")
}

/// The deepest cause: "transport error" alone says nothing.
fn transport_text(status: &Status) -> String {
    let mut deepest = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        deepest = error.to_string();
        cause = error.source();
    }
    concise(&deepest)
}

/// The text without the wrapping that repeats the image's name, at most [`MESSAGE_LIMIT`] characters.
fn concise(text: &str) -> String {
    const WRAPPING: &[&str] =
        &["rpc error: ", "failed to pull and unpack image \"", "failed to resolve reference \"", "failed to copy: "];
    let mut rest = text;
    while WRAPPING.iter().any(|prefix| rest.starts_with(prefix)) {
        let Some((_, after)) = rest.split_once(": ") else { break };
        rest = after;
    }
    let mut short: String = rest.chars().take(MESSAGE_LIMIT).collect();
    if short.len() < rest.len() {
        short.push('…');
    }
    short
}

/// The part of an OCI runtime's error that speaks of the tenant's command.
fn start_text(text: &str) -> String {
    let tail = [
        "unable to start container process: ",
        "OCI runtime create failed: ",
        "OCI runtime exec failed: ",
        "OCI runtime error: ",
    ]
    .iter()
    .find_map(|marker| text.rfind(marker).map(|at| &text[at + marker.len()..]))
    .unwrap_or(text);
    concise(tail.trim_end_matches(": unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(code: Code, text: &str) -> RuntimeError {
        runtime_error("PullImage", About::Image("r.test/web:1"), Duration::from_secs(1), &Status::new(code, text))
    }

    #[test]
    fn pull_errors_are_told_apart() {
        let missing = image(
            Code::NotFound,
            "failed to pull and unpack image \"r.test/web:1\": failed to resolve reference \"r.test/web:1\": r.test/web:1: not found",
        );
        assert_eq!(
            missing,
            RuntimeError::ImageNotFound { reference: "r.test/web:1".into(), message: "r.test/web:1: not found".into() }
        );
        assert!(matches!(
            image(
                Code::Unknown,
                "failed to pull and unpack image \"r.test/web:1\": failed to resolve reference \"r.test/web:1\": failed to do request: Head \"http://r.test/v2/web/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused"
            ),
            RuntimeError::RegistryUnavailable { .. }
        ));
        assert!(matches!(
            image(Code::Unknown, "pull access denied, repository does not exist or may require authorization"),
            RuntimeError::Unauthorized { .. }
        ));
        assert!(matches!(
            image(Code::Unknown, "write /x/ingest/1/data: no space left on device"),
            RuntimeError::DiskFull { .. }
        ));
        assert!(matches!(image(Code::DeadlineExceeded, "context deadline exceeded"), RuntimeError::Timeout { .. }));
    }

    #[test]
    fn missing_commands_are_the_callers_mistake() {
        let status = Status::new(
            Code::NotFound,
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/no/such/command\": stat /no/such/command: no such file or directory: unknown",
        );
        let error = runtime_error("StartContainer", About::Container("c"), Duration::from_secs(1), &status);
        assert_eq!(
            error,
            RuntimeError::CannotStart {
                message: "exec: \"/no/such/command\": stat /no/such/command: no such file or directory".into()
            }
        );
    }

    #[test]
    fn crun_says_it_in_its_own_words() {
        let status = Status::new(
            Code::Unknown,
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: executable file `/no/such/command` not found in $PATH: No such file or directory: unknown",
        );
        let error = runtime_error("StartContainer", About::Container("c"), Duration::from_secs(1), &status);
        assert!(matches!(error, RuntimeError::CannotStart { .. }), "{error:?}");
    }

    #[test]
    fn programs_that_are_not_there_are_the_callers_mistake_too() {
        for text in [
            "failed to exec in container: failed to start exec \"x\": OCI runtime exec failed: exec failed: unable to start container process: exec: \"/no\": stat /no: no such file or directory: unknown",
            "failed to exec in container: failed to start exec \"x\": OCI runtime exec failed: executable file `/no` not found: No such file or directory: unknown",
        ] {
            let status = Status::new(Code::Unknown, text);
            let error = runtime_error("ExecSync", About::Container("c"), Duration::from_secs(1), &status);
            let RuntimeError::CannotStart { message } = error else { panic!("{error:?}") };
            assert!(message.starts_with("exec"), "{message}");
        }
    }

    #[test]
    fn taken_names_and_missing_sandboxes_are_recognised() {
        let reserved =
            Status::new(Code::Unknown, "failed to reserve sandbox name \"a_b_c_0\": name is reserved for \"x\"");
        assert!(matches!(
            runtime_error("RunPodSandbox", About::Engine, Duration::ZERO, &reserved),
            RuntimeError::AlreadyExists { .. }
        ));
        let about = About::Create { sandbox: "s", image: "i" };
        let gone = Status::new(Code::NotFound, "failed to find sandbox id \"s\": not found");
        assert!(matches!(
            runtime_error("CreateContainer", about, Duration::ZERO, &gone),
            RuntimeError::NotFound { what: "sandbox", .. }
        ));
    }
}
