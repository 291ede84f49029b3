-- What else a machine offers and the row decides on: its zone, disk, whether one tenant has it alone, and how much more than it has the
-- operator hands out. What an old binary gives back of it is given back when the machine is empty.
ALTER TABLE nodes ADD COLUMN zone TEXT;
ALTER TABLE nodes ADD COLUMN disk_total_mib INTEGER CONSTRAINT nodes_disk_total CHECK (disk_total_mib >= 0);
ALTER TABLE nodes ADD COLUMN disk_used_mib INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_disk_used CHECK (disk_used_mib >= 0);
ALTER TABLE nodes ADD COLUMN sole_tenant BLOB CONSTRAINT nodes_sole_tenant CHECK (length(sole_tenant) = 16);
ALTER TABLE nodes ADD COLUMN overcommit_cpu_percent INTEGER NOT NULL DEFAULT 100
    CONSTRAINT nodes_overcommit_cpu CHECK (overcommit_cpu_percent BETWEEN 1 AND 1000);
ALTER TABLE nodes ADD COLUMN overcommit_memory_percent INTEGER NOT NULL DEFAULT 100
    CONSTRAINT nodes_overcommit_memory CHECK (overcommit_memory_percent BETWEEN 1 AND 1000);
ALTER TABLE nodes ADD COLUMN overcommit_disk_percent INTEGER NOT NULL DEFAULT 100
    CONSTRAINT nodes_overcommit_disk CHECK (overcommit_disk_percent BETWEEN 1 AND 1000);
