-- The hidden fleet. A node's row is the referee of every placement: resources are taken by one UPDATE under a condition.
-- There is no CHECK (used <= capacity): a machine that comes back smaller keeps what it runs and takes nothing new.

CREATE TABLE nodes (
    id                  BLOB    NOT NULL CONSTRAINT nodes_id CHECK (length(id) = 16),
    name                TEXT    NOT NULL,
    architecture        TEXT    NOT NULL CONSTRAINT nodes_architecture CHECK (architecture IN ('amd64', 'arm64')),
    state               TEXT    NOT NULL CONSTRAINT nodes_state CHECK (state IN ('ready', 'cordoned', 'silent')),
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
    CONSTRAINT nodes_key PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

-- How far each node's journal is stored. A journal that was lost begins another one.
CREATE TABLE journal_acknowledgements (
    node    BLOB    NOT NULL CONSTRAINT journal_acknowledgements_node REFERENCES nodes (id),
    journal BLOB    NOT NULL CONSTRAINT journal_acknowledgements_journal CHECK (length(journal) = 16),
    through INTEGER NOT NULL,
    CONSTRAINT journal_acknowledgements_key PRIMARY KEY (node, journal)
) STRICT, WITHOUT ROWID;

-- Numbers that only grow.
CREATE TABLE counters (
    name TEXT    NOT NULL,
    next INTEGER NOT NULL,
    CONSTRAINT counters_key PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;
