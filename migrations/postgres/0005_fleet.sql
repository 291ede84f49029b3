-- Many machines and many processes: nodes join, are fenced, emptied and removed; instances wait for a place; processes
-- find each other, share background work and hand calls to each other.

ALTER TABLE nodes
    DROP CONSTRAINT nodes_state,
    ADD CONSTRAINT nodes_state CHECK (state IN ('ready', 'cordoned', 'draining', 'silent')),
    -- The lease epoch: grows when the node is fenced.
    ADD COLUMN epoch bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_epoch CHECK (epoch >= 0),
    -- Counts proofs of life.
    ADD COLUMN heartbeats bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_heartbeats CHECK (heartbeats >= 0),
    -- Numbers of the latest doubt in the node's instances, and of the latest that was resolved.
    ADD COLUMN doubt bigint NOT NULL DEFAULT 0,
    ADD COLUMN resolved_doubt bigint NOT NULL DEFAULT 0,
    ADD COLUMN underlay bigint,
    ADD COLUMN drain_asked_at bigint,
    ADD COLUMN drain_grace_until bigint,
    ADD COLUMN drain_then text CONSTRAINT nodes_drain_then CHECK (drain_then IN ('move', 'stop')),
    -- A removed node keeps its row for the intervals that name it.
    ADD COLUMN removed_at bigint,
    ADD CONSTRAINT nodes_doubts CHECK (resolved_doubt BETWEEN 0 AND doubt),
    ADD CONSTRAINT nodes_drain CHECK (
        (drain_asked_at IS NOT NULL) = (state = 'draining')
        AND (drain_grace_until IS NOT NULL) = (state = 'draining')
        AND (drain_then IS NOT NULL) = (state = 'draining')
    ),
    ADD CONSTRAINT nodes_removed_is_empty CHECK (removed_at IS NULL OR used_instances = 0);

-- The transaction of the latest write. Readers follow it: see `feed.rs` of store-postgres.
ALTER TABLE instances ADD COLUMN changed bigint NOT NULL DEFAULT 0;

CREATE INDEX instances_by_change ON instances (changed);
CREATE INDEX instances_pending ON instances (changed) WHERE state = 'pending';

-- Machines that may be nodes. A removed one stays: its certificate may still be presented.
CREATE TABLE enrolments (
    node         uuid   NOT NULL,
    name         text   NOT NULL COLLATE "C",
    range_first  bigint NOT NULL CONSTRAINT enrolments_range_first CHECK (range_first BETWEEN 0 AND 4294967295),
    range_prefix bigint NOT NULL CONSTRAINT enrolments_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    created_at   bigint NOT NULL,
    removed_at   bigint,
    CONSTRAINT enrolments_key PRIMARY KEY (node),
    CONSTRAINT enrolments_range CHECK (range_first % (1::bigint << (32 - range_prefix)::integer) = 0),
    CONSTRAINT enrolments_do_not_overlap EXCLUDE USING gist (
        int8range(range_first, range_first + (1::bigint << (32 - range_prefix)::integer)) WITH &&
    ) WHERE (removed_at IS NULL)
);

CREATE UNIQUE INDEX enrolments_live_name ON enrolments (name) WHERE removed_at IS NULL;

-- The one update that there is: it is removed.
CREATE TRIGGER enrolments_only_end BEFORE UPDATE ON enrolments FOR EACH ROW
WHEN (
    OLD.removed_at IS NOT NULL OR NEW.removed_at IS NULL
    OR (OLD.node, OLD.name, OLD.range_first, OLD.range_prefix, OLD.created_at)
    <> (NEW.node, NEW.name, NEW.range_first, NEW.range_prefix, NEW.created_at)
)
EXECUTE FUNCTION refuse('enrolments_only_end');

CREATE TABLE join_tokens (
    id           uuid   NOT NULL,
    secret_hash  bytea  NOT NULL CONSTRAINT join_tokens_secret_hash CHECK (octet_length(secret_hash) = 32),
    range_first  bigint,
    range_prefix bigint          CONSTRAINT join_tokens_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL,
    used_by      uuid            CONSTRAINT join_tokens_used_by REFERENCES enrolments (node),
    public_key   bytea           CONSTRAINT join_tokens_public_key CHECK (octet_length(public_key) = 32),
    CONSTRAINT join_tokens_key PRIMARY KEY (id),
    CONSTRAINT join_tokens_range CHECK ((range_first IS NULL) = (range_prefix IS NULL)),
    CONSTRAINT join_tokens_used CHECK ((used_by IS NULL) = (public_key IS NULL))
);

-- Who does a piece of background work now.
CREATE TABLE leases (
    name       text   NOT NULL,
    holder     uuid   NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT leases_key PRIMARY KEY (name)
) WITH (fillfactor = 50);

-- Processes that answer for the control plane.
CREATE TABLE replicas (
    id         uuid   NOT NULL,
    agents_url text,
    seen_at    bigint NOT NULL,
    CONSTRAINT replicas_key PRIMARY KEY (id)
) WITH (fillfactor = 50);

-- Calls to nodes, on their way between two replicas. `call` is opaque here.
CREATE TABLE calls (
    ticket_hash bytea  NOT NULL CONSTRAINT calls_ticket_hash CHECK (octet_length(ticket_hash) = 32),
    node        uuid   NOT NULL,
    expires_at  bigint NOT NULL,
    call        text   NOT NULL,
    CONSTRAINT calls_key PRIMARY KEY (ticket_hash)
);

CREATE INDEX calls_of_node ON calls (node, expires_at);
CREATE INDEX calls_by_expiry ON calls (expires_at);

-- What all processes on this database must agree on. The first word stays.
CREATE TABLE installation (
    name  text NOT NULL,
    value text NOT NULL,
    CONSTRAINT installation_key PRIMARY KEY (name)
);

CREATE TRIGGER installation_is_settled BEFORE UPDATE ON installation
FOR EACH ROW EXECUTE FUNCTION refuse('installation_is_settled');
