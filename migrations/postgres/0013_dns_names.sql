-- No two live instances share a DNS name, and nobody but its tenant ever gets one again.
-- Its columns come with the file before, so nobody can make it beforehand: who writes instances waits while it is made.
CREATE UNIQUE INDEX IF NOT EXISTS instances_live_dns_name
    ON instances (tenant, (coalesce(dns_scope, project)), (coalesce(dns_label, name))) WHERE deleted_at IS NULL;
