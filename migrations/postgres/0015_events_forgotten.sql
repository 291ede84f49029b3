-- The highest number of an event that was forgotten, of a project and of an instance that is still there: a reader who comes back
-- from before it is told that it missed something.
CREATE TABLE events_forgotten (
    tenant  uuid   NOT NULL,
    project uuid   NOT NULL,
    seq     bigint NOT NULL,
    CONSTRAINT events_forgotten_key PRIMARY KEY (tenant, project),
    CONSTRAINT events_forgotten_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
);

CREATE TABLE instance_events_forgotten (
    instance uuid   NOT NULL CONSTRAINT instance_events_forgotten_instance REFERENCES instances (id) ON DELETE CASCADE,
    seq      bigint NOT NULL,
    CONSTRAINT instance_events_forgotten_key PRIMARY KEY (instance)
);
