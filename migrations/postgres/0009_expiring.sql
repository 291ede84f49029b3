-- Instances that are deleted by the service at a time that follows from their record.
-- On a large table the operator makes it beforehand, with CREATE INDEX CONCURRENTLY: its column is older than this file.
CREATE INDEX IF NOT EXISTS instances_expiring ON instances (((record ->> 'expires_at')::bigint))
    WHERE (record ->> 'expires_at')::bigint IS NOT NULL;
