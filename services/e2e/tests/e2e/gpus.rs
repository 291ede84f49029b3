//! GPUs, of which this machine has none: other device files stand for them, and what a container sees and may open is what counts.

use std::path::{Path, PathBuf};
use std::process::Command;

use wherry_api_types::{Gpu, InstanceCreate};

use crate::support::{PROJECT, World};

const TELL: &str = "echo SEES $(cd /dev; echo gpu*) HAS $WHERRY_GPUS$WHERRY_GPU_SHARE_PERCENT \
                    READS $(head -c 3 /dev/gpu0 2>/dev/null | wc -c); sleep 999 & wait";

/// A character device with the numbers of one that every machine has.
fn device(folder: &Path, name: &str, minor: u32) -> PathBuf {
    let path = folder.join(name);
    let made = Command::new("mknod").arg(&path).args(["c", "1", &minor.to_string()]).status().unwrap();
    assert!(made.success(), "mknod {} failed: these tests run as root", path.display());
    path
}

fn with(create: InstanceCreate, gpu: Gpu) -> InstanceCreate {
    InstanceCreate { gpu: Some(gpu), ..create }
}

#[tokio::test]
async fn each_instance_sees_the_gpus_that_it_was_given_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    // /dev/zero, /dev/null and /dev/full.
    let [zero, null, full] =
        [("a", 5), ("b", 3), ("c", 7)].map(|(name, minor)| device(folder.path(), name, minor).display().to_string());
    let world = World::start_with(&format!(
        "[node.gpus]\nmodel = \"demo-gpu\"\ndevices = [\"{zero}:/dev/gpu0\", \"{null}:/dev/gpu1\"]\n\
         common = [\"{full}:/dev/gpuctl\"]\n"
    ))
    .await;
    let whole = |name: &str| with(world.script(name, TELL), Gpu { count: Some(1), ..Gpu::default() });
    let share = |name: &str, percent| {
        with(
            world.script(name, TELL),
            Gpu { share_percent: Some(percent), model: Some("demo-gpu".to_owned()), ..Gpu::default() },
        )
    };
    let refused = async |create: &InstanceCreate| {
        world.client.create_instance(PROJECT, create, None).await.unwrap_err().to_string()
    };

    let plain = world.run(&world.script("plain", TELL)).await;
    assert_eq!(plain.spec.gpu, None);
    assert!(world.logged("plain", "READS").await.contains("SEES gpu* HAS READS 0"), "it sees none");
    world.run(&whole("one")).await;
    assert!(world.logged("one", "READS").await.contains("SEES gpu0 gpuctl HAS 0 READS 3"), "and may read it");
    world.run(&whole("two")).await;
    assert!(world.logged("two", "READS").await.contains("SEES gpu1 gpuctl HAS 1 READS 0"));
    let why = refused(&whole("three")).await;
    assert!(why.contains("with too little of such GPUs left"), "{why}");

    let nodes = world.wherry.cli(&["admin", "nodes", "-o", "wide"]).await.well();
    assert!(nodes.contains("100%,100% demo-gpu"), "{nodes}");
    let fleet = world.wherry.cli(&["admin", "fleet"]).await.well();
    assert!(fleet.contains("2.00 of 2"), "{fleet}");

    // A restart leaves it with its own.
    world.wherry.cli(&["restart", "one"]).await.well();
    let look = ["exec", "one", "--", "sh", "-c", "cd /dev; echo gpu*"];
    crate::support::eventually("it sees it again", std::time::Duration::from_mins(1), async || {
        let said = world.wherry.cli(&look).await;
        (said.code == Some(0)).then(|| assert_eq!(said.out.trim(), "gpu0 gpuctl"))
    })
    .await;

    // Two halves share one, and the third has no room.
    world.delete("two").await;
    for name in ["half", "other-half"] {
        world.run(&share(name, 50)).await;
        assert!(world.logged(name, "READS").await.contains("SEES gpu1 gpuctl HAS 150"), "number 1, 50 percent");
    }
    let why = refused(&share("more", 10)).await;
    assert!(why.contains("with too little of such GPUs left"), "{why}");

    let run = ["run", &world.tool, "--gpu", "1", "--gpu-model", "other"];
    world.wherry.cli(&run).await.badly(6, &["gpu.model", "demo-gpu"]);
    world.delete("half").await;
    let run = ["run", &world.tool, "--name", "quarter", "--gpu", "25%", "--gpu-model", "demo-gpu", "--", "sleep", "99"];
    world.wherry.cli(&run).await.well();
    assert_eq!(world.get("quarter").await.spec.gpu.unwrap().share_percent, Some(25));
    world.finish().await;
}

#[tokio::test]
async fn where_there_is_no_gpu_it_is_said() {
    let world = World::start().await;
    let create = with(world.script("one", TELL), Gpu::default());
    let refused = world.client.create_instance(PROJECT, &create, None).await.unwrap_err().to_string();
    assert!(refused.contains("no machine here has a GPU"), "{refused}");
    world.finish().await;
}
