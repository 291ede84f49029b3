-- What else a machine offers and the row decides on: its zone, disk, whether one tenant has it alone, and how much more than it has the
-- operator hands out. What an old binary gives back of it is given back when the machine is empty.
ALTER TABLE nodes
    ADD COLUMN zone text,
    ADD COLUMN disk_total_mib bigint CONSTRAINT nodes_disk_total CHECK (disk_total_mib >= 0),
    ADD COLUMN disk_used_mib bigint NOT NULL DEFAULT 0 CONSTRAINT nodes_disk_used CHECK (disk_used_mib >= 0),
    ADD COLUMN sole_tenant uuid,
    ADD COLUMN overcommit_cpu_percent bigint NOT NULL DEFAULT 100
        CONSTRAINT nodes_overcommit_cpu CHECK (overcommit_cpu_percent BETWEEN 1 AND 1000),
    ADD COLUMN overcommit_memory_percent bigint NOT NULL DEFAULT 100
        CONSTRAINT nodes_overcommit_memory CHECK (overcommit_memory_percent BETWEEN 1 AND 1000),
    ADD COLUMN overcommit_disk_percent bigint NOT NULL DEFAULT 100
        CONSTRAINT nodes_overcommit_disk CHECK (overcommit_disk_percent BETWEEN 1 AND 1000);

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
