-- Instances that are deleted by the service at a time that follows from their record.
CREATE INDEX instances_expiring ON instances (((record ->> 'expires_at')::bigint))
    WHERE (record ->> 'expires_at')::bigint IS NOT NULL;
