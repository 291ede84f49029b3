-- Instances, with what is forgotten together with them: labels, idempotency records, events.

-- `record` is json and not jsonb: it is written whole and read whole, never searched.
CREATE TABLE instances (
    id              uuid    NOT NULL,
    tenant          uuid    NOT NULL,
    project         uuid    NOT NULL,
    name            text    NOT NULL COLLATE "C",
    state           text    NOT NULL,
    node            uuid             CONSTRAINT instances_node REFERENCES nodes (id),
    generation      bigint  NOT NULL,
    revision        bigint  NOT NULL,
    holds_resources boolean NOT NULL,
    address         bigint,
    created_at      bigint  NOT NULL,
    deleted_at      bigint,
    record          json    NOT NULL,
    CONSTRAINT instances_key UNIQUE (id),
    CONSTRAINT instances_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id),
    CONSTRAINT instances_deleted CHECK ((state = 'deleted') = (deleted_at IS NOT NULL)),
    CONSTRAINT instances_deleted_holds_nothing CHECK (deleted_at IS NULL OR NOT holds_resources)
);

-- A name is free again once its instance is gone.
CREATE UNIQUE INDEX instances_live_name ON instances (tenant, project, name) WHERE deleted_at IS NULL;
-- Lists: one range per wanted state, each in order of age, merged.
CREATE INDEX instances_by_state ON instances (tenant, project, state, created_at, id);
CREATE INDEX instances_by_node ON instances (node, id) WHERE deleted_at IS NULL;
CREATE INDEX instances_with_address ON instances (id) WHERE address IS NOT NULL;
CREATE INDEX instances_to_purge ON instances (deleted_at) WHERE deleted_at IS NOT NULL;

-- Lists by label: one range per label, in order of age. `live` keeps the deleted ones out of the way.
CREATE TABLE instance_labels (
    tenant     uuid    NOT NULL,
    project    uuid    NOT NULL,
    key        text    NOT NULL COLLATE "C",
    value      text    NOT NULL COLLATE "C",
    live       boolean NOT NULL,
    created_at bigint  NOT NULL,
    instance   uuid    NOT NULL CONSTRAINT instance_labels_instance REFERENCES instances (id) ON DELETE CASCADE,
    CONSTRAINT instance_labels_key PRIMARY KEY (tenant, project, key, value, live, created_at, instance)
);

CREATE UNIQUE INDEX instance_labels_by_instance ON instance_labels (instance, key);

CREATE TABLE idempotency (
    tenant      uuid   NOT NULL,
    key         text   NOT NULL COLLATE "C",
    fingerprint bytea  NOT NULL CONSTRAINT idempotency_fingerprint CHECK (octet_length(fingerprint) = 32),
    instance    uuid   NOT NULL CONSTRAINT idempotency_instance REFERENCES instances (id) ON DELETE CASCADE,
    created_at  bigint NOT NULL,
    CONSTRAINT idempotency_key PRIMARY KEY (tenant, key)
);

CREATE INDEX idempotency_by_instance ON idempotency (instance);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Numbers are drawn under a lock of the project that is held to the commit, so that they appear in their order.
CREATE TABLE events (
    seq        bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    tenant     uuid   NOT NULL,
    project    uuid   NOT NULL,
    instance   uuid   NOT NULL CONSTRAINT events_instance REFERENCES instances (id) ON DELETE CASCADE,
    name       text   NOT NULL,
    at         bigint NOT NULL,
    kind       text   NOT NULL,
    state      text   NOT NULL,
    generation bigint NOT NULL,
    message    text   NOT NULL,
    actor      text,
    CONSTRAINT events_key PRIMARY KEY (seq)
);

CREATE INDEX events_of_project ON events (tenant, project, seq);
CREATE INDEX events_of_instance ON events (instance, seq);
