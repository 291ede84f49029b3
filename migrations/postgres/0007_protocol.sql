-- The version of the contract that a machine's agent speaks. One of version 1 knows no leases and ends nothing by itself, so nothing is
-- taken from it because it is silent. An old binary tells them apart nowhere, and means by every agent one that knows leases.
ALTER TABLE nodes ADD COLUMN protocol bigint NOT NULL DEFAULT 2 CONSTRAINT nodes_protocol CHECK (protocol >= 1);

-- The count of heartbeats at which an agent that knows leases took the place of one that does not: until one more is counted nobody
-- knows that it has learnt what to end.
ALTER TABLE nodes ADD COLUMN unfenced_heartbeats bigint;
