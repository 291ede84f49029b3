-- Who is billed and isolated, and how a caller is recognised.

-- What a trigger refuses, under the name that the trigger gives it.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'integrity_constraint_violation', MESSAGE = TG_ARGV[0], CONSTRAINT = TG_ARGV[0], TABLE = TG_TABLE_NAME;
END
$$;

CREATE TABLE tenants (
    id         uuid   NOT NULL,
    name       text   NOT NULL COLLATE "C",
    created_at bigint NOT NULL,
    CONSTRAINT tenants_key PRIMARY KEY (id),
    CONSTRAINT tenants_name_unique UNIQUE (name)
);

CREATE TABLE projects (
    tenant     uuid   NOT NULL CONSTRAINT projects_tenant REFERENCES tenants (id),
    id         uuid   NOT NULL,
    name       text   NOT NULL COLLATE "C",
    created_at bigint NOT NULL,
    CONSTRAINT projects_key PRIMARY KEY (tenant, id),
    CONSTRAINT projects_name_unique UNIQUE (tenant, name)
);

-- Looked up by id alone: the id is what tells the tenant.
CREATE TABLE api_keys (
    id          uuid   NOT NULL,
    tenant      uuid   NOT NULL CONSTRAINT api_keys_tenant REFERENCES tenants (id),
    name        text   NOT NULL,
    secret_hash bytea  NOT NULL CONSTRAINT api_keys_secret_hash CHECK (octet_length(secret_hash) = 32),
    scopes      text   NOT NULL,
    created_at  bigint NOT NULL,
    expires_at  bigint,
    revoked_at  bigint,
    CONSTRAINT api_keys_key PRIMARY KEY (id)
);

CREATE INDEX api_keys_by_age ON api_keys (tenant, created_at, id);
