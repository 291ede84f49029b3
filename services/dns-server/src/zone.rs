//! The zone as an immutable snapshot: what is answered, and under which serial.
//!
//! Every name between a host and the apex is in the map, with or without records, so an empty non-terminal
//! (`<hash>.<apex>` under which `web.<hash>.<apex>` lives) answers "no data" and not "no such name" (RFC 8020).

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};

use crate::name::NameKey;

/// How long a resolver may remember that a name or type does not exist, in seconds (RFC 2308, section 5).
pub const NEGATIVE_TTL_SECONDS: u32 = 1;

/// SOA timers for secondaries, in seconds. Wherry has none (transfers are refused), so they only have to be sane.
const REFRESH_SECONDS: i32 = 60;
const RETRY_SECONDS: i32 = 30;
const EXPIRE_SECONDS: i32 = 86_400;

/// The zone's top, as text and as key.
pub(crate) struct Apex {
    pub(crate) text: String,
    pub(crate) key: NameKey,
}

/// What one name owns.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) ipv4: Vec<Ipv4Addr>,
    pub(crate) ipv6: Vec<Ipv6Addr>,
    pub(crate) services: Vec<Service>,
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty() && self.services.is_empty()
    }
}

/// One SRV record (RFC 2782).
#[derive(PartialEq)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: Name,
}

/// All that is answered under one apex at one serial. Made by [`ZoneBuilder`](crate::ZoneBuilder), then never changed.
pub struct Zone {
    pub(crate) apex: Apex,
    pub(crate) serial: u32,
    pub(crate) ttl_seconds: u32,
    pub(crate) name_server: Name,
    pub(crate) contact: Name,
    pub(crate) nodes: HashMap<Box<[u8]>, Node>,
}

impl Zone {
    /// The zone's top without the final dot, in lower case.
    pub fn apex(&self) -> &str {
        &self.apex.text
    }

    /// Counts changes of the zone; shown in its SOA.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Names with records; empty non-terminals and a bare apex are not counted.
    pub fn name_count(&self) -> usize {
        self.nodes.values().filter(|node| !node.is_empty()).count()
    }

    /// What `key`, relative to the apex, owns; `None` if the name does not exist.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Node> {
        self.nodes.get(key)
    }

    /// The SOA under `owner`, the apex in the case of the question.
    pub(crate) fn soa(&self, owner: Name, ttl_seconds: u32) -> Record {
        let data = SOA::new(
            self.name_server.clone(),
            self.contact.clone(),
            self.serial,
            REFRESH_SECONDS,
            RETRY_SECONDS,
            EXPIRE_SECONDS,
            NEGATIVE_TTL_SECONDS,
        );
        Record::from_rdata(owner, ttl_seconds, RData::SOA(data))
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Zone")
            .field("apex", &self.apex.text)
            .field("serial", &self.serial)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}
