-- Who entered which instance: begun is on record before a program runs, the end afterwards. A row without an end whose replica
-- lives no more is an entry with an end that nobody knows. It outlives its instance.
CREATE TABLE audits (
    id       BLOB    NOT NULL CONSTRAINT audits_id CHECK (length(id) = 16),
    tenant   BLOB    NOT NULL,
    project  BLOB    NOT NULL,
    instance BLOB    NOT NULL CONSTRAINT audits_instance CHECK (length(instance) = 16),
    begun_at INTEGER NOT NULL,
    record   TEXT    NOT NULL,
    ended    TEXT,
    CONSTRAINT audits_key PRIMARY KEY (id),
    CONSTRAINT audits_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX audits_of_project ON audits (tenant, project, id);
CREATE INDEX audits_of_instance ON audits (instance, id);
CREATE INDEX audits_by_time ON audits (begun_at);

-- The one update that there is: it has ended.
CREATE TRIGGER audits_only_end BEFORE UPDATE ON audits
WHEN OLD.ended IS NOT NULL OR NEW.ended IS NULL
  OR (OLD.id, OLD.tenant, OLD.project, OLD.instance, OLD.begun_at, OLD.record)
  <> (NEW.id, NEW.tenant, NEW.project, NEW.instance, NEW.begun_at, NEW.record)
BEGIN
    SELECT RAISE(ABORT, 'audits_only_end');
END;
