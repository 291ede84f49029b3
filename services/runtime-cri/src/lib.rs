//! The container runtime over CRI, and the containerd that Wherry starts for itself.
//!
//! Purpose: [`CriRuntime`] is [`wherry_runtime::ContainerRuntime`] for any CRI engine on a Unix socket; [`containerd`]
//! runs a private one, so that Wherry neither needs nor touches the host's. [`oci`] writes image archives.
//!
//! Invariants: this is the only crate that knows gRPC; every container gets the profile of `profile.rs`, no caller can
//! loosen it; what was made can be removed without a trace, also after any process was killed at any time.

mod adapter;
mod attach;
mod cgroup;
mod connection;
mod container;
pub mod containerd;
mod cri_sandboxes;
mod downloads;
mod events;
mod exec;
mod failure;
mod generated;
mod image;
mod mounts;
pub mod oci;
mod outside;
pub mod pause;
mod port;
mod process;
mod profile;
mod repository;
mod sandbox;
mod secret_files;
mod usage;
mod warm;

pub use adapter::{CriOptions, CriRuntime};
