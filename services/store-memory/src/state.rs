//! Everything that is stored.

use std::net::Ipv4Addr;
use std::sync::Arc;

use wherry_model::{
    ApiKeyId, AuditId, CpuMillis, DeliveryId, Event, Generation, Instance, InstanceId, InstanceName, JournalId,
    MemoryMib, NodeId, NodeRecord, Observation, PriceBook, ProjectId, ReplicaId, TenantId, Timestamp, TokenId,
    WebhookId,
};
use wherry_store::{
    ApiKeyRecord, AuditRecord, CallRecord, DeliveryRecord, EnrolmentRecord, IdempotencyRecord, JoinTokenRecord,
    ProjectRecord, ReplicaRecord, StoreError, TenantRecord,
};

use crate::table::Table;

#[derive(Clone)]
pub(crate) struct NodeRow {
    pub(crate) record: NodeRecord,
    /// Numbers of the latest doubt, and of the latest that was resolved.
    pub(crate) doubt: u64,
    pub(crate) resolved_doubt: u64,
    pub(crate) removed: bool,
    /// The count of heartbeats up to which its present agent was not known to fence.
    pub(crate) unfenced_heartbeats: Option<u64>,
}

impl NodeRow {
    pub(crate) const fn knows_leases(&self) -> bool {
        self.record.protocol >= NodeRecord::PROTOCOL_OF_LEASES
    }

    /// Whether its agent ends by itself what may run elsewhere.
    pub(crate) fn fences(&self) -> bool {
        self.knows_leases() && self.unfenced_heartbeats.is_none_or(|count| self.record.heartbeats > count)
    }
}

#[derive(Clone)]
pub(crate) struct InstanceRow {
    pub(crate) record: Arc<Instance>,
    /// Where its latest write stands among all.
    pub(crate) write: u64,
    /// Its record cannot be read; what else is known of it can.
    pub(crate) broken: bool,
}

impl InstanceRow {
    /// The record, unless it is broken.
    pub(crate) fn readable(&self) -> Option<&Arc<Instance>> {
        (!self.broken).then_some(&self.record)
    }

    /// The same for who asks for this one alone.
    pub(crate) fn read(&self) -> Result<&Arc<Instance>, StoreError> {
        let (table, key) = ("instances", self.record.id.to_string());
        let broken = || StoreError::Corrupt { table, key, message: "it was broken on purpose".to_owned() };
        self.readable().ok_or_else(broken)
    }
}

#[derive(Clone)]
pub(crate) struct EventRow {
    pub(crate) tenant: TenantId,
    pub(crate) project: ProjectId,
    pub(crate) instance: InstanceId,
    pub(crate) name: InstanceName,
    pub(crate) event: Event,
}

#[derive(Clone)]
pub(crate) struct IntervalRow {
    pub(crate) tenant: TenantId,
    pub(crate) project: ProjectId,
    pub(crate) name: InstanceName,
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) cpu: CpuMillis,
    pub(crate) memory: MemoryMib,
    pub(crate) price_book: String,
    pub(crate) start_second: i64,
    pub(crate) end_second: Option<i64>,
    pub(crate) late: bool,
}

#[derive(Clone)]
pub(crate) struct DeferredRow {
    pub(crate) node: NodeId,
    pub(crate) observation: Observation,
}

#[derive(Clone)]
pub(crate) struct LeaseRow {
    pub(crate) holder: ReplicaId,
    pub(crate) until: Timestamp,
}

/// (instance, kind, number): a kind by its name, which is also how the SQL stores order them.
pub(crate) type IntervalKey = (InstanceId, &'static str, u32);

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $row:ty,)*) => {
        #[derive(Default)]
        pub(crate) struct State {
            $($(#[$doc])* pub(crate) $name: Table<$key, $row>,)*
            /// Numbers of events, writes and deferred facts are never given twice, whatever becomes of the unit that took them.
            pub(crate) last_event: u64,
            pub(crate) last_write: u64,
            pub(crate) last_deferred: u64,
        }

        impl State {
            pub(crate) fn keep(&mut self) {
                $(self.$name.keep();)*
            }

            pub(crate) fn undo(&mut self) {
                $(self.$name.undo();)*
            }
        }
    };
}

tables! {
    tenants: TenantId => TenantRecord,
    projects: (TenantId, ProjectId) => ProjectRecord,
    keys: ApiKeyId => ApiKeyRecord,
    nodes: NodeId => NodeRow,
    journals: (NodeId, JournalId) => u64,
    instances: InstanceId => InstanceRow,
    deferred: u64 => DeferredRow,
    /// Which instance each write was of, only the latest of each.
    writes: u64 => InstanceId,
    idempotency: (TenantId, String) => IdempotencyRecord,
    events: u64 => EventRow,
    /// The highest number of an event that was forgotten.
    events_forgotten: (TenantId, ProjectId) => u64,
    instance_events_forgotten: InstanceId => u64,
    intervals: IntervalKey => IntervalRow,
    books: String => PriceBook,
    current_book: () => String,
    counters: String => u64,
    tokens: TokenId => JoinTokenRecord,
    enrolments: NodeId => EnrolmentRecord,
    leases: String => LeaseRow,
    replicas: ReplicaId => ReplicaRecord,
    calls: [u8; 32] => CallRecord,
    settled: String => String,
    learnt: String => String,
    audits: AuditId => AuditRecord,
    webhooks: WebhookId => crate::webhook::WebhookRow,
    deliveries: DeliveryId => DeliveryRecord,
}

/// A rule that the caller broke.
pub(crate) fn violation(context: impl Into<String>) -> StoreError {
    StoreError::Violation { context: context.into(), source: None }
}

/// The address with which a range of that prefix begins.
pub(crate) fn first_of(range: (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(range.0.to_bits() & mask(range.1))
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// Whether two ranges of addresses share one.
pub(crate) fn overlap(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let mask = mask(one.1.min(other.1));
    one.0.to_bits() & mask == other.0.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let range = |text: &str, prefix| (text.parse().unwrap(), prefix);
        assert!(overlap(range("10.1.0.0", 16), range("10.1.7.0", 24)));
        assert!(!overlap(range("10.1.6.0", 24), range("10.1.7.0", 24)));
        assert!(overlap(range("0.0.0.0", 0), range("10.1.7.0", 24)));
    }
}
