//! What can go wrong at the engine, sorted by what the caller does about it.
//!
//! The text is for the person (it reaches the tenant's event list through the agent), so it names the image or the file
//! and what to do, and never an engine-internal id where a better name exists.

use std::time::Duration;

/// Result of a runtime call.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Why a runtime call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The sandbox or container that the call acts on is not there.
    #[error("{what} \"{id}\" does not exist in the container engine")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The container that the call acts on is there and does not run.
    #[error("container \"{id}\" does not run")]
    NotRunning {
        /// The id that was asked for.
        id: String,
    },
    /// Nobody answers at a port inside a sandbox.
    #[error(
        "nothing listens on port {port} inside; check that the program is up and on which port and address it listens"
    )]
    NothingListens {
        /// Which port.
        port: u16,
    },
    /// A program in a container was killed because its time was over.
    #[error(
        "the program did not end within {} s, or left a process behind that holds its output; it was killed, give it more \
         time or redirect what goes on in the background",
        after.as_secs()
    )]
    ProgramTimeout {
        /// Its time.
        after: Duration,
    },
    /// One who was attached to a main program was cut off: the program would have had to wait for it.
    #[error(
        "nothing of its output was taken for {} s, or the engine was started anew; it runs on, attach again",
        after.as_secs()
    )]
    Detached {
        /// How long it waited.
        after: Duration,
    },
    /// Another sandbox or container holds this name; remove it first or use the next attempt.
    #[error("name is taken in the container engine: {message}")]
    AlreadyExists {
        /// The engine's words.
        message: String,
    },
    /// The registry answered that there is no such image, or it has no variant for this machine.
    #[error(
        "image \"{reference}\" was not found: {message}; check name and tag, and that it is built for this architecture"
    )]
    ImageNotFound {
        /// The reference that was asked for.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The registry did not answer, or answered that it cannot now.
    #[error("registry of image \"{reference}\" cannot be reached: {message}")]
    RegistryUnavailable {
        /// The reference that was asked for.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The registry wants other credentials.
    #[error(
        "registry refused access to image \"{reference}\": {message}; check the registry credentials and that the image exists"
    )]
    Unauthorized {
        /// The reference that was asked for.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The image is here, and must not run here.
    #[error("image \"{reference}\" is refused: {reason}")]
    ImageRefused {
        /// The reference that was asked for.
        reference: String,
        /// What about it, and what to change.
        reason: String,
    },
    /// No space or inodes left for images or container file systems.
    #[error("disk of the container engine is full: {message}")]
    DiskFull {
        /// The engine's words.
        message: String,
    },
    /// The engine did not answer in time. The call may still take effect: read the state before the next step.
    #[error("container engine did not finish \"{call}\" within {} s", after.as_secs())]
    Timeout {
        /// The call, in CRI's words.
        call: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The engine is not running or is shutting down.
    #[error("container engine is not running: {message}")]
    Unavailable {
        /// What was seen at its socket.
        message: String,
    },
    /// The engine will never accept this request as it is.
    #[error("container engine refuses the request: {message}")]
    InvalidArgument {
        /// The engine's words.
        message: String,
    },
    /// The container cannot start as described: no such command, no such user, not executable.
    #[error("container cannot be started: {message}")]
    CannotStart {
        /// The engine's words without its internal wrapping.
        message: String,
    },
    /// Anything else.
    #[error("container engine failed: {message}")]
    Internal {
        /// The engine's words.
        message: String,
    },
}

impl RuntimeError {
    /// Whether the same call can succeed later without anybody changing the request.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RegistryUnavailable { .. }
            | Self::DiskFull { .. }
            | Self::NothingListens { .. }
            | Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::Internal { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::ImageNotFound { .. }
            | Self::Unauthorized { .. }
            | Self::ImageRefused { .. }
            | Self::InvalidArgument { .. }
            | Self::NotRunning { .. }
            | Self::ProgramTimeout { .. }
            | Self::Detached { .. }
            | Self::CannotStart { .. } => false,
        }
    }
}
