-- Facts that were acknowledged to their agents and wait until the record that they are about can be read. `number` is the order in which
-- those of an instance came: they come through one journal, whose row lets one report in after the other.
CREATE TABLE deferred_facts (
    number      bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    instance    uuid   NOT NULL CONSTRAINT deferred_facts_instance REFERENCES instances (id) ON DELETE CASCADE,
    node        uuid   NOT NULL,
    observation text   NOT NULL,
    CONSTRAINT deferred_facts_key PRIMARY KEY (number)
);

CREATE INDEX deferred_facts_of_instance ON deferred_facts (instance, number);
