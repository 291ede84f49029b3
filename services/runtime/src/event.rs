//! Wake-ups.

/// Something changed; read the state to learn what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The main process of a container, or of a sandbox, ended.
    Exited {
        /// Id of the container or sandbox.
        id: String,
    },
    /// The kernel killed something in the container for want of memory.
    OutOfMemory {
        /// Id of the container.
        id: String,
    },
    /// The line to the engine was made anew: anything may have changed since it broke.
    Resynchronise,
}
