//! Carries names to the DNS servers: a control plane's own zone, or what a node believes of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use wherry_control::{ZoneContents, ZonePublisher};
use wherry_dns_server::{Zone, ZoneBuilder, ZoneError, ZoneHandle};
use wherry_node_agent::{NamesSink, NodeNames};

/// Publishes into the snapshot that the DNS servers of this process answer from.
pub(crate) struct Publisher {
    pub(crate) zones: Arc<ZoneHandle>,
    pub(crate) ttl_seconds: u32,
    pub(crate) name_server: Ipv4Addr,
}

impl Publisher {
    fn answer<'names>(&self, apex: &str, serial: u32, names: impl ExactSizeIterator<Item = (&'names str, Ipv4Addr)>) {
        match self.build(apex, serial, names) {
            Ok(zone) => {
                if let Err(refused) = self.zones.store(zone) {
                    tracing::warn!(serial, %refused, "a zone was not taken");
                }
            }
            Err(error) => tracing::error!(serial, %error, "a zone could not be built"),
        }
    }

    fn build<'names>(
        &self,
        apex: &str,
        serial: u32,
        names: impl ExactSizeIterator<Item = (&'names str, Ipv4Addr)>,
    ) -> Result<Zone, ZoneError> {
        let mut builder = ZoneBuilder::new(apex, serial, names.len())?;
        builder.ttl_seconds(self.ttl_seconds)?.name_server_address(self.name_server.into())?;
        for (name, address) in names {
            builder.address(name, address.into())?;
        }
        builder.build()
    }
}

impl ZonePublisher for Publisher {
    fn publish(&self, contents: ZoneContents) {
        let names = contents.records.iter().map(|(name, address)| (name.as_str(), *address));
        self.answer(&contents.apex, contents.serial, names);
    }
}

impl NamesSink for Publisher {
    fn publish(&self, names: NodeNames) {
        let records = names.records.iter().map(|record| (record.name.as_str(), record.address));
        self.answer(&names.apex, names.serial, records);
    }
}

#[cfg(test)]
mod tests {
    use wherry_agent_api::NameRecord;
    use wherry_model::Revision;

    use super::*;

    #[test]
    fn what_a_node_believes_replaces_what_it_believed() {
        let zones = ZoneHandle::new("local.wherry.internal").unwrap();
        let publisher = Publisher { zones: Arc::clone(&zones), ttl_seconds: 5, name_server: Ipv4Addr::LOCALHOST };
        let record = |last: u8| NameRecord {
            instance: "01".repeat(16).parse().unwrap(),
            revision: Revision(1),
            name: format!("web{last}.p.local.wherry.internal"),
            address: Ipv4Addr::new(10, 0, 0, last),
        };
        let tell = |serial, lasts: &[u8]| {
            let records = lasts.iter().copied().map(record).collect();
            NamesSink::publish(&publisher, NodeNames { apex: "local.wherry.internal".to_owned(), serial, records });
        };
        let shown = || zones.current().map(|zone| (zone.serial(), zone.name_count()));
        assert_eq!(shown(), None);
        // The name server's own is one of them.
        tell(3, &[1, 2]);
        assert_eq!(shown(), Some((3, 3)));
        tell(4, &[]);
        assert_eq!(shown(), Some((4, 1)));
        tell(2, &[1]);
        assert_eq!(shown(), Some((4, 1)), "an older one is not taken");
    }
}
