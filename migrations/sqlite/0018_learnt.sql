-- What the service has learnt, replaced as a whole. Losing it costs the learning only.
CREATE TABLE learnt (
    name  TEXT NOT NULL CONSTRAINT learnt_key PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
