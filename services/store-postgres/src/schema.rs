//! Which schemas this binary can work with (rules: migrations/README.md).

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;

/// What the database must become.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// What a database's schema is to this binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It can be worked with.
    Fits,
    /// Migrations are missing.
    Behind {
        /// The highest that is there; 0 for none.
        found: i64,
    },
    /// A later release has taken something away that this one still uses.
    TooNew {
        /// The migration that did.
        found: i64,
    },
    /// A migration is there whose content is not ours.
    Differs {
        /// Which one.
        version: i64,
    },
}

/// The highest migration of this binary.
pub(crate) fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// A number that changes with every migration's content.
pub(crate) fn fingerprint() -> u64 {
    MIGRATIONS
        .iter()
        .flat_map(|migration| migration.checksum.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Compares what is applied with what this binary knows.
pub(crate) async fn fit(connection: &mut PgConnection) -> Result<Fit, sqlx::Error> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !there {
        return Ok(Fit::Behind { found: 0 });
    }
    let rows = sqlx::query("SELECT version, description, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await?;
    let mut applied = BTreeMap::new();
    for row in rows {
        applied.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
    }
    Ok(compare(&applied))
}

fn compare(applied: &BTreeMap<i64, (String, Vec<u8>)>) -> Fit {
    let found = applied.keys().next_back().copied().unwrap_or(0);
    for migration in MIGRATIONS.iter() {
        match applied.get(&migration.version) {
            None => return Fit::Behind { found },
            Some((_, checksum)) if checksum[..] != migration.checksum[..] => {
                return Fit::Differs { version: migration.version };
            }
            Some(_) => {}
        }
    }
    let known = known();
    let gone = applied.range(known + 1..).find(|(_, (name, _))| needs(name).is_some_and(|needed| needed > known));
    gone.map_or(Fit::Fits, |(version, _)| Fit::TooNew { found: *version })
}

/// The oldest migration that a binary must know to work after the migration of this name: `contract 0007 …` says 7, any
/// other name says that every binary may go on.
fn needs(name: &str) -> Option<i64> {
    let mut words = name.split_whitespace();
    (words.next()? == "contract").then(|| words.next().and_then(|word| word.parse().ok()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(more: &[(i64, &str)]) -> BTreeMap<i64, (String, Vec<u8>)> {
        let ours = MIGRATIONS.iter().map(|m| (m.version, (m.description.to_string(), m.checksum.to_vec())));
        ours.chain(more.iter().map(|(version, name)| (*version, ((*name).to_owned(), vec![7])))).collect()
    }

    #[test]
    fn a_binary_works_on_its_schema_and_within_one_contract_step() {
        let known = known();
        assert_eq!(compare(&applied(&[])), Fit::Fits);
        let expanded = [(known + 1, "prices per region"), (known + 2, "more of it")];
        assert_eq!(compare(&applied(&expanded)), Fit::Fits);
        let contracted = format!("contract {known:04} drop what release n stopped to use");
        assert_eq!(compare(&applied(&[(known + 1, &contracted)])), Fit::Fits);
        let beyond = format!("contract {:04} drop what it still uses", known + 1);
        assert_eq!(compare(&applied(&[(known + 1, "expand"), (known + 2, &beyond)])), Fit::TooNew { found: known + 2 });
        assert_eq!(compare(&applied(&[(known + 1, "contract carelessly named")])), Fit::TooNew { found: known + 1 });
    }

    #[test]
    fn a_binary_refuses_what_is_behind_or_not_its_own() {
        let mut behind = applied(&[]);
        behind.pop_last();
        assert!(matches!(compare(&behind), Fit::Behind { .. }));
        let mut changed = applied(&[]);
        changed.entry(1).and_modify(|(_, checksum)| checksum.push(0));
        assert_eq!(compare(&changed), Fit::Differs { version: 1 });
    }
}
