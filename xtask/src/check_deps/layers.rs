//! The layers of DESIGN.md section 2 and what each crate must never see.

use super::graph::{Edge, EdgeKind, Graph};

/// Lowest first. An arrow leads to a lower layer; within a layer nobody knows anybody.
const LAYERS: &[(&str, &[&str])] = &[
    ("values", &["wherry-model"]),
    ("pure core", &["wherry-placement", "wherry-metering", "wherry-sealing"]),
    ("contracts", &["wherry-api-types", "wherry-agent-api", "wherry-store", "wherry-runtime"]),
    (
        ADAPTERS,
        &[
            "wherry-store-sqlite",
            "wherry-store-postgres",
            "wherry-runtime-cri",
            "wherry-dns-server",
            "wherry-agent-link",
            "wherry-webhook-sender",
        ],
    ),
    ("application", &["wherry-control"]),
    ("surfaces", &["wherry-api-server", "wherry-node-agent", "wherry-api-client"]),
    (BINARY, &["wherry"]),
    ("stand-ins", &["wherry-store-memory"]),
    (
        TEST_CRATES,
        &["wherry-demo-images", "wherry-pg-cluster", "wherry-store-contract", "wherry-testkit", "wherry-trace"],
    ),
    ("fleet lab", &["wherry-fleet-lab", "wherry-loadtest"]),
    ("end to end", &["wherry-e2e"]),
    ("automation", &["xtask"]),
];

const ADAPTERS: &str = "adapters";
const BINARY: &str = "binary";
const TEST_CRATES: &str = "test crates";

/// How far a ban reaches.
#[derive(Clone, Copy)]
enum Reach {
    /// The crate may not name it, though something that it uses may.
    Direct,
    /// Nothing that the crate links may link it.
    Linked,
}

/// (crate, what it never sees, how far, why)
const NEVER: &[(&str, &[&str], Reach, &str)] = &[
    ("wherry-model", &["tokio"], Reach::Linked, "the core is pure"),
    ("wherry-placement", &["tokio"], Reach::Linked, "the core is pure"),
    ("wherry-metering", &["tokio"], Reach::Linked, "the core is pure"),
    ("wherry-sealing", &["tokio"], Reach::Linked, "the core is pure"),
    ("wherry-store", &["sqlx"], Reach::Linked, "the contract serves more than one database"),
    (
        "wherry-control",
        &["axum", "sqlx", "tonic", "wherry-api-types"],
        Reach::Linked,
        "use cases know traits, not the wire and not the database",
    ),
    ("wherry-api-server", &["wherry-store"], Reach::Direct, "handlers call use cases, never the store"),
    (
        "wherry-api-server",
        &["wherry-store-sqlite", "wherry-store-postgres", "sqlx"],
        Reach::Linked,
        "handlers call use cases, never the store",
    ),
    (
        "wherry-node-agent",
        &["wherry-control", "wherry-store", "wherry-store-sqlite", "wherry-store-postgres"],
        Reach::Linked,
        "an agent learns its desired state over agent-api",
    ),
];

/// Every broken rule, as a sentence.
pub(super) fn violations(graph: &Graph) -> Vec<String> {
    let unknown = graph.members.iter().filter(|name| layer_of(name).is_none()).map(|name| {
        format!("{name} stands in no layer: add it to xtask/src/check_deps/layers.rs and to docs/ARCHITECTURE.md")
    });
    let against = graph.edges.iter().filter_map(against_layers);
    let seen = NEVER.iter().flat_map(|&(from, banned, reach, why)| {
        let visible = match reach {
            Reach::Direct => {
                let direct = graph.edges.iter().filter(|edge| edge.from == from && edge.kind == EdgeKind::Normal);
                direct.map(|edge| edge.to.as_str()).collect()
            }
            Reach::Linked => graph.linked_by(from),
        };
        let found = banned.iter().filter(move |name| visible.contains(*name));
        found.map(move |name| format!("{from} must never see {name}: {why}"))
    });
    unknown.chain(against).chain(seen).collect()
}

fn against_layers(edge: &Edge) -> Option<String> {
    let (from, from_name) = layer_of(&edge.from)?;
    let (to, to_name) = layer_of(&edge.to)?;
    let allowed = match edge.kind {
        EdgeKind::Normal => to < from && (to_name != ADAPTERS || sees_adapters(from)),
        EdgeKind::Dev => to <= from || to_name == TEST_CRATES,
    };
    (!allowed).then(|| format!("{edge}: {from_name} may not use {to_name}"))
}

/// Only the composition root and what tests it put adapters together.
fn sees_adapters(layer: usize) -> bool {
    LAYERS.iter().position(|(name, _)| *name == BINARY).is_some_and(|binary| layer >= binary)
}

fn layer_of(name: &str) -> Option<(usize, &'static str)> {
    LAYERS.iter().enumerate().find(|(_, (_, crates))| crates.contains(&name)).map(|(index, (layer, _))| (index, *layer))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn graph(edges: &[(&str, &str, EdgeKind)], outside: &[(&str, &str)]) -> Graph {
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let normal = edges.iter().filter(|edge| edge.2 == EdgeKind::Normal).map(|edge| (edge.0, edge.1));
        for (from, to) in normal.chain(outside.iter().copied()) {
            links.entry(from.to_owned()).or_default().insert(to.to_owned());
        }
        let edges: BTreeSet<Edge> =
            edges.iter().map(|&(from, to, kind)| Edge { from: from.to_owned(), to: to.to_owned(), kind }).collect();
        let members = edges.iter().flat_map(|edge| [edge.from.clone(), edge.to.clone()]).collect();
        Graph { members, edges, links }
    }

    #[test]
    fn arrows_down_are_fine() {
        let arrows = [
            ("wherry-control", "wherry-store", EdgeKind::Normal),
            ("wherry", "wherry-store-sqlite", EdgeKind::Normal),
            ("wherry-control", "wherry-store-sqlite", EdgeKind::Dev),
            ("wherry-store-sqlite", "wherry-store-contract", EdgeKind::Dev),
            ("wherry-api-server", "wherry-testkit", EdgeKind::Dev),
        ];
        assert_eq!(violations(&graph(&arrows, &[])), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_arrow_is_named() {
        let wrong = [
            ("wherry-store", "wherry-control", EdgeKind::Normal),
            ("wherry-control", "wherry-runtime-cri", EdgeKind::Normal),
            ("wherry-store", "wherry-runtime", EdgeKind::Normal),
            ("wherry-api-server", "wherry-testkit", EdgeKind::Normal),
            ("wherry-store-sqlite", "wherry-control", EdgeKind::Dev),
            ("wherry-model", "wherry-novelty", EdgeKind::Normal),
        ];
        for arrow in wrong {
            assert_eq!(violations(&graph(&[arrow], &[])).len(), 1, "{arrow:?}");
        }
    }

    #[test]
    fn bans_reach_through_other_crates() {
        let arrows = [("wherry-control", "wherry-agent-api", EdgeKind::Normal)];
        let found = violations(&graph(&arrows, &[("wherry-agent-api", "helper"), ("helper", "tonic")]));
        assert_eq!(
            found,
            ["wherry-control must never see tonic: use cases know traits, not the wire and not the database"]
        );
    }

    #[test]
    fn the_store_is_seen_by_the_api_server_through_use_cases_only() {
        let through = [
            ("wherry-api-server", "wherry-control", EdgeKind::Normal),
            ("wherry-control", "wherry-store", EdgeKind::Normal),
        ];
        assert!(violations(&graph(&through, &[])).is_empty());
        let direct = [("wherry-api-server", "wherry-store", EdgeKind::Normal)];
        assert_eq!(violations(&graph(&direct, &[])).len(), 1);
    }
}
