-- The GPUs of a machine, all of one kind, and how many thousandths of each are in use, as a JSON array. What an old binary gives back of them is
-- given back when the machine is empty.
ALTER TABLE nodes
    ADD COLUMN gpu_model text,
    ADD COLUMN gpu_count bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_gpu_count CHECK (gpu_count BETWEEN 0 AND 16),
    ADD COLUMN gpu_used text NOT NULL DEFAULT '[]';

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
