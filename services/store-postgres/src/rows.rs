//! The columns that are read, table by table, by name and never as `*`.
//!
//! A session keeps what it has prepared. When a migration adds a column to a table, the server refuses every further use of a prepared statement that
//! reads `*` of it ("cached plan must not change result type"), so replicas of the release before would fail until they are restarted.

macro_rules! columns {
    (api_keys) => {
        "id, tenant, name, secret_hash, scopes, created_at, expires_at, revoked_at"
    };
    (enrolments) => {
        "node, name, range_first, range_prefix, created_at, removed_at"
    };
    (events) => {
        "seq, tenant, project, instance, name, at, kind, state, generation, message, actor"
    };
    (intervals) => {
        "instance, kind, number, tenant, project, name, node, generation, cpu_millis, memory_mib, price_book, start_second, end_second, late"
    };
    (join_tokens) => {
        "id, secret_hash, range_first, range_prefix, created_at, expires_at, used_by, public_key"
    };
    (nodes) => {
        "id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib, capacity_instances, used_cpu_millis, used_memory_mib, \
         used_instances, boot, range_first, range_prefix, proof_at, desired_revision, epoch, heartbeats, doubt, resolved_doubt, underlay, \
         drain_asked_at, drain_grace_until, drain_then, removed_at, fenced_heartbeats, protocol, unfenced_heartbeats, \
         isolation, zone, disk_total_mib, disk_used_mib, sole_tenant, overcommit_cpu_percent, overcommit_memory_percent, \
         overcommit_disk_percent, gpu_model, gpu_count, gpu_used"
    };
    (replicas) => {
        "id, agents_url, seen_at"
    };
}

pub(crate) use columns;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let reads_all = |line: &&str| {
                let of_an_array = line.contains("unnest(");
                (line.contains("SELECT * ") || line.contains("RETURNING *")) && !of_an_array
            };
            let lines = text.lines().filter(|_| !path.ends_with("rows.rs")).filter(reads_all);
            found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }

    #[test]
    fn no_statement_reads_whatever_columns_there_are() {
        let mut found = Vec::new();
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.is_empty(), "name the columns (`rows.rs` says why):\n{}", found.join("\n"));
    }
}
