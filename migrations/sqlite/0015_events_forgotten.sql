-- The highest number of an event that was forgotten, of a project and of an instance that is still there: a reader who comes back
-- from before it is told that it missed something.
CREATE TABLE events_forgotten (
    tenant  BLOB    NOT NULL,
    project BLOB    NOT NULL,
    seq     INTEGER NOT NULL,
    CONSTRAINT events_forgotten_key PRIMARY KEY (tenant, project),
    CONSTRAINT events_forgotten_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE instance_events_forgotten (
    instance BLOB    NOT NULL CONSTRAINT instance_events_forgotten_instance REFERENCES instances (id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    CONSTRAINT instance_events_forgotten_key PRIMARY KEY (instance)
) STRICT, WITHOUT ROWID;
