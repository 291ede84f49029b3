-- Who is told of a project's events, up to where (`followed`), and what became of each telling. A delivery is open until it was
-- taken or given up; the first open one of a lane is made before the next.
CREATE TABLE webhooks (
    id       uuid    NOT NULL,
    tenant   uuid    NOT NULL,
    project  uuid    NOT NULL,
    name     text    NOT NULL COLLATE "C",
    enabled  boolean NOT NULL,
    followed bigint  NOT NULL,
    revision bigint  NOT NULL,
    record   text    NOT NULL,
    CONSTRAINT webhooks_key PRIMARY KEY (id),
    CONSTRAINT webhooks_name_unique UNIQUE (tenant, project, name),
    CONSTRAINT webhooks_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
);

CREATE TABLE deliveries (
    id       uuid   NOT NULL,
    webhook  uuid   NOT NULL CONSTRAINT deliveries_webhook REFERENCES webhooks (id) ON DELETE CASCADE,
    lane     uuid   NOT NULL,
    number   bigint NOT NULL,
    attempts bigint NOT NULL,
    next_at  bigint,
    ended_at bigint,
    record   text   NOT NULL,
    CONSTRAINT deliveries_key PRIMARY KEY (id),
    CONSTRAINT deliveries_open CHECK ((next_at IS NULL) = (ended_at IS NOT NULL))
);

CREATE INDEX deliveries_of_webhook ON deliveries (webhook, id);
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_in_lane ON deliveries (webhook, lane, number) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;
