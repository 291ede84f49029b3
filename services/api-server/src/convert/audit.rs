//! Who entered instances.

use wherry_api_types as wire;
use wherry_control::{AuditKind, AuditOutcome, EntryPage, EntryState, EntryView};

/// A page of entries.
pub(crate) fn audit(page: EntryPage) -> wire::AuditList {
    wire::AuditList { items: page.entries.into_iter().map(entry).collect(), next: page.next }
}

fn entry(EntryView { record, state }: EntryView) -> wire::AuditEntry {
    let end = record.end;
    let state = match (state, end.as_ref().map(|end| end.outcome)) {
        (_, Some(AuditOutcome::Ended)) => wire::AuditState::Ended,
        (_, Some(AuditOutcome::Left)) => wire::AuditState::Left,
        (_, Some(AuditOutcome::Refused)) => wire::AuditState::Refused,
        (_, Some(AuditOutcome::Broken)) => wire::AuditState::Broken,
        (EntryState::Open, None) => wire::AuditState::Open,
        (EntryState::Ended | EntryState::Unknown, None) => wire::AuditState::Unknown,
    };
    let kind = match record.kind {
        AuditKind::Exec => wire::AuditKind::Exec,
        AuditKind::Attach => wire::AuditKind::Attach,
        AuditKind::PortForward => wire::AuditKind::PortForward,
    };
    wire::AuditEntry {
        id: record.id.to_string(),
        tenant_id: record.tenant.to_string(),
        project_id: record.project.to_string(),
        instance_id: record.instance.to_string(),
        instance: record.name.to_string(),
        kind,
        container: record.container.map(|name| name.to_string()),
        command: record.command,
        port: record.port,
        actor: record.actor,
        begun_at: record.begun_at.to_string(),
        state,
        ended_at: end.as_ref().map(|end| end.at.to_string()),
        exit_code: end.as_ref().and_then(|end| end.exit_code),
        bytes_in: end.as_ref().map_or(0, |end| end.bytes_in),
        bytes_out: end.as_ref().map_or(0, |end| end.bytes_out),
    }
}
