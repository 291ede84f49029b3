-- Who is billed and isolated, and how a caller is recognised.

CREATE TABLE tenants (
    id         BLOB    NOT NULL CONSTRAINT tenants_id CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT tenants_key PRIMARY KEY (id),
    CONSTRAINT tenants_name_unique UNIQUE (name)
) STRICT, WITHOUT ROWID;

CREATE TABLE projects (
    tenant     BLOB    NOT NULL CONSTRAINT projects_tenant REFERENCES tenants (id),
    id         BLOB    NOT NULL CONSTRAINT projects_id CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT projects_key PRIMARY KEY (tenant, id),
    CONSTRAINT projects_name_unique UNIQUE (tenant, name)
) STRICT, WITHOUT ROWID;

-- Looked up by id alone: the id is what tells the tenant.
CREATE TABLE api_keys (
    id          BLOB    NOT NULL CONSTRAINT api_keys_id CHECK (length(id) = 16),
    tenant      BLOB    NOT NULL CONSTRAINT api_keys_tenant REFERENCES tenants (id),
    name        TEXT    NOT NULL,
    secret_hash BLOB    NOT NULL CONSTRAINT api_keys_secret_hash CHECK (length(secret_hash) = 32),
    scopes      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    CONSTRAINT api_keys_key PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_age ON api_keys (tenant, created_at, id);
