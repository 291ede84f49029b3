-- The isolation classes that a machine offers, one bit for each, the shared one lowest: every machine has it, also one whose agent an
-- old binary has registered.
ALTER TABLE nodes ADD COLUMN isolation INTEGER NOT NULL DEFAULT 1 CONSTRAINT nodes_isolation CHECK (isolation % 2 = 1);
