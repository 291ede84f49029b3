-- The hidden fleet. A node's row is the referee of every placement: resources are taken by one UPDATE under a condition.
-- There is no CHECK (used <= capacity): a machine that comes back smaller keeps what it runs and takes nothing new.

-- Half of each page stays free: the row is updated by every create and proof of life, and finds room where it is.
CREATE TABLE nodes (
    id                  uuid   NOT NULL,
    name                text   NOT NULL,
    architecture        text   NOT NULL CONSTRAINT nodes_architecture CHECK (architecture IN ('amd64', 'arm64')),
    state               text   NOT NULL CONSTRAINT nodes_state CHECK (state IN ('ready', 'cordoned', 'silent')),
    capacity_cpu_millis bigint NOT NULL CONSTRAINT nodes_capacity_cpu CHECK (capacity_cpu_millis >= 0),
    capacity_memory_mib bigint NOT NULL CONSTRAINT nodes_capacity_memory CHECK (capacity_memory_mib >= 0),
    capacity_instances  bigint NOT NULL CONSTRAINT nodes_capacity_instances CHECK (capacity_instances >= 0),
    used_cpu_millis     bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_used_cpu CHECK (used_cpu_millis >= 0),
    used_memory_mib     bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_used_memory CHECK (used_memory_mib >= 0),
    used_instances      bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_used_instances CHECK (used_instances >= 0),
    boot                uuid   NOT NULL,
    range_first         bigint NOT NULL,
    range_prefix        bigint NOT NULL CONSTRAINT nodes_range_prefix CHECK (range_prefix BETWEEN 0 AND 32),
    proof_at            bigint NOT NULL,
    desired_revision    bigint NOT NULL DEFAULT 0,
    CONSTRAINT nodes_key PRIMARY KEY (id)
) WITH (fillfactor = 50);

-- How far each node's journal is stored. A journal that was lost begins another one.
CREATE TABLE journal_acknowledgements (
    node    uuid   NOT NULL CONSTRAINT journal_acknowledgements_node REFERENCES nodes (id),
    journal uuid   NOT NULL,
    through bigint NOT NULL,
    CONSTRAINT journal_acknowledgements_key PRIMARY KEY (node, journal)
) WITH (fillfactor = 50);

-- Numbers that only grow.
CREATE TABLE counters (
    name text   NOT NULL,
    next bigint NOT NULL,
    CONSTRAINT counters_key PRIMARY KEY (name)
) WITH (fillfactor = 50);
