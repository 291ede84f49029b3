//! OCI images made from Debian packages without a daemon, and a real registry to pull them from.
//!
//! The demo, the end-to-end tests and the CRI tests need images on machines that reach no public registry. This crate
//! builds them ([`recipes`], [`OciImage`]), writes them as an archive that `ctr images import` reads, pushes them over
//! the plain HTTP distribution API, and runs Debian's `docker-registry` for them ([`Registry`]), so pulls are real;
//! [`SlowPath`] makes them slow. [`HostState`] tells what a run has left behind on the machine.
//!
//! Invariant: the same input files give the same digests. Paths are sorted, times are zero, nothing is random.
//!
//! Rejected: `umoci` and `skopeo` (two more packages for two hundred lines of tar and JSON), a home-made registry (a
//! pull from our own server would prove less than a pull from the one that others run).

mod file_tree;
mod host_state;
mod image;
mod push;
pub mod recipes;
mod registry;
mod slow_path;

pub use file_tree::FileTree;
pub use host_state::{HostState, Marks};
pub use image::{OciImage, OciImageBuilder};
pub use registry::Registry;
pub use slow_path::SlowPath;
