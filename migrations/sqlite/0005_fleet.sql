-- Many machines and many processes: nodes join, are fenced, emptied and removed; instances wait for a place; processes
-- find each other, share background work and hand calls to each other.

-- SQLite changes a CHECK only by making the table again. The rows that point at a node do so only loosely meanwhile: each
-- finds its node again before the commit, which fails otherwise. (`foreign_keys` cannot be switched in a transaction, and
-- without one a kill would leave half of this.)
PRAGMA defer_foreign_keys = ON;

CREATE TABLE nodes_before_0005 AS SELECT * FROM nodes;
DROP TABLE nodes;

CREATE TABLE nodes (
    id                  BLOB    NOT NULL CONSTRAINT nodes_id CHECK (length(id) = 16),
    name                TEXT    NOT NULL,
    architecture        TEXT    NOT NULL CONSTRAINT nodes_architecture CHECK (architecture IN ('amd64', 'arm64')),
    state               TEXT    NOT NULL
        CONSTRAINT nodes_state CHECK (state IN ('ready', 'cordoned', 'draining', 'silent')),
    capacity_cpu_millis INTEGER NOT NULL CONSTRAINT nodes_capacity_cpu CHECK (capacity_cpu_millis >= 0),
    capacity_memory_mib INTEGER NOT NULL CONSTRAINT nodes_capacity_memory CHECK (capacity_memory_mib >= 0),
    capacity_instances  INTEGER NOT NULL CONSTRAINT nodes_capacity_instances CHECK (capacity_instances >= 0),
    used_cpu_millis     INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_used_cpu CHECK (used_cpu_millis >= 0),
    used_memory_mib     INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_used_memory CHECK (used_memory_mib >= 0),
    used_instances      INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_used_instances CHECK (used_instances >= 0),
    boot                BLOB    NOT NULL CONSTRAINT nodes_boot CHECK (length(boot) = 16),
    range_first         INTEGER NOT NULL,
    range_prefix        INTEGER NOT NULL CONSTRAINT nodes_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    proof_at            INTEGER NOT NULL,
    desired_revision    INTEGER NOT NULL DEFAULT 0,
    -- The lease epoch: grows when the node is fenced.
    epoch               INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_epoch CHECK (epoch >= 0),
    -- Counts proofs of life.
    heartbeats          INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_heartbeats CHECK (heartbeats >= 0),
    -- Numbers of the latest doubt in the node's instances, and of the latest that was resolved.
    doubt               INTEGER NOT NULL DEFAULT 0,
    resolved_doubt      INTEGER NOT NULL DEFAULT 0,
    underlay            INTEGER,
    drain_asked_at      INTEGER,
    drain_grace_until   INTEGER,
    drain_then          TEXT             CONSTRAINT nodes_drain_then CHECK (drain_then IN ('move', 'stop')),
    -- A removed node keeps its row for the intervals that name it.
    removed_at          INTEGER,
    CONSTRAINT nodes_key PRIMARY KEY (id),
    CONSTRAINT nodes_doubts CHECK (resolved_doubt BETWEEN 0 AND doubt),
    CONSTRAINT nodes_drain CHECK (
        (drain_asked_at IS NOT NULL) = (state = 'draining')
        AND (drain_grace_until IS NOT NULL) = (state = 'draining')
        AND (drain_then IS NOT NULL) = (state = 'draining')
    ),
    CONSTRAINT nodes_removed_is_empty CHECK (removed_at IS NULL OR used_instances = 0)
) STRICT, WITHOUT ROWID;

INSERT INTO nodes (id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib, capacity_instances,
    used_cpu_millis, used_memory_mib, used_instances, boot, range_first, range_prefix, proof_at, desired_revision)
SELECT id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib, capacity_instances,
    used_cpu_millis, used_memory_mib, used_instances, boot, range_first, range_prefix, proof_at, desired_revision
FROM nodes_before_0005;
DROP TABLE nodes_before_0005;

-- The number of the latest write, from the counter `changes`, which every write takes. Readers follow it.
ALTER TABLE instances ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
UPDATE instances SET changed = rowid;
INSERT INTO counters (name, next) SELECT 'changes', coalesce(max(changed), 0) + 1 FROM instances WHERE true
ON CONFLICT (name) DO UPDATE SET next = max(next, excluded.next);

CREATE INDEX instances_by_change ON instances (changed);
CREATE INDEX instances_pending ON instances (changed) WHERE state = 'pending';

-- Machines that may be nodes. A removed one stays: its certificate may still be presented.
CREATE TABLE enrolments (
    node         BLOB    NOT NULL CONSTRAINT enrolments_node CHECK (length(node) = 16),
    name         TEXT    NOT NULL,
    range_first  INTEGER NOT NULL CONSTRAINT enrolments_range_first CHECK (range_first BETWEEN 0 AND 4294967295),
    range_prefix INTEGER NOT NULL CONSTRAINT enrolments_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    created_at   INTEGER NOT NULL,
    removed_at   INTEGER,
    CONSTRAINT enrolments_key PRIMARY KEY (node),
    CONSTRAINT enrolments_range CHECK (range_first % (1 << (32 - range_prefix)) = 0)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX enrolments_live_name ON enrolments (name) WHERE removed_at IS NULL;

CREATE TRIGGER enrolments_do_not_overlap BEFORE INSERT ON enrolments
WHEN EXISTS (
    SELECT 1 FROM enrolments AS other
    WHERE other.removed_at IS NULL
      AND NEW.range_first < other.range_first + (1 << (32 - other.range_prefix))
      AND other.range_first < NEW.range_first + (1 << (32 - NEW.range_prefix))
)
BEGIN
    SELECT RAISE(ABORT, 'enrolments_do_not_overlap');
END;

-- The one update that there is: it is removed.
CREATE TRIGGER enrolments_only_end BEFORE UPDATE ON enrolments
WHEN OLD.removed_at IS NOT NULL OR NEW.removed_at IS NULL
  OR (OLD.node, OLD.name, OLD.range_first, OLD.range_prefix, OLD.created_at)
  <> (NEW.node, NEW.name, NEW.range_first, NEW.range_prefix, NEW.created_at)
BEGIN
    SELECT RAISE(ABORT, 'enrolments_only_end');
END;

CREATE TABLE join_tokens (
    id           BLOB    NOT NULL CONSTRAINT join_tokens_id CHECK (length(id) = 16),
    secret_hash  BLOB    NOT NULL CONSTRAINT join_tokens_secret_hash CHECK (length(secret_hash) = 32),
    range_first  INTEGER,
    range_prefix INTEGER          CONSTRAINT join_tokens_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    used_by      BLOB             CONSTRAINT join_tokens_used_by REFERENCES enrolments (node),
    public_key   BLOB             CONSTRAINT join_tokens_public_key CHECK (length(public_key) = 32),
    CONSTRAINT join_tokens_key PRIMARY KEY (id),
    CONSTRAINT join_tokens_range CHECK ((range_first IS NULL) = (range_prefix IS NULL)),
    CONSTRAINT join_tokens_used CHECK ((used_by IS NULL) = (public_key IS NULL))
) STRICT, WITHOUT ROWID;

-- Who does a piece of background work now.
CREATE TABLE leases (
    name       TEXT    NOT NULL,
    holder     BLOB    NOT NULL CONSTRAINT leases_holder CHECK (length(holder) = 16),
    expires_at INTEGER NOT NULL,
    CONSTRAINT leases_key PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

-- Processes that answer for the control plane.
CREATE TABLE replicas (
    id         BLOB    NOT NULL CONSTRAINT replicas_id CHECK (length(id) = 16),
    agents_url TEXT,
    seen_at    INTEGER NOT NULL,
    CONSTRAINT replicas_key PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

-- Calls to nodes, on their way between two replicas. `call` is opaque here.
CREATE TABLE calls (
    ticket_hash BLOB    NOT NULL CONSTRAINT calls_ticket_hash CHECK (length(ticket_hash) = 32),
    node        BLOB    NOT NULL CONSTRAINT calls_node CHECK (length(node) = 16),
    expires_at  INTEGER NOT NULL,
    call        TEXT    NOT NULL,
    CONSTRAINT calls_key PRIMARY KEY (ticket_hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX calls_of_node ON calls (node, expires_at);
CREATE INDEX calls_by_expiry ON calls (expires_at);

-- What all processes on this database must agree on. The first word stays.
CREATE TABLE installation (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT installation_key PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER installation_is_settled BEFORE UPDATE ON installation
BEGIN
    SELECT RAISE(ABORT, 'installation_is_settled');
END;
