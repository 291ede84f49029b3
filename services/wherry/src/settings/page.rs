//! `docs/configuration.md` against the program: every key is on the page, and what the page calls a default is one.

use super::Settings;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// The file that the page shows.
fn shown() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").expect("the page shows a file");
    rest.split_once("\n```").expect("the file on the page ends").0
}

/// The same with everything in force that stands there commented out.
fn shown_whole() -> String {
    let is_key = |line: &str| {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        let is_name = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        line.starts_with('[') || (is_name && rest.starts_with("= "))
    };
    let lines = shown().lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if is_key(key) => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a table may hold, as the program says when it meets something else.
fn keys_of(table: &str) -> Vec<String> {
    let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let refused = toml::from_str::<Settings>(&format!("{header}zzz = 1\n")).unwrap_err().to_string();
    let (_, expected) = refused.split_once("expected").unwrap_or_else(|| panic!("{table}: {refused}"));
    let names = expected.split('`').skip(1).step_by(2).map(str::to_owned);
    names.collect()
}

#[test]
fn what_the_page_calls_defaults_are_the_defaults() {
    let read: Settings = toml::from_str(shown()).unwrap();
    assert_eq!(format!("{read:#?}"), format!("{:#?}", Settings::default()));
}

#[test]
fn every_key_is_on_the_page_in_its_table_and_every_example_is_understood() {
    let whole = shown_whole();
    toml::from_str::<Settings>(&whole).unwrap().check().unwrap();
    let page: toml::Table = toml::from_str(&whole).unwrap();
    let tables = keys_of("");
    assert!(tables.len() > 8, "{tables:?}");
    for table in tables {
        let Some(shown) = page.get(&table) else { panic!("the page shows no [{table}]") };
        if table == "prices" {
            // Its keys have no defaults, so parsing the example has proved that all are there.
            continue;
        }
        for key in keys_of(&table) {
            assert!(shown.get(&key).is_some(), "the page does not show {table}.{key}");
        }
    }
}
