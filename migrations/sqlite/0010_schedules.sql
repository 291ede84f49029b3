-- Instances whose schedule asks for something at a time that follows from their record.
CREATE INDEX instances_due ON instances (json_extract(record, '$.timetable.due_at'))
    WHERE json_extract(record, '$.timetable.due_at') IS NOT NULL;
