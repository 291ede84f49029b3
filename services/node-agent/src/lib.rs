//! The node agent: converges one machine to the desired state that the control plane gives it.
//!
//! Purpose: run what is desired, report what happened, and do both through any crash and with the control plane away.
//!
//! How it is put together (each part is a file, each arrow a watch channel or a wake-up):
//!
//! ```text
//! control plane ──desired──▶ session ──▶ desired.json ──▶ roster ──▶ one worker per instance ──▶ container engine
//!       ▲                                                   ▲            │          └──▶ firewall
//!       │                                                   │            │ says facts
//!       ├──reports── reporter ◀── journal ◀─────────────────┼────────────┘
//!       ├──heartbeats──── heartbeat ◀──── observer (one shared listing of the engine)
//!       │
//!       └──surroundings─▶ surroundings.json ──▶ names sink, routes, firewall
//! ```
//!
//! Invariants:
//! - A worker takes no input: woken, it reads desired state, what the journal has said and what the engine shows, and
//!   takes the next step of a pure function (`plan.rs`). So any step may be interrupted, repeated or lost.
//! - What has been said is the only state that the agent keeps of an instance, and it is a fold over the journal. There
//!   is no second file that could disagree with it.
//! - Evidence before oblivion: a container or sandbox is removed only after the facts that it proves are on disk. This is
//!   the only place where a worker waits for the disk; starting never does.
//! - Stopping the agent never stops containers. A dead agent's successor finds them by their labels.
//! - Nothing is believed of an engine that does not answer: no heartbeat, no exit, no "lost".
//!
//! Rejected: a state file per instance beside the journal (two truths, two fsyncs), acting on engine events directly
//! (they can be lost), and one big reconcile loop (one slow pull would hold up every stop).

mod agent;
mod attach;
mod backoff;
mod blocking;
mod check;
mod config;
mod conversation;
mod desired;
mod disk;
mod durable_file;
mod exec;
mod exit;
mod fence;
mod fenced_notes;
mod findings;
mod firewall;
mod gpus;
mod guard;
mod heartbeat;
mod images;
mod journal;
mod labels;
mod lease;
mod logs;
mod message;
mod node;
mod observer;
mod permits;
mod plan;
mod probe;
mod proof;
mod reporter;
mod roster;
mod routes;
mod secrets;
mod session;
mod stats;
mod status;
mod surroundings;
#[cfg(test)]
mod tests;
mod verdict;
mod volumes;
mod worker;

pub use agent::{Agent, AgentError, AgentParts};
pub use config::{AgentConfig, AtOnce, DiskLimits, ImageLimits, LogLimits, Machine, PullLimits, read_boot_id};
pub use firewall::{
    Admitted, Elsewhere, Firewall, FirewallError, NftConfig, NftFirewall, RecordingFirewall, Ruleset, render,
};
pub use gpus::MachineGpus;
pub use guard::{Guard, GuardError, Sight};
pub use images::ImagesStatus;
pub use labels::node_of;
pub use lease::{BootClock, KernelBootClock};
pub use routes::{KernelRoutes, RecordingRoutes, RouteError, RouteMode, RouteTable, Vxlan};
pub use status::{AgentStatus, Phase};
pub use surroundings::{NamesSink, NodeNames, RecordingNames};
