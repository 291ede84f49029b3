//! Who entered an instance.

use async_trait::async_trait;
use wherry_model::{AuditId, Timestamp};
use wherry_store::{AuditEnd, AuditQuery, AuditRecord, AuditStore, StoreError};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::violation;

#[async_trait]
impl AuditStore for MemoryStore {
    async fn begin_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.write_quietly("storing an audit entry", |state| {
            if state.audits.has(&record.id) {
                return Err(violation(format!("audit entry {} is there", record.id)));
            }
            state.audits.put(record.id, AuditRecord { end: None, ..record.clone() });
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn end_audit(&self, id: AuditId, end: &AuditEnd) -> Result<bool, StoreError> {
        self.write_quietly("ending an audit entry", |state| {
            if state.audits.get(&id).is_none_or(|record| record.end.is_some()) {
                return Ok(Verdict::Undo(false));
            }
            state.audits.change(&id, |record| record.end = Some(end.clone()));
            Ok(Verdict::Keep(true))
        })
        .await
    }

    async fn audits(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.read("reading audit entries", |state| {
            let wanted = |record: &&AuditRecord| {
                query.of.is_none_or(|of| of == (record.tenant, record.project))
                    && query.instance.is_none_or(|instance| instance == record.instance)
                    && query.before.is_none_or(|before| record.id < before)
            };
            let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
            state.audits.values().rev().filter(wanted).take(limit).cloned().collect()
        })
        .await
    }

    async fn purge_audits(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write_quietly("forgetting audit entries", |state| {
            let mut old: Vec<(Timestamp, AuditId)> = state
                .audits
                .values()
                .filter(|record| record.begun_at < before)
                .map(|record| (record.begun_at, record.id))
                .collect();
            old.sort_unstable();
            old.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let gone: u64 = old.iter().map(|(_, id)| u64::from(state.audits.remove(id))).sum();
            Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
        })
        .await
    }
}
