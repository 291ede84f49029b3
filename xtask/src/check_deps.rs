//! `cargo xtask check-deps`: the arrows between our crates.
//!
//! Two checks. Every arrow obeys the layers ([`layers`]), and the list of arrows equals the checked-in
//! `xtask/internal-deps.txt`, so that a new one is a line in review even where the layers allow it. Normal and
//! dev-dependencies are told apart: tests may reach further.

mod graph;
mod layers;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::repository;
use graph::Graph;

const LIST: &str = "xtask/internal-deps.txt";
const HEADER: &str =
    "# Which of our crates uses which. `cargo xtask check-deps --bless` writes this file; a new line needs a reason.\n";

/// What to do about a difference.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the list again instead of comparing it; the layers are checked all the same
    #[arg(long)]
    bless: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    check(arguments.bless)
}

/// Checks the layers, then compares or (with `bless`) writes the list.
pub(crate) fn check(bless: bool) -> Result<()> {
    let graph = Graph::load()?;
    let violations = layers::violations(&graph);
    if !violations.is_empty() {
        bail!("arrows against the layers (DESIGN.md section 2):\n  {}", violations.join("\n  "));
    }
    let found: BTreeSet<String> = graph.edges.iter().map(ToString::to_string).collect();
    let path = repository::root().join(LIST);
    if bless {
        let lines: Vec<&str> = found.iter().map(String::as_str).collect();
        return fs::write(&path, format!("{HEADER}{}\n", lines.join("\n")))
            .with_context(|| format!("cannot write {LIST}"));
    }
    let listed = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {LIST}: `cargo xtask check-deps --bless` writes it"))?;
    let differences = differences(&listed, &found);
    if !differences.is_empty() {
        bail!(
            "{LIST} does not say what is:\n  {}\nremove the arrow, or if it is wanted: `cargo xtask check-deps --bless`",
            differences.join("\n  ")
        );
    }
    println!("{} arrows between our crates, all as listed and in layer order", found.len());
    Ok(())
}

fn differences(listed: &str, found: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<String> =
        listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let added = found.difference(&listed).map(|line| format!("+ {line}"));
    let removed = listed.difference(found).map(|line| format!("- {line}"));
    added.chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_both_directions_and_skip_comments() {
        let found = BTreeSet::from(["a -> b".to_owned(), "a -> c".to_owned()]);
        assert_eq!(differences("# x\na -> b\nd -> e\n", &found), ["+ a -> c", "- d -> e"]);
        assert!(differences("# x\n\na -> b\na -> c\n", &found).is_empty());
    }
}
