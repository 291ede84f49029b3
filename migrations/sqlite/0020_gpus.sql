-- The GPUs of a machine, all of one kind, and how many thousandths of each are in use, as a JSON array. What an old binary gives back of them is
-- given back when the machine is empty.
ALTER TABLE nodes ADD COLUMN gpu_model TEXT;
ALTER TABLE nodes ADD COLUMN gpu_count INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_gpu_count CHECK (gpu_count BETWEEN 0 AND 16);
ALTER TABLE nodes ADD COLUMN gpu_used TEXT NOT NULL DEFAULT '[]';
