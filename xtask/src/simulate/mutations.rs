//! The mutation check: a simulation that finds nothing proves something only if it finds what is there.
//!
//! Each patch in `services/testkit/mutations` plants one bug of a kind that this system must never have. It is applied to a copy
//! of the sources, built, and played until a world shows a violation. Rejected: switches for bugs in the product (a
//! product does not carry its own faults), and decorators around its traits (they would test the decorator: most of these
//! bugs are in the middle of a transaction or of a pure function).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Found, build, play};
use crate::repository;

const PATCHES: &str = "services/testkit/mutations";

/// Worlds that are played between two looks.
const STRIDE: u64 = 100;

/// Plants each bug and plays up to `most` worlds, from the first one on, until some find it.
pub(super) fn run(most: u64, jobs: u64) -> Result<()> {
    let (mut unfound, mut told) = (Vec::new(), Vec::new());
    for patch in patches()? {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("\n=== {name}");
        let player = build(Some(&patch))?;
        let finding = find(&player, most, jobs)?;
        let sentence = match finding.found.first() {
            Some(first) => {
                format!("{name}: in {} of {} worlds, first {}", finding.found.len(), finding.played, first.sentence)
            }
            None => format!("{name}: NOT FOUND in {} worlds", finding.played),
        };
        if finding.found.is_empty() {
            unfound.push(name);
        }
        told.push(sentence);
    }
    println!("\n{}", told.join("\n"));
    ensure!(unfound.is_empty(), "the simulation does not find {}", unfound.join(", "));
    Ok(())
}

/// What the worlds with one bug have shown.
struct Finding {
    played: u64,
    found: Vec<Found>,
}

fn find(player: &Path, most: u64, jobs: u64) -> Result<Finding> {
    let mut finding = Finding { played: 0, found: Vec::new() };
    while finding.played < most && finding.found.is_empty() {
        let count = STRIDE.min(most - finding.played);
        finding.found = play(player, finding.played, count, jobs)?;
        finding.played += count;
    }
    Ok(finding)
}

fn patches() -> Result<Vec<PathBuf>> {
    let folder = repository::root().join(PATCHES);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut patches = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    if patches.is_empty() {
        bail!("there are no patches in {PATCHES}");
    }
    Ok(patches)
}
