//! Why a cluster cannot be had.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a cluster, or something of it, cannot be had.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// PostgreSQL is not on this machine.
    #[error("no PostgreSQL server programs of version 14 or later were found: install the package `postgresql`")]
    NotInstalled,
    /// The server refuses to run as root, and there is nobody else.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: add one of them")]
    NoUser,
    /// A file or folder cannot be made, read or given away.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("{program} cannot be started")]
    Program {
        /// Which one.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program has failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// Which one.
        program: String,
        /// What it said.
        output: String,
    },
    /// What makes the template has failed.
    #[error("the template {template} cannot be made: {message}")]
    Template {
        /// Which one.
        template: String,
        /// What went wrong.
        message: String,
    },
}

impl ClusterError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
