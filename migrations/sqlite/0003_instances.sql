-- Instances, with what is forgotten together with them: labels, idempotency records, events.

CREATE TABLE instances (
    id              BLOB    NOT NULL CONSTRAINT instances_id CHECK (length(id) = 16),
    tenant          BLOB    NOT NULL,
    project         BLOB    NOT NULL,
    name            TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    node            BLOB             CONSTRAINT instances_node REFERENCES nodes (id),
    generation      INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    holds_resources INTEGER NOT NULL CONSTRAINT instances_holds_resources CHECK (holds_resources IN (0, 1)),
    address         INTEGER,
    created_at      INTEGER NOT NULL,
    deleted_at      INTEGER,
    record          TEXT    NOT NULL CONSTRAINT instances_record CHECK (json_valid(record)),
    CONSTRAINT instances_key UNIQUE (id),
    CONSTRAINT instances_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id),
    CONSTRAINT instances_deleted CHECK ((state = 'deleted') = (deleted_at IS NOT NULL)),
    CONSTRAINT instances_deleted_holds_nothing CHECK (deleted_at IS NULL OR holds_resources = 0)
) STRICT;

-- A name is free again once its instance is gone.
CREATE UNIQUE INDEX instances_live_name ON instances (tenant, project, name) WHERE deleted_at IS NULL;
-- Lists: one range per wanted state, each in order of age, merged.
CREATE INDEX instances_by_state ON instances (tenant, project, state, created_at, id);
CREATE INDEX instances_by_node ON instances (node, id) WHERE deleted_at IS NULL;
CREATE INDEX instances_with_address ON instances (id) WHERE address IS NOT NULL;
CREATE INDEX instances_to_purge ON instances (deleted_at) WHERE deleted_at IS NOT NULL;

-- Lists by label: one range per label, in order of age. `live` keeps the deleted ones out of the way.
CREATE TABLE instance_labels (
    tenant     BLOB    NOT NULL,
    project    BLOB    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    live       INTEGER NOT NULL CONSTRAINT instance_labels_live CHECK (live IN (0, 1)),
    created_at INTEGER NOT NULL,
    instance   BLOB    NOT NULL CONSTRAINT instance_labels_instance REFERENCES instances (id) ON DELETE CASCADE,
    CONSTRAINT instance_labels_key PRIMARY KEY (tenant, project, key, value, live, created_at, instance)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX instance_labels_by_instance ON instance_labels (instance, key);

CREATE TABLE idempotency (
    tenant      BLOB    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL CONSTRAINT idempotency_fingerprint CHECK (length(fingerprint) = 32),
    instance    BLOB    NOT NULL CONSTRAINT idempotency_instance REFERENCES instances (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    CONSTRAINT idempotency_key PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_instance ON idempotency (instance);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- AUTOINCREMENT: a number is never given again, not even after the newest event was forgotten.
CREATE TABLE events (
    seq        INTEGER CONSTRAINT events_key PRIMARY KEY AUTOINCREMENT,
    tenant     BLOB    NOT NULL,
    project    BLOB    NOT NULL,
    instance   BLOB    NOT NULL CONSTRAINT events_instance REFERENCES instances (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    message    TEXT    NOT NULL,
    actor      TEXT
) STRICT;

CREATE INDEX events_of_project ON events (tenant, project, seq);
CREATE INDEX events_of_instance ON events (instance, seq);
