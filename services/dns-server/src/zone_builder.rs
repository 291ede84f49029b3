//! Builds a [`Zone`] whole, from nothing. There is no way to edit a zone: the caller's facts are the truth, and a zone built
//! anew cannot drift from them.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::name::{NameKey, parent};
use crate::zone::{Apex, Node, Service, Zone};

/// How long an answer may be remembered unless the caller says otherwise, in seconds.
pub const DEFAULT_TTL_SECONDS: u32 = 5;
/// Longest time an answer may be remembered, in seconds: an instance's address must be able to move.
pub const MAX_TTL_SECONDS: u32 = 30;
/// Addresses one name may have per family; they fit into one answer over TCP with room to spare.
pub const MAX_ADDRESSES_PER_NAME: usize = 64;
/// SRV records one name may have.
pub const MAX_SERVICES_PER_NAME: usize = 64;

/// Why a name or number does not belong into a zone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The text is no host name.
    #[error("'{name}' is not a name for DNS: {reason}")]
    InvalidName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name is not under the apex.
    #[error("'{name}' is outside the zone '{apex}'; give names that end with '.{apex}'")]
    OutsideZone {
        /// What was given.
        name: String,
        /// Top of the zone.
        apex: String,
    },
    /// The name serves the zone itself.
    #[error("'{name}' is kept for the zone itself; choose another label")]
    Reserved {
        /// What was given.
        name: String,
    },
    /// More records than one name may have.
    #[error("'{name}' has more than {limit} records of one kind; spread them over several names")]
    TooManyRecords {
        /// What was given.
        name: String,
        /// [`MAX_ADDRESSES_PER_NAME`] or [`MAX_SERVICES_PER_NAME`].
        limit: usize,
    },
    /// The time to live is too long.
    #[error("a DNS time to live of {asked_seconds} s is too long; at most {MAX_TTL_SECONDS} s are allowed")]
    TtlTooLong {
        /// What was given, in seconds.
        asked_seconds: u32,
    },
}

/// Collects records for one [`Zone`].
pub struct ZoneBuilder {
    apex: Apex,
    name_server: NameKey,
    contact: NameKey,
    serial: u32,
    ttl_seconds: u32,
    nodes: HashMap<Box<[u8]>, Node>,
}

impl ZoneBuilder {
    /// Begins the zone under `apex` (for example `local.wherry.internal`). `serial` counts changes and never goes back; 0 is a
    /// serial like any other. `names` is how many names are expected; it only saves time.
    pub fn new(apex: &str, serial: u32, names: usize) -> Result<Self, ZoneError> {
        let apex = Apex::parse(apex)?;
        let own = |label: &str| parse(&format!("{label}.{}", apex.text));
        let (name_server, contact) = (own("ns")?, own("hostmaster")?);
        let mut nodes = HashMap::with_capacity(names + names / 2 + 2);
        nodes.insert(Box::default(), Node::default());
        nodes.insert(relative(&name_server, &apex).into(), Node::default());
        Ok(Self { apex, name_server, contact, serial, ttl_seconds: DEFAULT_TTL_SECONDS, nodes })
    }

    /// How long answers may be remembered, in seconds; at most [`MAX_TTL_SECONDS`].
    pub fn ttl_seconds(&mut self, seconds: u32) -> Result<&mut Self, ZoneError> {
        if seconds > MAX_TTL_SECONDS {
            return Err(ZoneError::TtlTooLong { asked_seconds: seconds });
        }
        self.ttl_seconds = seconds;
        Ok(self)
    }

    /// Adds an address of the name server `ns.<apex>`.
    pub fn name_server_address(&mut self, address: IpAddr) -> Result<&mut Self, ZoneError> {
        let key = self.name_server;
        let text = format!("ns.{}", self.apex.text);
        add(self.node(&key, &text)?, &text, address)?;
        Ok(self)
    }

    /// Adds an address (A or AAAA) of `name`, given in full. Adding it twice is adding it once.
    pub fn address(&mut self, name: &str, address: IpAddr) -> Result<&mut Self, ZoneError> {
        let key = self.free_name(name)?;
        add(self.node(&key, name)?, name, address)?;
        Ok(self)
    }

    /// Adds an SRV record: `name` (for example `_http._tcp.web.<apex>`) points to `port` of `target`, both in this zone.
    pub fn service(
        &mut self,
        name: &str,
        priority: u16,
        weight: u16,
        port: u16,
        target: &str,
    ) -> Result<&mut Self, ZoneError> {
        let key = self.free_name(name)?;
        let target_key = parse(target)?;
        if target_key.relative_to(&self.apex.key).is_none() {
            return Err(self.outside(target));
        }
        let service = Service { priority, weight, port, target: wire_name(&target_key, target)? };
        let services = &mut self.node(&key, name)?.services;
        if !services.contains(&service) {
            if services.len() >= MAX_SERVICES_PER_NAME {
                return Err(ZoneError::TooManyRecords { name: name.to_owned(), limit: MAX_SERVICES_PER_NAME });
            }
            services.push(service);
        }
        Ok(self)
    }

    /// The finished zone.
    pub fn build(self) -> Result<Zone, ZoneError> {
        let name_server = wire_name(&self.name_server, "ns")?;
        let contact = wire_name(&self.contact, "hostmaster")?;
        let Self { apex, serial, ttl_seconds, nodes, .. } = self;
        Ok(Zone { apex, serial, ttl_seconds, name_server, contact, nodes })
    }

    fn outside(&self, name: &str) -> ZoneError {
        ZoneError::OutsideZone { name: name.to_owned(), apex: self.apex.text.clone() }
    }

    fn free_name(&self, name: &str) -> Result<NameKey, ZoneError> {
        let key = parse(name)?;
        if [self.name_server.as_bytes(), self.contact.as_bytes()].contains(&key.as_bytes()) {
            return Err(ZoneError::Reserved { name: name.to_owned() });
        }
        Ok(key)
    }

    /// The node of `key`; makes it and every name between it and the apex.
    fn node(&mut self, key: &NameKey, name: &str) -> Result<&mut Node, ZoneError> {
        let Some(own) = key.relative_to(&self.apex.key) else { return Err(self.outside(name)) };
        let mut above = parent(own);
        while let Some(key) = above.filter(|key| !self.nodes.contains_key(*key)) {
            self.nodes.insert(key.into(), Node::default());
            above = parent(key);
        }
        Ok(self.nodes.entry(own.into()).or_default())
    }
}

impl Apex {
    pub(crate) fn parse(text: &str) -> Result<Self, ZoneError> {
        let key = parse(text)?;
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        Ok(Self { text, key })
    }
}

fn parse(name: &str) -> Result<NameKey, ZoneError> {
    NameKey::parse(name).map_err(|reason| ZoneError::InvalidName { name: name.to_owned(), reason })
}

fn relative<'key>(key: &'key NameKey, apex: &Apex) -> &'key [u8] {
    key.relative_to(&apex.key).unwrap_or_default()
}

fn wire_name(key: &NameKey, text: &str) -> Result<hickory_proto::rr::Name, ZoneError> {
    key.to_name().ok_or_else(|| ZoneError::InvalidName { name: text.to_owned(), reason: "it does not fit the wire" })
}

fn add(node: &mut Node, name: &str, address: IpAddr) -> Result<(), ZoneError> {
    let added = match address {
        IpAddr::V4(address) => push_new(&mut node.ipv4, address),
        IpAddr::V6(address) => push_new(&mut node.ipv6, address),
    };
    if added { Ok(()) } else { Err(ZoneError::TooManyRecords { name: name.to_owned(), limit: MAX_ADDRESSES_PER_NAME }) }
}

/// False if there is no room.
fn push_new<Address: PartialEq>(addresses: &mut Vec<Address>, address: Address) -> bool {
    if addresses.contains(&address) {
        return true;
    }
    let room = addresses.len() < MAX_ADDRESSES_PER_NAME;
    if room {
        addresses.push(address);
    }
    room
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const APEX: &str = "local.wherry.internal";

    fn builder() -> ZoneBuilder {
        ZoneBuilder::new(APEX, 1, 0).unwrap()
    }

    fn host(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn names_between_host_and_apex_exist_without_records() {
        let mut builder = builder();
        builder.address("a.b.c.local.wherry.internal", host(1)).unwrap();
        let zone = builder.build().unwrap();
        assert_eq!(zone.name_count(), 1);
        assert!(zone.find(b"\x01b\x01c").unwrap().is_empty());
        assert!(zone.find(b"\x01c").unwrap().is_empty());
        assert!(zone.find(b"\x01d").is_none());
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let mut builder = builder();
        assert!(matches!(builder.address("web.example.org", host(1)), Err(ZoneError::OutsideZone { .. })));
        assert!(matches!(builder.address("*.local.wherry.internal", host(1)), Err(ZoneError::InvalidName { .. })));
        assert!(matches!(builder.address("NS.local.wherry.internal", host(1)), Err(ZoneError::Reserved { .. })));
        assert!(matches!(builder.ttl_seconds(31), Err(ZoneError::TtlTooLong { asked_seconds: 31 })));
        let service = builder.service("_a._tcp.x.local.wherry.internal", 0, 0, 1, "x.example.org");
        assert!(matches!(service, Err(ZoneError::OutsideZone { .. })));
    }

    #[test]
    fn an_address_counts_once_and_there_is_a_limit() {
        let mut builder = builder();
        let name = "web.local.wherry.internal";
        for _ in 0..2 {
            for last in 0..64 {
                builder.address(name, host(last)).unwrap();
            }
        }
        assert!(matches!(builder.address(name, host(64)), Err(ZoneError::TooManyRecords { limit: 64, .. })));
    }
}
