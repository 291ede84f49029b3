//! A throw-away PostgreSQL cluster for tests and demos.
//!
//! - [`Cluster`] is a server of one's own: started, stopped, frozen and restarted at will, gone with its folder when dropped;
//! - [`Shared`] is one server for all test processes of a machine and user, with a [`Database`] per test, copied from a
//!   template that was migrated once. nextest runs each test in a process of its own, so a server per process would be a
//!   server per test.
//!
//! What holds here:
//! - a server never outlives its users, not even after `kill -9` of the test: a small shell script, the keeper, waits for the
//!   end of a pipe or for a file lock that the kernel lets go with the process, then stops the server and removes its files;
//! - PostgreSQL refuses to run as root: then its programs run as `postgres` or `nobody`;
//! - everything here blocks its thread for as long as the server takes: call it where that does no harm.
//!
//! `fsync` is off unless [`Settings`] asks for it: a killed server loses nothing of it, only a killed machine would.
//!
//! Rejected: `pg_ctl` in a shell script beside the tests (nobody stops it after a crash), a container (needs a container
//! engine to test the thing that runs container engines), PDEATHSIG (it ends with the thread, not with the process).

mod cluster;
mod error;
mod process;
mod programs;
mod shared;

pub use cluster::{Cluster, Settings, Stop};
pub use error::ClusterError;
pub use shared::{Database, Shared};
