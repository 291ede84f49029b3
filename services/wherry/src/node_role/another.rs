//! What keeps this machine from becoming another node over what still runs on it.
//!
//! An agent looks only for what was made for its own node. What another node's agent made would run on as nobody's, unseen by
//! agent, fence and guard, while the control plane may start it elsewhere. So:
//! - nothing is joined that would make another node as long as the engine has a sandbox ([`require_left_nothing`]), because
//!   the token is used up by then;
//! - no agent begins while the engine has a sandbox of another node ([`require_none_of_another`]), however that came about;
//! - no agent works from the desired state and journal of another node: they are put aside ([`put_aside`]), or it would run again
//!   here what was ended.
//!
//! Rejected: to end by itself what another node's agent made. It may be the tenant's only copy, so it takes a person's word.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Context as _;
use wherry_agent_link::Identity;
use wherry_model::NodeId;
use wherry_node_agent::node_of;
use wherry_runtime::{ContainerRuntime, Labels};

use super::part::{firewall_of, leave_clean, start_engine};
use crate::base::Base;
use crate::data::{DataFolder, write_private};

/// Says whose the folder `node/` is. It stays when the rest is put aside, as does what is the machine's.
const OWNER: &str = "of";
const STAYS: [&str; 2] = [OWNER, "underlay.json"];

/// Fails when anything is left of the node that this machine is. Starts the engine to find out: containers run on without it.
pub(super) async fn require_left_nothing(base: &Base, known: &Identity) -> anyhow::Result<()> {
    let Base { data, settings, .. } = base;
    let range = known.range();
    let engine = start_engine(base, range).await;
    let engine =
        engine.with_context(|| format!("whether anything of node {} runs here cannot be found out", known.node()))?;
    require_nothing(engine.runtime().as_ref(), known.node(), data).await?;
    // The next one is of another range.
    leave_clean(base, range, &engine, &firewall_of(data, settings, range)?).await?;
    Ok(())
}

async fn require_nothing(runtime: &dyn ContainerRuntime, known: NodeId, data: &DataFolder) -> anyhow::Result<()> {
    let sandboxes = runtime.list_sandboxes(&Labels::new()).await;
    let left =
        sandboxes.with_context(|| format!("the container engine does not say what node {known} has left here"))?;
    anyhow::ensure!(
        left.is_empty(),
        "instances of node {known} are still on this machine ({}), and with this token it would become another node, which \
         knows nothing of them: join with the token that {known} joined with and it stays that node, or end them first with \
         `wherry --data {} down`",
        left.len(),
        data.root().display()
    );
    Ok(())
}

/// Fails when something is left that the agent of another node made.
pub(super) async fn require_none_of_another(
    runtime: &dyn ContainerRuntime,
    node: NodeId,
    data: &DataFolder,
) -> anyhow::Result<()> {
    let sandboxes = runtime.list_sandboxes(&Labels::new()).await;
    let sandboxes = sandboxes.context("the container engine does not say what is on this machine")?;
    let own = node.to_string();
    let others = || sandboxes.iter().filter_map(|sandbox| node_of(&sandbox.labels)).filter(|of| **of != own);
    let names: BTreeSet<&str> = others().collect();
    anyhow::ensure!(
        names.is_empty(),
        "this machine is node {node}, and instances of another node ({}) are still on it ({}), which nobody would look after: end \
         them with `wherry --data {} down`, then start again",
        names.into_iter().collect::<Vec<_>>().join(", "),
        others().count(),
        data.root().display()
    );
    Ok(())
}

/// Notes whose the folder `node/` is, unless that is noted. To be called while it is known, before the machine joins again.
pub(super) fn note_owner(data: &DataFolder, known: NodeId) -> anyhow::Result<()> {
    if owner(data)?.is_none() { write_owner(data, known) } else { Ok(()) }
}

/// Moves what another node kept in the folder `node/` out of it, and returns where to. Nothing may run here of that node.
pub(super) fn put_aside(data: &DataFolder, node: NodeId) -> anyhow::Result<Option<PathBuf>> {
    let name = match owner(data)? {
        Some(owner) if owner == node => return Ok(None),
        Some(other) => format!("node-of-{other}"),
        None => "node-of-another".to_owned(),
    };
    let aside = data.root().join(name);
    let mut moved = false;
    let entries = fs::read_dir(data.node()).with_context(|| format!("cannot read {}", data.node().display()))?;
    for entry in entries {
        let entry = entry?;
        if STAYS.iter().any(|stays| entry.file_name() == *stays) {
            continue;
        }
        let target = aside.join(entry.file_name());
        anyhow::ensure!(
            !target.exists(),
            "{} is there already, from the last time that this machine became another node: move {} away",
            target.display(),
            aside.display()
        );
        fs::create_dir_all(&aside).with_context(|| format!("cannot make the folder {}", aside.display()))?;
        fs::rename(entry.path(), &target).with_context(|| format!("cannot move {}", entry.path().display()))?;
        moved = true;
    }
    // Last, so whoever is killed before goes on.
    write_owner(data, node)?;
    Ok(moved.then_some(aside))
}

fn owner(data: &DataFolder) -> anyhow::Result<Option<NodeId>> {
    let path = data.node().join(OWNER);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let node = text.trim().parse();
            node.map(Some).with_context(|| format!("{} is damaged: it holds no node id", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_owner(data: &DataFolder, node: NodeId) -> anyhow::Result<()> {
    write_private(&data.node().join(OWNER), format!("{node}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wherry_runtime::fake::{FakeRuntime, Fault};
    use wherry_runtime::{RuntimeError, SandboxConfig};

    use super::*;
    use crate::system::SystemClock;

    fn node(byte: &str) -> NodeId {
        byte.repeat(16).parse().unwrap()
    }

    fn data() -> (tempfile::TempDir, DataFolder) {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        fs::create_dir(data.node()).unwrap();
        (scratch, data)
    }

    async fn run(runtime: &FakeRuntime, name: &str, of: Option<NodeId>) {
        let labels = of.map(|of| ("wherry/node".to_owned(), of.to_string())).into_iter().collect();
        let config = SandboxConfig { name: name.into(), uid: name.into(), labels, ..SandboxConfig::default() };
        runtime.run_sandbox(&config).await.unwrap();
    }

    #[tokio::test]
    async fn a_machine_with_sandboxes_becomes_no_other_node() {
        let (_scratch, data) = data();
        let runtime = FakeRuntime::new(Arc::new(SystemClock));
        require_nothing(&runtime, node("0a"), &data).await.unwrap();
        run(&runtime, "web", Some(node("0a"))).await;
        let refused = require_nothing(&runtime, node("0a"), &data).await.unwrap_err().to_string();
        assert!(refused.contains("down`") && refused.contains("joined with"), "{refused}");
        runtime.inject("ListPodSandbox", Fault::Fail(RuntimeError::Unavailable { message: "away".into() }), 1);
        require_nothing(&runtime, node("0a"), &data).await.unwrap_err();
    }

    #[tokio::test]
    async fn no_agent_begins_beside_what_is_of_another_node() {
        let (_scratch, data) = data();
        let runtime = FakeRuntime::new(Arc::new(SystemClock));
        run(&runtime, "own", Some(node("0a"))).await;
        run(&runtime, "of nobody", None).await;
        require_none_of_another(&runtime, node("0a"), &data).await.unwrap();
        run(&runtime, "foreign", Some(node("0b"))).await;
        let refused = require_none_of_another(&runtime, node("0a"), &data).await.unwrap_err().to_string();
        assert!(refused.contains(&node("0b").to_string()) && refused.contains("down`"), "{refused}");
    }

    #[test]
    fn another_nodes_desired_state_is_put_aside_whole_and_ones_own_stays() {
        let (_scratch, data) = data();
        let desired = data.node().join("desired.json");
        assert_eq!(put_aside(&data, node("0a")).unwrap(), None, "nothing was there");
        fs::write(&desired, "of a").unwrap();
        fs::create_dir(data.node().join("logs")).unwrap();
        fs::write(data.node().join("logs/1"), "line").unwrap();
        fs::write(data.node().join("underlay.json"), "the machine's").unwrap();
        note_owner(&data, node("0b")).unwrap();
        assert_eq!(put_aside(&data, node("0a")).unwrap(), None, "a note is not changed");
        assert_eq!(fs::read_to_string(&desired).unwrap(), "of a");

        let aside = put_aside(&data, node("0b")).unwrap().unwrap();
        assert!(!desired.exists() && !data.node().join("logs").exists());
        assert!(data.node().join("underlay.json").exists());
        assert_eq!(fs::read_to_string(aside.join("desired.json")).unwrap(), "of a");
        assert_eq!(fs::read_to_string(aside.join("logs/1")).unwrap(), "line");
        assert_eq!(put_aside(&data, node("0b")).unwrap(), None);
    }

    #[test]
    fn putting_aside_goes_on_where_it_was_killed_and_overwrites_nothing() {
        let (_scratch, data) = data();
        note_owner(&data, node("0a")).unwrap();
        let aside = data.root().join(format!("node-of-{}", node("0a")));
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("journal"), "moved before").unwrap();
        fs::write(data.node().join("desired.json"), "left").unwrap();
        assert_eq!(put_aside(&data, node("0b")).unwrap().as_deref(), Some(aside.as_path()));
        assert_eq!(fs::read_to_string(aside.join("journal")).unwrap(), "moved before");

        fs::write(data.node().join("of"), node("0a").to_string()).unwrap();
        fs::write(data.node().join("journal"), "new").unwrap();
        put_aside(&data, node("0b")).unwrap_err();
        assert_eq!(fs::read_to_string(aside.join("journal")).unwrap(), "moved before");
        assert_eq!(fs::read_to_string(data.node().join("journal")).unwrap(), "new");
    }

    #[test]
    fn a_desired_state_of_who_knows_whom_is_not_taken_for_ones_own() {
        let (_scratch, data) = data();
        fs::write(data.node().join("desired.json"), "of somebody").unwrap();
        let aside = put_aside(&data, node("0a")).unwrap().unwrap();
        assert!(aside.join("desired.json").exists() && !data.node().join("desired.json").exists());
    }
}
