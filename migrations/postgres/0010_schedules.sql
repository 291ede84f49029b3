-- Instances whose schedule asks for something at a time that follows from their record.
CREATE INDEX instances_due ON instances (((record -> 'timetable' ->> 'due_at')::bigint))
    WHERE (record -> 'timetable' ->> 'due_at')::bigint IS NOT NULL;
