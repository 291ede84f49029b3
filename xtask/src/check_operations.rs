//! `cargo xtask check-operations`: what operators get besides the program is checked like the program.
//!
//! - every metric that an alert rule or the dashboard names is one that the program registers;
//! - Prometheus' own tool accepts the rules and runs their tests;
//! - systemd accepts the units, and the program accepts the command lines in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{on_path, run as run_command, succeeds};
use crate::repository;

/// Endings that Prometheus adds to the name of a histogram.
const SERIES_ENDINGS: [&str; 3] = ["_bucket", "_count", "_sum"];

pub(crate) fn run() -> Result<()> {
    metrics_are_registered()?;
    rules_hold()?;
    units_are_right()?;
    println!("alert rules, dashboard and units are right");
    Ok(())
}

fn packaging() -> PathBuf {
    repository::root().join("packaging")
}

fn metrics_are_registered() -> Result<()> {
    let mut registered = BTreeSet::new();
    for file in sources(&repository::root().join("services"), "rs")? {
        registered.extend(quoted_names(&std::fs::read_to_string(&file)?));
    }
    for file in ["prometheus/wherry-alerts.yaml", "grafana/wherry.json"] {
        let text = std::fs::read_to_string(packaging().join(file)).with_context(|| format!("cannot read {file}"))?;
        let named = metric_names(&text);
        ensure!(!named.is_empty(), "packaging/{file} names no metric at all");
        for name in named {
            ensure!(
                registered.contains(base_name(&name)),
                "packaging/{file} names the metric {name}, which the program does not register"
            );
        }
    }
    Ok(())
}

fn rules_hold() -> Result<()> {
    let folder = packaging().join("prometheus");
    run_command(Command::new("promtool").args(["check", "rules", "wherry-alerts.yaml"]).current_dir(&folder))?;
    run_command(Command::new("promtool").args(["test", "rules", "wherry-alerts.test.yaml"]).current_dir(&folder))
}

fn units_are_right() -> Result<()> {
    let program = repository::target().join("debug/wherry");
    ensure!(program.is_file(), "{} is not built: run `cargo build --package wherry` first", program.display());
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    for unit in sources(&packaging().join("systemd"), "service")? {
        let name = unit.file_name().context("a unit has a name")?;
        let text = std::fs::read_to_string(&unit)?;
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/wherry "));
        let line = line.with_context(|| format!("{}: ExecStart does not start /usr/bin/wherry", unit.display()))?;
        // Help is given only when everything before it is understood.
        let understood = succeeds(Command::new(&program).args(line.split_whitespace()).arg("--help"));
        ensure!(understood, "{}: the program does not understand `wherry {line}`", unit.display());
        let copy = scratch.path().join(name);
        std::fs::write(&copy, text.replace("/usr/bin/wherry", &program.display().to_string()))?;
        // A container image of Debian may lack systemd; then nothing there runs units either.
        if on_path("systemd-analyze") {
            run_command(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy))?;
        }
    }
    Ok(())
}

fn sources(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// String literals that could be names of metrics.
fn quoted_names(source: &str) -> BTreeSet<String> {
    let is_name = |text: &&str| is_metric(text) && text.contains('_');
    source.split('"').filter(is_name).map(str::to_owned).collect()
}

/// Names of our metrics in an expression, a rule file or a dashboard.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| is_metric(word))
        .map(str::to_owned)
        .collect()
}

fn is_metric(word: &str) -> bool {
    let ours = word.starts_with("wherry_") || word.starts_with("http_re");
    ours && word.chars().all(|character| character.is_ascii_lowercase() || character == '_')
}

fn base_name(series: &str) -> &str {
    SERIES_ENDINGS.iter().find_map(|ending| series.strip_suffix(ending)).unwrap_or(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_expressions_and_sources() {
        let named = metric_names(
            r#""expr": "sum by (le) (rate(http_request_duration_seconds_bucket[5m])) / wherry_fleet_used{a=\"b\"}""#,
        );
        let bases: Vec<&str> = named.iter().map(|name| base_name(name)).collect();
        assert_eq!(bases, ["http_request_duration_seconds", "wherry_fleet_used"]);
        let registered = quoted_names(r#"gauge("wherry_fleet_used", "What all nodes …", &["resource"])"#);
        assert_eq!(registered.into_iter().collect::<Vec<_>>(), ["wherry_fleet_used"]);
    }
}
