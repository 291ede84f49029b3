//! Real processes in network namespaces: a fleet on one machine, for the demo and the fault tests.
//!
//! [`Fleet::start`] makes a PostgreSQL of its own, a registry, a [`Network`], replicas of the control plane and machines with an
//! agent and a containerd each; [`Replica`] and [`Machine`] are killed, frozen and started again, [`Network`] loses and cuts, a
//! [`Gate`] shuts. From outside everything is reached through loopback ([`Replica::client`], [`Replica::url`]), and what is
//! stored can be read past Wherry ([`Fleet::psql`]). A [`History`] remembers what callers were told and proves at the end that it is
//! true.
//!
//! What holds here:
//! - no packet of it touches the machine's own network: hosts are namespaces, the switch between them is another, and what has to
//!   cross (API, registry, database) goes through gates on loopback;
//! - nothing outlives a [`Fleet`]: [`Fleet::end`] removes everything and proves it, dropping removes everything;
//! - processes are ended by their ids, never by a pattern.
//!
//! Only a SIGKILL of the test itself leaves something behind: then `wherry down --purge` with the folders
//! `wherry-fleet-*` in the temporary folder, and `ip netns delete` of what begins with `wl`.
//!
//! Rejected: containers as machines (a container engine to test one), addresses on the machine's own bridge (its packet filter
//! would decide what the tests see), proxies between replicas and machines (they cannot lose a packet).

pub mod dns;
mod engine;
mod fleet;
mod gate;
mod history;
mod machine;
mod namespace;
mod network;
mod program;
mod replica;
mod witness;

pub use engine::EngineThing;
pub use fleet::{Fleet, FleetOptions};
pub use gate::Gate;
pub use history::{History, PROJECT, Plan};
pub use machine::{Invitation, Machine};
pub use namespace::Namespace;
pub use network::{Direction, Host, Network};
pub use program::Program;
pub use replica::Replica;
pub use witness::{Run, TAG};
