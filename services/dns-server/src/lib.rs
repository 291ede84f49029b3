//! Adapter: DNS for instance names, to strangers and to instances. The only crate with hickory.
//!
//! Two servers read one [`ZoneHandle`]:
//! - [`AuthoritativeServer`] answers anyone for the zone and refuses everything else;
//! - [`NodeResolver`] answers the instances of one node: the zone from memory, the outside world through the host's
//!   upstream resolvers.
//!
//! Invariants:
//! - An answer comes from exactly one [`Zone`]: snapshots are immutable and swapped whole, an older serial is refused.
//! - No packet can panic, block or grow the server: request size, records read per request, connections, connections per
//!   client and forwarded queries in flight all have limits.
//! - A missing name is remembered for at most [`NEGATIVE_TTL_SECONDS`]: names are asked for before they exist.
//!
//! Rejected: `hickory-server`. Its `Server` spawns a task per datagram without a limit, has no limit on TCP connections, logs
//! every query at info, and reserves memory by the question count that the sender claims. What it would add over
//! `hickory-proto` (wire format) and `hickory-resolver` (forwarding) is the two loops in `serve`.

mod answer;
mod authoritative;
mod counters;
mod handle;
mod limits;
mod listen;
mod name;
mod node_resolver;
mod range;
mod serve;
mod upstream;
mod wire;
mod zone;
mod zone_builder;

pub use authoritative::{AuthoritativeConfig, AuthoritativeServer, answer_packet};
pub use counters::{ForwardCounts, QueryCounters, QueryCounts, RcodeCounts};
pub use handle::{StoreError, ZoneHandle};
pub use limits::Limits;
pub use listen::BindError;
pub use node_resolver::{NodeResolver, NodeResolverConfig};
pub use range::{Ipv4Range, RangeError};
pub use upstream::Upstream;
pub use zone::{NEGATIVE_TTL_SECONDS, Zone};
pub use zone_builder::{
    DEFAULT_TTL_SECONDS, MAX_ADDRESSES_PER_NAME, MAX_SERVICES_PER_NAME, MAX_TTL_SECONDS, ZoneBuilder, ZoneError,
};
