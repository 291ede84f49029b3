//! The dependency graph as `cargo metadata` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{self, cargo};

/// How one crate uses another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EdgeKind {
    /// In what is shipped, build scripts included.
    Normal,
    /// In tests, benches and examples only.
    Dev,
}

/// One of our crates uses another of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) kind: EdgeKind,
}

impl fmt::Display for Edge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.kind {
            EdgeKind::Normal => "",
            EdgeKind::Dev => " (dev)",
        };
        write!(formatter, "{} -> {}{suffix}", self.from, self.to)
    }
}

/// Our crates, the arrows between them, and everything (outside crates too) that each crate links.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) members: BTreeSet<String>,
    pub(super) edges: BTreeSet<Edge>,
    /// Package name → names of its normal and build dependencies. Two versions of one name count as one.
    pub(super) links: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Asks cargo.
    pub(super) fn load() -> Result<Self> {
        let text = command::capture(cargo().args(["metadata", "--format-version=1"]))?;
        let metadata: Metadata = serde_json::from_str(&text).context("cannot read what `cargo metadata` answered")?;
        Ok(metadata.into_graph())
    }

    /// Everything that `package` links, directly or not.
    pub(super) fn linked_by(&self, package: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package];
        while let Some(name) = open.pop() {
            for next in self.links.get(name).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    fn into_graph(self) -> Graph {
        let names: BTreeMap<&str, &str> =
            self.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let members: BTreeSet<String> = self
            .workspace_members
            .iter()
            .filter_map(|id| names.get(id.as_str()))
            .map(|&name| name.to_owned())
            .collect();
        let mut edges = BTreeSet::new();
        for package in self.packages.iter().filter(|package| members.contains(&package.name)) {
            for dependency in package.dependencies.iter().filter(|dependency| members.contains(&dependency.name)) {
                edges.insert(Edge {
                    from: package.name.clone(),
                    to: dependency.name.clone(),
                    kind: edge_kind(dependency.kind.as_deref()),
                });
            }
        }
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &self.resolve.nodes {
            let Some(&from) = names.get(node.id.as_str()) else { continue };
            let linked = node.deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| edge_kind(kind.kind.as_deref()) == EdgeKind::Normal)
            });
            let linked = linked.filter_map(|dependency| names.get(dependency.pkg.as_str()));
            links.entry(from.to_owned()).or_default().extend(linked.map(|&name| name.to_owned()));
        }
        Graph { members, edges, links }
    }
}

fn edge_kind(cargo: Option<&str>) -> EdgeKind {
    if cargo == Some("dev") { EdgeKind::Dev } else { EdgeKind::Normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{
        "packages": [
            {"id": "1", "name": "ours", "dependencies": [{"name": "base", "kind": null}, {"name": "kit", "kind": "dev"}]},
            {"id": "2", "name": "base", "dependencies": [{"name": "outside", "kind": null}]},
            {"id": "3", "name": "kit", "dependencies": []},
            {"id": "4", "name": "outside", "dependencies": []}
        ],
        "workspace_members": ["1", "2", "3"],
        "resolve": {"nodes": [
            {"id": "1", "deps": [{"pkg": "2", "dep_kinds": [{"kind": null}]}, {"pkg": "3", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "2", "deps": [{"pkg": "4", "dep_kinds": [{"kind": null}]}]},
            {"id": "3", "deps": []},
            {"id": "4", "deps": []}
        ]}
    }"#;

    #[test]
    fn edges_are_ours_and_links_follow_what_is_shipped() {
        let metadata: Metadata = serde_json::from_str(SAMPLE).unwrap();
        let graph = metadata.into_graph();
        let edges: Vec<String> = graph.edges.iter().map(ToString::to_string).collect();
        assert_eq!(edges, ["ours -> base", "ours -> kit (dev)"]);
        assert_eq!(graph.linked_by("ours"), BTreeSet::from(["base", "outside"]));
    }
}
