//! What the documents name is there: files in walkthroughs, links between pages, and the tests of features.

use std::collections::BTreeSet;
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

/// Every Rust file of the crates.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
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

/// A row says `file::test`, or `module::*` for many; the crate may stand before it.
#[test]
fn every_test_of_the_features_exists() {
    let root = repository::root();
    let (mut files, mut modules, mut functions) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    sources(&root.join("services"), &mut files);
    for file in &files {
        modules.extend(file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        modules.extend(file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned));
        let text = fs::read_to_string(file).unwrap();
        let names = between(&text, "fn ", '(').map(|name| name.split('<').next().unwrap_or(name).to_owned());
        functions.extend(names);
        modules.extend(between(&text, "mod ", ' ').map(|name| name.trim_end_matches(';').to_owned()));
    }
    let text = fs::read_to_string(root.join("docs/features.md")).unwrap();
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| feature")).collect();
    assert!(rows.len() > 80, "{} rows", rows.len());
    let mut gone = Vec::new();
    for row in &rows {
        let tests = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        for named in tests.split('`').skip(1).step_by(2) {
            let name = named.split([':', ' ']).rfind(|part| !part.is_empty()).unwrap_or(named);
            let before = named.split([':', ' ']).filter(|part| !part.is_empty()).rev().nth(1);
            let is_there = match name {
                "*" => before.is_some_and(|module| modules.contains(module)),
                name => functions.contains(name) || modules.contains(name),
            };
            if !is_there {
                gone.push(format!("{named} in {}", row.chars().take(60).collect::<String>()));
            }
        }
    }
    assert!(gone.is_empty(), "features whose test is not there:\n{}", gone.join("\n"));
}
