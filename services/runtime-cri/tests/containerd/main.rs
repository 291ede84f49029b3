//! Tests on a real containerd that the supervisor starts in scratch folders. They need root and Debian's containerd, runc,
//! crun, containernetworking-plugins and busybox-static; `cargo xtask test` installs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod conformance;
mod conversing;
mod exec;
mod faults;
mod force;
mod repository;
mod security;
mod support;
mod warm;
