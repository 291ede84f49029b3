//! The real binary on a real containerd, seen from outside.
//!
//! Each test has a Wherry of its own: data folder, ports, address range, registry. They need root and Debian's containerd,
//! crun, containernetworking-plugins, nftables, busybox-static and docker-registry; `cargo xtask test` installs them and
//! builds the binary first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod attached;
mod by_hand;
mod confinement;
mod datagrams;
mod dns_names;
mod entries;
mod files;
mod git;
mod gpus;
mod images;
mod images_removed;
mod inside;
mod isolation;
mod kill_loop;
mod limits;
mod logs;
mod machine_faults;
mod placed;
mod probes;
mod protocol;
mod refusals;
mod renewals;
mod runs;
mod schedules;
mod secrets;
mod several;
mod spec_fields;
mod stats;
mod support;
mod terminal;
mod volumes;
mod webhooks;
