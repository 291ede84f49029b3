-- No two live instances share a DNS name, and nobody but its tenant ever gets one again.
-- On a large table the operator makes it beforehand, after 0012, with CREATE UNIQUE INDEX CONCURRENTLY.
CREATE UNIQUE INDEX IF NOT EXISTS instances_live_dns_name
    ON instances (tenant, (coalesce(dns_scope, project)), (coalesce(dns_label, name))) WHERE deleted_at IS NULL;
