//! Carries the zone from the application to the DNS server.

use std::net::Ipv4Addr;
use std::sync::Arc;

use wherry_control::{ZoneContents, ZonePublisher};
use wherry_dns_server::{Zone, ZoneBuilder, ZoneError, ZoneHandle};

/// Publishes into the snapshot that both DNS servers answer from.
pub(super) struct Publisher {
    pub(super) zones: Arc<ZoneHandle>,
    pub(super) ttl_seconds: u32,
    pub(super) name_server: Ipv4Addr,
}

impl Publisher {
    fn build(&self, contents: &ZoneContents) -> Result<Zone, ZoneError> {
        let mut builder = ZoneBuilder::new(&contents.apex, contents.serial, contents.records.len())?;
        builder.ttl_seconds(self.ttl_seconds)?.name_server_address(self.name_server.into())?;
        for (name, address) in &contents.records {
            builder.address(name, (*address).into())?;
        }
        builder.build()
    }
}

impl ZonePublisher for Publisher {
    fn publish(&self, contents: ZoneContents) {
        match self.build(&contents) {
            Ok(zone) => {
                if let Err(refused) = self.zones.store(zone) {
                    tracing::warn!(serial = contents.serial, %refused, "a zone was not taken");
                }
            }
            Err(error) => tracing::error!(serial = contents.serial, %error, "a zone could not be built"),
        }
    }
}
