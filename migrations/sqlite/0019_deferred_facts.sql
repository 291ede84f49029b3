-- Facts that were acknowledged to their agents and wait until the record that they are about can be read. `number` is the order in which
-- those of an instance came.
CREATE TABLE deferred_facts (
    number      INTEGER CONSTRAINT deferred_facts_key PRIMARY KEY AUTOINCREMENT,
    instance    BLOB    NOT NULL CONSTRAINT deferred_facts_instance REFERENCES instances (id) ON DELETE CASCADE,
    node        BLOB    NOT NULL CONSTRAINT deferred_facts_node CHECK (length(node) = 16),
    observation TEXT    NOT NULL
) STRICT;

CREATE INDEX deferred_facts_of_instance ON deferred_facts (instance, number);
