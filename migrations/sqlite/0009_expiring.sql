-- Instances that are deleted by the service at a time that follows from their record.
CREATE INDEX instances_expiring ON instances (json_extract(record, '$.expires_at'))
    WHERE json_extract(record, '$.expires_at') IS NOT NULL;
