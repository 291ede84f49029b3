//! What an installation chooses.

use std::net::Ipv4Addr;
use std::time::Duration;

use wherry_model::{Overcommit, PriceBook};
use wherry_sealing::Keyring;

use crate::webhooks::WebhookSettings;

/// Settings of the application. The defaults are those of DESIGN.md.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// First label group of the zone: which part of the service this is.
    pub region: String,
    /// The rest of the zone.
    pub zone: String,
    /// Key of the project labels in DNS names. Kept with the installation: another key means other names.
    pub naming_key: [u8; 32],
    /// What secrets are sealed with; the same at every replica. Without keys nobody can give a secret.
    pub sealing: Keyring,
    /// Silence after which a node's instances are `Unknown`.
    pub detection: Duration,
    /// Seconds without a renewed lease after which a node ends its instances of `on_node_loss: replace` by itself. Settled by the
    /// first process of an installation: agents and replicas must all mean the same.
    pub fence_after_seconds: u32,
    /// How much longer the control plane waits before it believes that they have ended: drift of clocks, and the time that
    /// ending takes.
    pub fence_margin: Duration,
    /// How long a replica that has died keeps background work from being done by another.
    pub lease_time: Duration,
    /// First address and prefix length of what nodes' ranges are cut from.
    pub fleet_range: (Ipv4Addr, u8),
    /// Prefix length of one node's range.
    pub node_prefix: u8,
    /// Nobody but this process writes to the store, so it hears of every commit from itself and follows nobody's.
    pub is_alone: bool,
    /// Where agents reach this replica, for example `https://10.0.0.1:7443`; absent when it takes no calls.
    pub agents_url: Option<String>,
    /// How long deleted instances and idempotency records are kept. At least 24 hours.
    pub retention: Duration,
    /// How long one round of forgetting what is past its time may take; there is one each minute.
    pub forgetting: Duration,
    /// Whether containers may be given more CPU and memory than is reserved for them, while their machine has it.
    pub allow_limits_above_request: bool,
    /// How long it stays on record who entered an instance. At least a day.
    pub audit_retention: Duration,
    /// Events of one instance that are kept, the newest ones.
    pub events_per_instance: u32,
    /// How often instances of one tenant may be entered within an hour, through each replica.
    pub entries_per_hour: u32,
    /// How long `start` waits for a stop that is still under way.
    pub settle_wait: Duration,
    /// Bounds of webhooks.
    pub webhooks: WebhookSettings,
    /// How much more than they have machines hand out.
    pub overcommit: Overcommit,
    /// Whether it is learnt how long instances run, so that those of a machine end together.
    pub learn_lifetimes: bool,
    /// From the event that tells a spot instance to make room to its stop.
    pub spot_notice: Duration,
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
            sealing: Keyring::default(),
            detection: Duration::from_secs(15),
            fence_after_seconds: 300,
            fence_margin: Duration::from_secs(45),
            lease_time: Duration::from_secs(5),
            fleet_range: (Ipv4Addr::new(10, 128, 0, 0), 10),
            node_prefix: 24,
            is_alone: false,
            agents_url: None,
            retention: Duration::from_hours(7 * 24),
            forgetting: Duration::from_secs(20),
            allow_limits_above_request: false,
            audit_retention: Duration::from_hours(90 * 24),
            events_per_instance: 2_000,
            entries_per_hour: 7_200,
            settle_wait: Duration::from_secs(20),
            webhooks: WebhookSettings::default(),
            overcommit: Overcommit::default(),
            learn_lifetimes: true,
            spot_notice: Duration::from_secs(30),
            price_book: PriceBook::default_book(),
        }
    }

    /// The apex of the zone that instance names are served in.
    pub fn apex(&self) -> String {
        format!("{}.{}", self.region, self.zone)
    }

    /// How long a node must have been unheard before what it may run elsewhere is taken from it.
    pub(crate) fn fence_wait(&self) -> Duration {
        Duration::from_secs(u64::from(self.fence_after_seconds)).saturating_add(self.fence_margin)
    }
}
