//! `docs/benchmarks.md`: the results that are kept, a section for each benchmark.

use std::fs;

use anyhow::{Context, Result};

use crate::repository;

const DOCUMENT: &str = "docs/benchmarks.md";
const HEAD: &str = "# Benchmarks\n\nWritten by `cargo xtask bench … --write`. Numbers of different machines or days do not compare; the ratios within\none run do.\n";

/// Puts `text` under the heading `title`, in place of what stood there.
pub(super) fn replace_section(title: &str, text: &str) -> Result<()> {
    let path = repository::root().join(DOCUMENT);
    let old = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    fs::write(&path, replaced(&old, title, text)).with_context(|| format!("cannot write {DOCUMENT}"))?;
    println!("kept in {DOCUMENT}");
    Ok(())
}

fn replaced(old: &str, title: &str, text: &str) -> String {
    let heading = format!("## {title}\n");
    let section = format!("{heading}\n{}\n", text.trim_end());
    let Some(begin) = old.find(&heading) else { return format!("{}\n\n{section}", old.trim_end()) };
    let after = begin + heading.len();
    let end = old[after..].find("\n## ").map_or(old.len(), |next| after + next + 1);
    let rest = &old[end..];
    let gap = if rest.is_empty() { "" } else { "\n" };
    format!("{}{section}{gap}{rest}", &old[..begin])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let first = replaced("# B\n", "Start", "1");
        assert_eq!(first, "# B\n\n## Start\n\n1\n");
        assert_eq!(replaced(&first, "Start", "2"), "# B\n\n## Start\n\n2\n");
        let two = replaced(&first, "Other", "x");
        assert_eq!(replaced(&two, "Start", "3"), "# B\n\n## Start\n\n3\n\n## Other\n\nx\n");
    }
}
