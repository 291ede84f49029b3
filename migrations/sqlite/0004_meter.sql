-- Metered intervals and the prices they are rated with. Neither is ever deleted or rewritten.

CREATE TABLE price_books (
    position INTEGER CONSTRAINT price_books_position PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL,
    record   TEXT    NOT NULL CONSTRAINT price_books_record CHECK (json_valid(record)),
    CONSTRAINT price_books_key UNIQUE (id)
) STRICT;

CREATE TRIGGER price_books_are_immutable BEFORE UPDATE ON price_books
BEGIN
    SELECT RAISE(ABORT, 'price_books_are_immutable');
END;

CREATE TRIGGER price_books_are_kept BEFORE DELETE ON price_books
BEGIN
    SELECT RAISE(ABORT, 'price_books_are_kept');
END;

-- The book that new intervals are rated with. An operator may go back to an older one.
CREATE TABLE price_book_current (
    only INTEGER CONSTRAINT price_book_current_key PRIMARY KEY CONSTRAINT price_book_current_only CHECK (only = 1),
    id   TEXT    NOT NULL CONSTRAINT price_book_current_id REFERENCES price_books (id)
) STRICT;

-- [start_second, end_second); end_second is NULL while it is open. An interval that was opened and closed in the same
-- grid second covers nothing: it is kept (its edges happened) and overlaps nothing, like an empty range in PostgreSQL.
-- No foreign key to instances: an interval outlives its instance.
CREATE TABLE intervals (
    instance     BLOB    NOT NULL CONSTRAINT intervals_instance CHECK (length(instance) = 16),
    kind         TEXT    NOT NULL CONSTRAINT intervals_kind CHECK (kind IN ('run', 'pull')),
    number       INTEGER NOT NULL CONSTRAINT intervals_number CHECK (number >= 1),
    tenant       BLOB    NOT NULL,
    project      BLOB    NOT NULL,
    name         TEXT    NOT NULL,
    node         BLOB    NOT NULL CONSTRAINT intervals_node REFERENCES nodes (id),
    generation   INTEGER NOT NULL,
    cpu_millis   INTEGER NOT NULL CONSTRAINT intervals_cpu CHECK (cpu_millis >= 0),
    memory_mib   INTEGER NOT NULL CONSTRAINT intervals_memory CHECK (memory_mib >= 0),
    price_book   TEXT    NOT NULL CONSTRAINT intervals_price_book REFERENCES price_books (id),
    start_second INTEGER NOT NULL,
    end_second   INTEGER CONSTRAINT intervals_end CHECK (end_second >= start_second),
    late         INTEGER NOT NULL CONSTRAINT intervals_late CHECK (late IN (0, 1)),
    CONSTRAINT intervals_key PRIMARY KEY (instance, kind, number),
    CONSTRAINT intervals_project FOREIGN KEY (tenant, project) REFERENCES projects (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX intervals_one_open ON intervals (instance, kind) WHERE end_second IS NULL;
CREATE INDEX intervals_of_tenant ON intervals (tenant, instance, kind, number);
CREATE INDEX intervals_by_end ON intervals (tenant, end_second);

CREATE TRIGGER intervals_do_not_overlap_when_added BEFORE INSERT ON intervals
WHEN EXISTS (
    SELECT 1 FROM intervals AS other
    WHERE other.instance = NEW.instance AND other.kind = NEW.kind
      AND NEW.start_second < coalesce(other.end_second, 9223372036854775807)
      AND other.start_second < coalesce(NEW.end_second, 9223372036854775807)
      AND NEW.start_second < coalesce(NEW.end_second, 9223372036854775807)
      AND other.start_second < coalesce(other.end_second, 9223372036854775807)
)
BEGIN
    SELECT RAISE(ABORT, 'intervals_do_not_overlap');
END;

-- The one update that there is: an open interval is closed. Its other columns stay, so closing cannot make an overlap.
CREATE TRIGGER intervals_only_close BEFORE UPDATE ON intervals
WHEN OLD.end_second IS NOT NULL OR NEW.end_second IS NULL
  OR (OLD.instance, OLD.kind, OLD.number, OLD.tenant, OLD.project, OLD.name, OLD.node, OLD.generation,
      OLD.cpu_millis, OLD.memory_mib, OLD.price_book, OLD.start_second, OLD.late)
  <> (NEW.instance, NEW.kind, NEW.number, NEW.tenant, NEW.project, NEW.name, NEW.node, NEW.generation,
      NEW.cpu_millis, NEW.memory_mib, NEW.price_book, NEW.start_second, NEW.late)
BEGIN
    SELECT RAISE(ABORT, 'intervals_only_close');
END;

CREATE TRIGGER intervals_are_kept BEFORE DELETE ON intervals
BEGIN
    SELECT RAISE(ABORT, 'intervals_are_kept');
END;
