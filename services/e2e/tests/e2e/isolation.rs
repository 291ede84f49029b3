//! Isolation classes: which runtime keeps an instance apart, by the word of the runtimes themselves.

use std::path::Path;
use std::process::Command;

use wherry_api_types::Isolation;

use crate::support::{PROJECT, World};

const STAY: &str = "echo UP; sleep 999 & wait";

/// Whether the OCI runtime of that name knows a container of that id, at the place where containerd lets it keep its notes.
fn knows(program: &str, notes: &Path, id: &str) -> bool {
    let output = Command::new(program).arg("--root").arg(notes).args(["state", id]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success() && text.contains(id) && text.contains("running")
}

#[tokio::test]
async fn a_class_is_kept_by_the_runtime_that_the_operator_named_for_it() {
    let settings = "[containerd]\nruntime = \"crun\"\nisolation = { sandboxed = \"runc\" }\n";
    let world = World::start_with(settings).await;
    let plain = world.script("plain", STAY);
    let mut apart = world.script("apart", STAY);
    apart.isolation = Some(Isolation::Sandboxed);
    let (plain, apart) = tokio::join!(world.run(&plain), world.run(&apart));
    assert_eq!((plain.spec.isolation, apart.spec.isolation), (Some(Isolation::Shared), Some(Isolation::Sandboxed)));
    world.logged("apart", "UP").await;

    let state = world.wherry.run_folder().join("state");
    let (usual, other) = (state.join("oci/k8s.io"), state.join("oci-sandboxed/k8s.io"));
    let engine = world.wherry.engine();
    let of = |instance: &str| {
        let mut all = engine.iter().filter(|one| one.is_container() && one.instance() == Some(instance));
        all.next().unwrap_or_else(|| panic!("containerd has no container of {instance}: {engine:#?}")).id.clone()
    };
    let (plain_id, apart_id) = (of(&plain.id), of(&apart.id));
    assert!(knows("crun", &usual, &plain_id) && !knows("runc", &other, &plain_id), "plain is not kept by crun");
    assert!(knows("runc", &other, &apart_id) && !knows("crun", &usual, &apart_id), "apart is not kept by runc");

    // It is an instance like any other.
    world.wherry.cli(&["exec", "apart", "--", "sh", "-c", "exit 9"]).await.badly(9, &[]);
    let nodes = world.wherry.cli(&["admin", "nodes", "-o", "wide"]).await.well();
    assert!(nodes.lines().nth(1).is_some_and(|row| row.ends_with("shared,sandboxed")), "{nodes}");

    // What nobody offers is refused with what there is, and nothing is stored.
    let mut machine = world.script("machine", STAY);
    machine.isolation = Some(Isolation::VirtualMachine);
    let refused = world.client.create_instance(PROJECT, &machine, None).await.unwrap_err().to_string();
    assert!(refused.contains("isolation") && refused.contains("shared, sandboxed"), "{refused}");
    world.wherry.cli(&["inspect", "machine"]).await.badly(3, &["machine"]);
    let run = ["run", &world.tool, "--isolation", "virtual-machine"];
    world.wherry.cli(&run).await.badly(6, &["isolation", "shared, sandboxed"]);

    world.delete("apart").await;
    world.finish().await;
}
