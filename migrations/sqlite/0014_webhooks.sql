-- Who is told of a project's events, up to where (`followed`), and what became of each telling. A delivery is open until it was
-- taken or given up; the first open one of a lane is made before the next.
CREATE TABLE webhooks (
    id       BLOB    NOT NULL CONSTRAINT webhooks_id CHECK (length(id) = 16),
    tenant   BLOB    NOT NULL,
    project  BLOB    NOT NULL,
    name     TEXT    NOT NULL,
    enabled  INTEGER NOT NULL CONSTRAINT webhooks_enabled CHECK (enabled IN (0, 1)),
    followed INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    record   TEXT    NOT NULL,
    CONSTRAINT webhooks_key PRIMARY KEY (id),
    CONSTRAINT webhooks_name_unique UNIQUE (tenant, project, name),
    CONSTRAINT webhooks_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id       BLOB    NOT NULL CONSTRAINT deliveries_id CHECK (length(id) = 16),
    webhook  BLOB    NOT NULL CONSTRAINT deliveries_webhook REFERENCES webhooks (id) ON DELETE CASCADE,
    lane     BLOB    NOT NULL CONSTRAINT deliveries_lane CHECK (length(lane) = 16),
    number   INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at  INTEGER,
    ended_at INTEGER,
    record   TEXT    NOT NULL,
    CONSTRAINT deliveries_key PRIMARY KEY (id),
    CONSTRAINT deliveries_open CHECK ((next_at IS NULL) = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_of_webhook ON deliveries (webhook, id);
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_in_lane ON deliveries (webhook, lane, number) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;
