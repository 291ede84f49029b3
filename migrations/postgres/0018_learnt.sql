-- What the service has learnt, replaced as a whole. Losing it costs the learning only.
CREATE TABLE learnt (
    name  text NOT NULL CONSTRAINT learnt_key PRIMARY KEY,
    value text NOT NULL
);
