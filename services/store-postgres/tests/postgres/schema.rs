//! The schema: what it forbids past all of the store's code, and that it says what SQLite's says.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqliteConnection};
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_store_contract::World;
use wherry_store_contract::world::{at, edges};

use crate::support::PostgresSubject;

/// A database with one closed interval [10, 20) and one open one [30, …), and a connection to it that may do anything.
async fn metered() -> (PostgresSubject, PgConnection) {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let kind = MeterKind::Run;
    let meter = vec![
        MeterEdge::Open { kind, at: at(10), late: false },
        MeterEdge::Close { kind, at: at(20) },
        MeterEdge::Open { kind, at: at(30), late: false },
    ];
    world.applied(edges(&made, meter)).await;
    let connection = subject.stranger().await;
    (subject, connection)
}

/// The constraint or trigger that refused the statement; empty when it was done.
async fn refusal(connection: &mut PgConnection, statement: String) -> String {
    match sqlx::query(AssertSqlSafe(statement)).execute(connection).await {
        Ok(_) => String::new(),
        Err(error) => error.as_database_error().and_then(|error| error.constraint()).unwrap_or("?").to_owned(),
    }
}

fn insert(number: u32, start: i64, end: Option<i64>) -> String {
    let zero = at(0).grid_second();
    let end = end.map_or("NULL".to_owned(), |end| (zero + end).to_string());
    format!(
        "INSERT INTO intervals SELECT instance, kind, {number}, tenant, project, name, node, generation, cpu_millis, \
         memory_mib, price_book, {}, {end}, late FROM intervals WHERE number = 1",
        zero + start
    )
}

#[tokio::test]
async fn intervals_never_overlap() {
    let (_subject, mut connection) = metered().await;
    for (start, end) in [(10, Some(20)), (15, Some(16)), (5, Some(11)), (19, Some(25)), (5, Some(25))] {
        let refused = refusal(&mut connection, insert(9, start, end)).await;
        assert_eq!(refused, "intervals_do_not_overlap", "[{start}, {end:?})");
    }
    for (start, end) in [(5, None), (25, None)] {
        let refused = refusal(&mut connection, insert(9, start, end)).await;
        assert!(
            ["intervals_do_not_overlap", "intervals_one_open"].contains(&&*refused),
            "[{start}, {end:?}) {refused:?}"
        );
    }
    // Neighbours touch, and an empty one is nowhere.
    for (number, start, end) in [(10, 20, Some(30)), (11, 5, Some(10)), (12, 15, Some(15)), (13, 40, Some(40))] {
        assert_eq!(refusal(&mut connection, insert(number, start, end)).await, "", "[{start}, {end:?})");
    }
}

#[tokio::test]
async fn what_happened_stays_as_it_is() {
    let (_subject, mut connection) = metered().await;
    for (statement, rule) in [
        ("UPDATE intervals SET end_second = end_second + 1 WHERE number = 1", "intervals_only_close"),
        ("UPDATE intervals SET end_second = NULL WHERE number = 1", "intervals_only_close"),
        ("UPDATE intervals SET cpu_millis = 1 WHERE number = 1", "intervals_only_close"),
        ("UPDATE intervals SET start_second = start_second - 1 WHERE number = 2", "intervals_only_close"),
        (
            "UPDATE intervals SET price_book = 'other', end_second = start_second + 1 WHERE number = 2",
            "intervals_only_close",
        ),
        ("DELETE FROM intervals WHERE number = 1", "intervals_are_kept"),
        ("UPDATE intervals SET end_second = start_second - 1 WHERE number = 2", "intervals_end"),
        ("UPDATE price_books SET record = '{}'", "price_books_are_immutable"),
        ("DELETE FROM price_books", "price_books_are_kept"),
        (
            "UPDATE instances SET holds_resources = true, deleted_at = 1, state = 'deleted'",
            "instances_deleted_holds_nothing",
        ),
    ] {
        assert_eq!(refusal(&mut connection, statement.to_owned()).await, rule, "{statement}");
    }
    let closing = "UPDATE intervals SET end_second = start_second WHERE number = 2".to_owned();
    assert_eq!(refusal(&mut connection, closing).await, "");
}

#[tokio::test]
async fn ranges_of_nodes_never_overlap() {
    let subject = PostgresSubject::new().await;
    let mut connection = subject.stranger().await;
    let enrol = |name: &str, first: i64, prefix: u8| {
        format!("INSERT INTO enrolments VALUES (gen_random_uuid(), '{name}', {first}, {prefix}, 1, NULL)")
    };
    let base = 10 << 24;
    assert_eq!(refusal(&mut connection, enrol("a", base, 24)).await, "");
    assert_eq!(refusal(&mut connection, enrol("b", base + 256, 24)).await, "");
    assert_eq!(refusal(&mut connection, enrol("c", base + 128, 25)).await, "enrolments_do_not_overlap");
    assert_eq!(refusal(&mut connection, enrol("c", 0, 0)).await, "enrolments_do_not_overlap");
    assert_eq!(refusal(&mut connection, enrol("a", base + 512, 24)).await, "enrolments_live_name");
    assert_eq!(refusal(&mut connection, enrol("d", base + 513, 24)).await, "enrolments_range");
    let gone = "UPDATE enrolments SET removed_at = 2 WHERE name = 'a'".to_owned();
    assert_eq!(refusal(&mut connection, gone.clone()).await, "");
    assert_eq!(refusal(&mut connection, gone).await, "enrolments_only_end");
    assert_eq!(refusal(&mut connection, enrol("a", base, 24)).await, "");
}

/// What SQLite's schema has and PostgreSQL's has not, by name.
const ONLY_ON_SQLITE: &[&str] = &[
    // Types that can hold nothing else: `uuid`, `boolean`, `json`.
    "api_keys_id",
    "audits_id",
    "audits_instance",
    "calls_node",
    "deferred_facts_node",
    "deliveries_id",
    "deliveries_lane",
    "enrolments_node",
    "instances_dns_scope",
    "instances_holds_resources",
    "instances_id",
    "instances_record",
    "instance_labels_live",
    "intervals_instance",
    "intervals_late",
    "join_tokens_id",
    "journal_acknowledgements_journal",
    "leases_holder",
    "nodes_boot",
    "nodes_id",
    "nodes_sole_tenant",
    "price_books_record",
    "projects_id",
    "replicas_id",
    "tenants_id",
    "webhooks_enabled",
    "webhooks_id",
    // Triggers there, exclusion constraints here.
    "intervals_do_not_overlap_when_added",
    "enrolments_do_not_overlap",
];
/// And the other way round.
const ONLY_ON_POSTGRES: &[&str] = &["intervals_do_not_overlap", "enrolments_do_not_overlap"];

/// One table: its columns with whether they may be NULL, and whatever has a name in it: constraints, indexes, triggers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    columns: BTreeMap<String, (String, bool)>,
    keys: BTreeSet<String>,
    indexes: BTreeSet<String>,
    foreign: BTreeSet<String>,
    names: BTreeSet<String>,
}

async fn of_sqlite() -> BTreeMap<String, Table> {
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
    sqlx::migrate!("../../migrations/sqlite").run_direct(None, &mut connection, false).await.unwrap();
    let mut tables = BTreeMap::new();
    let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
    for row in sqlx::query(sql).fetch_all(&mut connection).await.unwrap() {
        let (name, statement): (String, String) = (row.get(0), row.get(1));
        tables.insert(name.clone(), sqlite_table(&mut connection, &name, &statement).await);
    }
    tables
}

async fn sqlite_table(connection: &mut SqliteConnection, name: &str, statement: &str) -> Table {
    let mut table = Table::default();
    let pragma = |pragma: &str, of: &str| AssertSqlSafe(format!("SELECT * FROM pragma_{pragma}('{of}')"));
    let mut key = BTreeMap::new();
    for row in sqlx::query(pragma("table_info", name)).fetch_all(&mut *connection).await.unwrap() {
        let (column, kind): (String, String) = (row.get("name"), row.get("type"));
        let place: i64 = row.get("pk");
        if place > 0 {
            key.insert(place, column.clone());
        }
        // A key column is never NULL, said or not.
        let needed = row.get::<i64, _>("notnull") == 1 || place > 0;
        table.columns.insert(column, (kind, needed));
    }
    if !key.is_empty() {
        table.keys.insert(key.into_values().collect::<Vec<_>>().join(","));
    }
    let indexes = sqlx::query(pragma("index_list", name)).fetch_all(&mut *connection).await.unwrap();
    for index in indexes {
        let (index_name, origin): (String, String) = (index.get("name"), index.get("origin"));
        let rows = sqlx::query(pragma("index_info", &index_name)).fetch_all(&mut *connection).await.unwrap();
        // What is computed from columns has no name.
        let columns: Vec<String> = rows.iter().filter_map(|row| row.get("name")).collect();
        let columns = columns.join(",");
        match origin.as_str() {
            "u" => drop(table.keys.insert(columns)),
            "c" => {
                let unique = index.get::<i64, _>("unique") == 1;
                let partial = index.get::<i64, _>("partial") == 1;
                table.indexes.insert(described(&index_name, unique, partial, &columns));
            }
            _ => {}
        }
    }
    let mut foreign: BTreeMap<i64, (String, Vec<String>, String)> = BTreeMap::new();
    for row in sqlx::query(pragma("foreign_key_list", name)).fetch_all(&mut *connection).await.unwrap() {
        let one = foreign.entry(row.get("id")).or_insert((row.get("table"), Vec::new(), row.get("on_delete")));
        one.1.push(row.get("from"));
    }
    for (to, from, on_delete) in foreign.into_values() {
        table.foreign.insert(format!("({}) -> {to} on delete {}", from.join(","), on_delete.to_lowercase()));
    }
    let mut words = statement.split_whitespace();
    while let Some(word) = words.next() {
        if word == "CONSTRAINT" {
            table.names.extend(words.next().map(str::to_owned));
        }
    }
    let triggers = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?").bind(name);
    table.names.extend(triggers.fetch_all(connection).await.unwrap().iter().map(|row| row.get::<String, _>(0)));
    table
}

fn described(name: &str, unique: bool, partial: bool, columns: &str) -> String {
    format!("{name}{}{} ({columns})", if unique { " unique" } else { "" }, if partial { " partial" } else { "" })
}

async fn of_postgres(connection: &mut PgConnection) -> BTreeMap<String, Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let columns = sqlx::query(
        "SELECT c.relname::text AS name, a.attname::text AS column, format_type(a.atttypid, NULL) AS kind, a.attnotnull AS needed
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
           AND c.relname NOT LIKE '\\_sqlx%'",
    );
    for row in columns.fetch_all(&mut *connection).await.unwrap() {
        let kind = match row.get::<String, _>("kind").as_str() {
            "bigint" | "boolean" => "INTEGER",
            "text" | "json" => "TEXT",
            "uuid" | "bytea" => "BLOB",
            other => panic!("a column is {other}"),
        };
        let table = tables.entry(row.get("name")).or_default();
        table.columns.insert(row.get("column"), (kind.to_owned(), row.get("needed")));
    }
    let constraints = sqlx::query(
        "SELECT c.relname::text AS table, o.conname::text AS name, o.contype::text AS kind, f.relname::text AS target,
             o.confdeltype::text AS on_delete,
             ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute AS a ON a.attrelid = o.conrelid AND a.attnum = k.number ORDER BY k.place) AS columns
         FROM pg_constraint AS o JOIN pg_class AS c ON c.oid = o.conrelid LEFT JOIN pg_class AS f ON f.oid = o.confrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '\\_sqlx%' AND o.contype <> 'n'",
    );
    for row in constraints.fetch_all(&mut *connection).await.unwrap() {
        let table = tables.get_mut(&row.get::<String, _>("table")).unwrap();
        table.names.insert(row.get("name"));
        let columns = row.get::<Vec<String>, _>("columns").join(",");
        match row.get::<String, _>("kind").as_str() {
            "p" | "u" => drop(table.keys.insert(columns)),
            "f" => {
                let action = if row.get::<String, _>("on_delete") == "c" { "cascade" } else { "no action" };
                table.foreign.insert(format!("({columns}) -> {} on delete {action}", row.get::<String, _>("target")));
            }
            _ => {}
        }
    }
    let indexes = sqlx::query(
        "SELECT c.relname::text AS table, n.relname::text AS name, i.indisunique AS unique, i.indpred IS NOT NULL AS partial,
             ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place) AS columns
         FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_class AS n ON n.oid = i.indexrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '\\_sqlx%'
           AND NOT EXISTS (SELECT 1 FROM pg_constraint AS o WHERE o.conindid = i.indexrelid AND o.contype <> 'f')",
    );
    for row in indexes.fetch_all(&mut *connection).await.unwrap() {
        let table = tables.get_mut(&row.get::<String, _>("table")).unwrap();
        let columns = row.get::<Vec<String>, _>("columns").join(",");
        table.indexes.insert(described(&row.get::<String, _>("name"), row.get("unique"), row.get("partial"), &columns));
    }
    let triggers = sqlx::query(
        "SELECT c.relname::text AS table, t.tgname::text AS name FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
         WHERE NOT t.tgisinternal",
    );
    for row in triggers.fetch_all(connection).await.unwrap() {
        tables.get_mut(&row.get::<String, _>("table")).unwrap().names.insert(row.get("name"));
    }
    tables
}

#[tokio::test]
async fn both_schemas_say_the_same() {
    let subject = PostgresSubject::new().await;
    let mut connection = PgConnection::connect(&subject.url()).await.unwrap();
    let (mut sqlite, mut postgres) = (of_sqlite().await, of_postgres(&mut connection).await);
    let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
    for (tables, known, seen) in
        [(&mut sqlite, ONLY_ON_SQLITE, &mut left), (&mut postgres, ONLY_ON_POSTGRES, &mut right)]
    {
        for table in tables.values_mut() {
            seen.extend(known.iter().filter(|name| table.names.remove(**name)).copied());
        }
    }
    assert_eq!(
        sqlite.keys().collect::<Vec<_>>(),
        postgres.keys().collect::<Vec<_>>(),
        "tables of one database are missing in the other"
    );
    for (name, table) in &sqlite {
        assert_eq!(table, &postgres[name], "table {name}: SQLite left, PostgreSQL right");
    }
    // An explanation of a difference that is gone is out of date.
    assert_eq!(left, ONLY_ON_SQLITE.iter().copied().collect());
    assert_eq!(right, ONLY_ON_POSTGRES.iter().copied().collect());
}
