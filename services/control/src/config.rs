//! What an installation chooses.

use std::time::Duration;

use wherry_model::PriceBook;

/// Settings of the application. The defaults are those of DESIGN.md.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// First label group of the zone: which part of the service this is.
    pub region: String,
    /// The rest of the zone.
    pub zone: String,
    /// Key of the project labels in DNS names. Kept with the installation: another key means other names.
    pub naming_key: [u8; 32],
    /// Silence after which a node's instances are `Unknown`.
    pub detection: Duration,
    /// How long deleted instances and idempotency records are kept. At least 24 hours.
    pub retention: Duration,
    /// How long `start` waits for a stop that is still under way.
    pub settle_wait: Duration,
    /// What new intervals are rated with.
    pub price_book: PriceBook,
}

impl ControlConfig {
    /// The defaults, with this naming key.
    pub fn new(naming_key: [u8; 32]) -> Self {
        Self {
            region: "local".to_owned(),
            zone: "wherry.internal".to_owned(),
            naming_key,
            detection: Duration::from_secs(15),
            retention: Duration::from_hours(7 * 24),
            settle_wait: Duration::from_secs(20),
            price_book: PriceBook::default_book(),
        }
    }

    /// The apex of the zone that instance names are served in.
    pub fn apex(&self) -> String {
        format!("{}.{}", self.region, self.zone)
    }
}
