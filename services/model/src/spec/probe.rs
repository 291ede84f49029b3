//! What is asked of a program to learn how it is, and what is done at its start and before its end.

use serde::{Deserialize, Serialize};

use crate::quantity::Seconds;

/// One thing that is done in, or asked of, a container. Addresses are the instance's own: nothing else is ever contacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Check {
    /// Runs a program in the container; right when it ends with 0.
    Exec {
        /// Program and arguments; no shell is added.
        command: Vec<String>,
    },
    /// Asks by HTTP; right when the status is 200 to 399. Redirects are not followed.
    Http {
        /// Port of the container.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
        /// Whether TLS is spoken. The certificate is not judged.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tls: bool,
        /// Further headers; `Host` is the instance's name unless it is here.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Header>,
    },
    /// Opens a TCP connection; right when it is taken.
    Tcp {
        /// Port of the container.
        port: u16,
    },
}

/// One header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A check that is repeated. The fields are those of Kubernetes, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// From the start of the container to the first time.
    pub initial_delay: Seconds,
    /// From one time to the next, at least 1.
    pub period: Seconds,
    /// After which a check without an answer has failed, at least 1.
    pub timeout: Seconds,
    /// Successes in a row after which it is well again; 1 for liveness and startup.
    pub success_threshold: u32,
    /// Failures in a row after which it is not well any more.
    pub failure_threshold: u32,
}

/// The probes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Probes {
    /// While it has not succeeded once, the others are not asked; when it fails for good the container is ended and its
    /// restart policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
    /// When it fails the container is ended and its restart policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
    /// While it fails the instance is not ready: its name is not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
}

impl Probes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.startup.is_none() && self.liveness.is_none() && self.readiness.is_none()
    }

    /// Whether a started container is not ready before a probe has said so.
    pub fn delay_readiness(&self) -> bool {
        self.startup.is_some() || self.readiness.is_some()
    }

    /// Those that there are, with their names on the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        [("startup", &self.startup), ("liveness", &self.liveness), ("readiness", &self.readiness)]
            .into_iter()
            .filter_map(|(name, probe)| probe.as_ref().map(|probe| (name, probe)))
    }
}

/// What is done right after a start and right before a stop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// Right after the start; the container counts as started when it is done, and is ended when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Check>,
    /// Before the stop signal, inside the stop grace; whether it fails changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Check>,
}

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.post_start.is_none() && self.pre_stop.is_none()
    }
}
