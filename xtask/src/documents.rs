//! What the documents name is there: files in walkthroughs, and links between pages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::repository;

/// Walkthroughs name files below `services/` without saying so.
const WALKTHROUGHS: &str = "docs/ARCHITECTURE.md";

fn documents() -> Vec<PathBuf> {
    let root = repository::root();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("README.md"), root.join("migrations/README.md")]).collect()
}

/// What stands between two marks, on one line.
fn between<'a>(text: &'a str, begin: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.lines().flat_map(move |line| line.split(begin).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0)))
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for page in documents() {
        let text = fs::read_to_string(&page).unwrap();
        let folder = page.parent().unwrap_or(Path::new("/"));
        for target in between(&text, "](", ')').filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or(target);
            if !folder.join(file).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn every_file_of_a_walkthrough_exists() {
    let root = repository::root();
    let text = fs::read_to_string(root.join(WALKTHROUGHS)).unwrap();
    let is_path = |word: &&str| {
        word.contains("/src") && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(named.len() > 20, "the walkthroughs name few files: {named:?}");
    let gone: Vec<_> = named
        .iter()
        .map(|name| name.split("::").next().unwrap_or(name))
        .filter(|name| !root.join("services").join(name).exists() && !root.join(name).exists())
        .collect();
    assert!(gone.is_empty(), "{WALKTHROUGHS} names what is not there: {gone:?}");
}
