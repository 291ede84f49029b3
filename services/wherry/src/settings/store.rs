//! `[store]`: where the facts are kept.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// Holds the password, in place of the URL and of a file.
const PASSWORD_VARIABLE: &str = "WHERRY_DATABASE_PASSWORD";
/// A replica needs a few, and the server has to have them for all replicas.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 2..=200;

/// `[store]`: a SQLite file in the data folder unless a URL says otherwise.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    /// `postgres://USER@HOST:PORT/DATABASE`, with or without a password.
    pub(crate) url: Option<String>,
    /// A file with the password and nothing else.
    pub(crate) password_file: Option<PathBuf>,
    /// Connections to PostgreSQL at most, one more for notifications.
    pub(crate) connections: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: None, password_file: None, connections: 16 }
    }
}

/// The URL may hold a password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_deref().map(without_password);
        f.debug_struct("Store").field("url", &url).field("password_file", &self.password_file).finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(CONNECTIONS.contains(&self.connections), "connections: from {CONNECTIONS:?}");
        let Some(url) = &self.url else {
            anyhow::ensure!(self.password_file.is_none(), "password_file: there is no url that it belongs to");
            return Ok(());
        };
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        anyhow::ensure!(
            matches!(scheme, "postgres" | "postgresql"),
            "url: write postgres://USER@HOST:PORT/DATABASE, or leave it out for SQLite in the data folder"
        );
        Ok(())
    }

    /// The URL with its password, wherever that is kept; none for SQLite.
    pub(crate) fn database_url(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.url else { return Ok(None) };
        let password = match (std::env::var(PASSWORD_VARIABLE).ok(), &self.password_file) {
            (Some(password), _) if !password.is_empty() => Some(password),
            (_, Some(file)) => Some(read_password(file)?),
            (_, None) => None,
        };
        Ok(Some(match password {
            Some(password) => with_password(url, &password)?,
            None => url.clone(),
        }))
    }
}

fn read_password(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("store.password_file: cannot read {}", file.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "store.password_file: {} is empty", file.display());
    Ok(password.to_owned())
}

/// Scheme, user and password, and what comes after them.
fn parts(url: &str) -> (&str, &str, Option<&str>, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, _)) = authority.rsplit_once('@') else { return (scheme, "", None, rest) };
    let behind = &rest[user.len() + 1..];
    debug_assert!(behind.ends_with(path));
    match user.split_once(':') {
        Some((name, password)) => (scheme, name, Some(password), behind),
        None => (scheme, user, None, behind),
    }
}

fn with_password(url: &str, password: &str) -> anyhow::Result<String> {
    let (scheme, user, old, rest) = parts(url);
    anyhow::ensure!(old.is_none(), "store.url: the password stands there and elsewhere too, leave one of them out");
    anyhow::ensure!(
        !user.is_empty(),
        "store.url: name the user that the password belongs to, postgres://USER@HOST/DATABASE"
    );
    let mut encoded = String::with_capacity(password.len());
    for byte in password.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Ok(format!("{scheme}://{user}:{encoded}@{rest}"))
}

/// For people: the URL, its password left out.
pub(crate) fn without_password(url: &str) -> String {
    match parts(url) {
        (scheme, user, Some(_), rest) => format!("{scheme}://{user}:…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_gets_into_the_url_and_never_out_of_it() {
        let url = "postgres://wherry@db.example:5432/wherry?sslmode=require";
        let whole = with_password(url, "a/b@c: %").unwrap();
        assert_eq!(whole, "postgres://wherry:a%2Fb%40c%3A%20%25@db.example:5432/wherry?sslmode=require");
        assert!(!without_password(&whole).contains("a%2Fb"));
        let store = Store { url: Some(whole.clone()), ..Store::default() };
        assert!(!format!("{store:?}").contains("a%2Fb"), "{store:?}");
        assert!(with_password(&whole, "other").is_err());
        assert!(with_password("postgres://db.example/wherry", "x").is_err());
        assert_eq!(without_password(url), url);
        assert_eq!(without_password("postgres://a:b@/w?host=/run@x"), "postgres://a:…@/w?host=/run@x");
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        let store =
            Store { url: Some("postgres://u@h/d".to_owned()), password_file: Some(file.clone()), ..Store::default() };
        assert_eq!(store.database_url().unwrap().unwrap(), "postgres://u:secret@h/d");
        std::fs::write(&file, "\n").unwrap();
        assert!(store.database_url().is_err());
        assert!(Store::default().database_url().unwrap().is_none());
    }

    #[test]
    fn another_database_is_refused() {
        let store = Store { url: Some("mysql://h/d".to_owned()), ..Store::default() };
        assert!(store.check().unwrap_err().to_string().contains("postgres://"));
    }
}
