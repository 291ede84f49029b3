-- The newest form of records that a replica keeps whole. In a table of its own, because replicas of the release before read `replicas`
-- with `SELECT *`; they have no row here, and what they take away of `replicas` goes here too.
CREATE TABLE replica_forms (
    replica uuid   NOT NULL CONSTRAINT replica_forms_replica REFERENCES replicas (id) ON DELETE CASCADE,
    form    bigint NOT NULL CONSTRAINT replica_forms_form CHECK (form >= 0),
    CONSTRAINT replica_forms_key PRIMARY KEY (replica)
) WITH (fillfactor = 50);
