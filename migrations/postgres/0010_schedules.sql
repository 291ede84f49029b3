-- Instances whose schedule asks for something at a time that follows from their record.
-- On a large table the operator makes it beforehand, with CREATE INDEX CONCURRENTLY: its column is older than this file.
CREATE INDEX IF NOT EXISTS instances_due ON instances (((record -> 'timetable' ->> 'due_at')::bigint))
    WHERE (record -> 'timetable' ->> 'due_at')::bigint IS NOT NULL;
