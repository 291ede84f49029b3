-- The DNS name of an instance, where it is not its own name in its project: the label, and the id of the tenant or of the instance
-- itself among whose it is. What an old binary writes has neither, and means what it meant.
ALTER TABLE instances ADD COLUMN dns_scope BLOB CONSTRAINT instances_dns_scope CHECK (length(dns_scope) = 16);
ALTER TABLE instances ADD COLUMN dns_label TEXT;
