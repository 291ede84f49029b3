-- Metered intervals and the prices they are rated with. Neither is ever deleted or rewritten.

-- Equality of ids in an exclusion constraint. A trusted extension of PostgreSQL's own: the owner of the database may add it.
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE price_books (
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    id       text   NOT NULL COLLATE "C",
    record   json   NOT NULL,
    CONSTRAINT price_books_position PRIMARY KEY (position),
    CONSTRAINT price_books_key UNIQUE (id)
);

CREATE TRIGGER price_books_are_immutable BEFORE UPDATE ON price_books
FOR EACH ROW EXECUTE FUNCTION refuse('price_books_are_immutable');

CREATE TRIGGER price_books_are_kept BEFORE DELETE ON price_books
FOR EACH ROW EXECUTE FUNCTION refuse('price_books_are_kept');

-- The book that new intervals are rated with. An operator may go back to an older one.
CREATE TABLE price_book_current (
    "only" bigint NOT NULL CONSTRAINT price_book_current_only CHECK ("only" = 1),
    id   text   NOT NULL COLLATE "C" CONSTRAINT price_book_current_id REFERENCES price_books (id),
    CONSTRAINT price_book_current_key PRIMARY KEY ("only")
);

-- [start_second, end_second); end_second is NULL while it is open. An interval that was opened and closed in the same
-- grid second covers nothing: it is kept (its edges happened) and overlaps nothing, like every empty range.
-- No foreign key to instances: an interval outlives its instance.
CREATE TABLE intervals (
    instance     uuid    NOT NULL,
    kind         text    NOT NULL COLLATE "C" CONSTRAINT intervals_kind CHECK (kind IN ('run', 'pull')),
    number       bigint  NOT NULL CONSTRAINT intervals_number CHECK (number >= 1),
    tenant       uuid    NOT NULL,
    project      uuid    NOT NULL,
    name         text    NOT NULL,
    node         uuid    NOT NULL CONSTRAINT intervals_node REFERENCES nodes (id),
    generation   bigint  NOT NULL,
    cpu_millis   bigint  NOT NULL CONSTRAINT intervals_cpu CHECK (cpu_millis >= 0),
    memory_mib   bigint  NOT NULL CONSTRAINT intervals_memory CHECK (memory_mib >= 0),
    price_book   text    NOT NULL COLLATE "C" CONSTRAINT intervals_price_book REFERENCES price_books (id),
    start_second bigint  NOT NULL,
    end_second   bigint           CONSTRAINT intervals_end CHECK (end_second >= start_second),
    late         boolean NOT NULL,
    CONSTRAINT intervals_key PRIMARY KEY (instance, kind, number),
    CONSTRAINT intervals_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id),
    CONSTRAINT intervals_do_not_overlap
        EXCLUDE USING gist (instance WITH =, kind WITH =, int8range(start_second, end_second) WITH &&)
);

CREATE UNIQUE INDEX intervals_one_open ON intervals (instance, kind) WHERE end_second IS NULL;
CREATE INDEX intervals_of_tenant ON intervals (tenant, instance, kind, number);
CREATE INDEX intervals_by_end ON intervals (tenant, end_second);

-- The one update that there is: an open interval is closed. Its other columns stay, so closing cannot make an overlap.
CREATE TRIGGER intervals_only_close BEFORE UPDATE ON intervals FOR EACH ROW
WHEN (
    OLD.end_second IS NOT NULL OR NEW.end_second IS NULL
    OR (OLD.instance, OLD.kind, OLD.number, OLD.tenant, OLD.project, OLD.name, OLD.node, OLD.generation,
        OLD.cpu_millis, OLD.memory_mib, OLD.price_book, OLD.start_second, OLD.late)
    <> (NEW.instance, NEW.kind, NEW.number, NEW.tenant, NEW.project, NEW.name, NEW.node, NEW.generation,
        NEW.cpu_millis, NEW.memory_mib, NEW.price_book, NEW.start_second, NEW.late)
)
EXECUTE FUNCTION refuse('intervals_only_close');

CREATE TRIGGER intervals_are_kept BEFORE DELETE ON intervals
FOR EACH ROW EXECUTE FUNCTION refuse('intervals_are_kept');
