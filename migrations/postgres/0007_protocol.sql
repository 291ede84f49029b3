-- The version of the contract that a machine's agent speaks. One of version 1 knows no leases and ends nothing by itself, so nothing is
-- taken from it because it is silent. An old binary tells them apart nowhere, and means by every agent one that knows leases.
ALTER TABLE nodes ADD COLUMN protocol bigint NOT NULL DEFAULT 2 CONSTRAINT nodes_protocol CHECK (protocol >= 1);

-- The count of heartbeats at which an agent that knows leases took the place of one that does not: until one more is counted nobody
-- knows that it has learnt what to end.
ALTER TABLE nodes ADD COLUMN unfenced_heartbeats bigint;

-- Replicas of the release before read `nodes` with `SELECT *`. What their sessions have prepared would fail from here on, at every use
-- ("cached plan must not change result type"), so these sessions end, here, while nobody else can look at `nodes`: the next ones prepare against
-- what is here then. For a caller that is a moment without the database. A role sees and ends the sessions of its own role only.
DO $$
DECLARE
    session record;
BEGIN
    FOR session IN
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'wherry' AND pid <> pg_backend_pid()
    LOOP
        BEGIN
            PERFORM pg_terminate_backend(session.pid);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'session % of a replica is not ended: restart the replicas of the release before now', session.pid;
        END;
    END LOOP;
END
$$;
