-- The count of heartbeats at which the node was fenced last: while it stands there, the node was fenced and not heard since. So
-- every replica knows, also one that has just started, which silent machines were dealt with and are no part of a mass loss.
ALTER TABLE nodes ADD COLUMN fenced_heartbeats bigint;
