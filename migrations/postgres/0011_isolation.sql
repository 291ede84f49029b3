-- The isolation classes that a machine offers, one bit for each, the shared one lowest: every machine has it, also one whose agent an
-- old binary has registered.
ALTER TABLE nodes ADD COLUMN isolation bigint NOT NULL DEFAULT 1 CONSTRAINT nodes_isolation CHECK (isolation % 2 = 1);

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
