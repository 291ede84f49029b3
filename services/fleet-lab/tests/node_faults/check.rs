//! The history check itself: it fails when it should. A check that holds whatever happens would prove nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use wherry_fleet_lab::{PROJECT, TAG};

use crate::lab::{Lab, SHORT, STEADY, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_history_check_fails_when_it_should() {
    let mut lab = Lab::start(1, SHORT).await;
    let plan = lab.history.plan(lab.script("steady", STEADY));
    let steady = lab.history.create(&lab.client, &plan).await.unwrap();
    lab.run_number(&steady.id, 1).await;
    lab.history.check(&mut lab.fleet).await.unwrap();

    // A row that holds more than its instances.
    lab.fleet.psql("UPDATE nodes SET used_cpu_millis = used_cpu_millis + 1").unwrap();
    complains(&mut lab, "the row of node-0").await;
    lab.fleet.psql("UPDATE nodes SET used_cpu_millis = used_cpu_millis - 1").unwrap();
    // An instance that nobody was told of.
    let unasked = lab.client.create_instance(PROJECT, &lab.script("unasked", STEADY), None).await.unwrap();
    complains(&mut lab, "nobody was told of").await;
    // A row that holds more than the machine has.
    lab.fleet.psql("UPDATE nodes SET capacity_cpu_millis = 49").unwrap();
    complains(&mut lab, "handed out").await;
    lab.fleet.psql("UPDATE nodes SET capacity_cpu_millis = 2000").unwrap();
    // One that is gone, and nobody asked for that.
    lab.client.delete_instance(PROJECT, &steady.id).await.unwrap();
    lab.client.delete_instance(PROJECT, &unasked.id).await.unwrap();
    eventually("it is gone", async || lab.history.runs(&steady.id)[0].missed).await;
    eventually("the check says so", async || {
        let said = lab.history.check(&mut lab.fleet).await.err()?;
        format!("{said:#}").contains("deleted, which nobody asked for").then_some(())
    })
    .await;

    // Two copies of one program at once, by the kernel's word alone.
    let root = format!("wherry-{}", lab.fleet.machines[0].short_id());
    let folder = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|mount| Path::new(mount).join(&root).join("intruder"));
    let folder = folder.iter().find(|folder| folder.parent().unwrap().is_dir()).unwrap();
    std::fs::create_dir(folder).unwrap();
    let script = format!("echo 0 > {}/cgroup.procs && exec sleep 300", folder.display());
    let mut intruders: Vec<_> = (0..2)
        .map(|_| {
            Command::new("unshare")
                .args(["--pid", "--fork", "--kill-child", "sh", "-c", &script])
                .env(TAG, &plan.key)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    lab.run_number(&steady.id, 3).await;
    eventually("the check sees both", async || {
        let said = lab.history.check(&mut lab.fleet).await.err()?;
        format!("{said:#}").contains("ran twice at once").then_some(())
    })
    .await;
    for intruder in &mut intruders {
        intruder.kill().unwrap();
        intruder.wait().unwrap();
    }
    eventually("its cgroup is gone", async || std::fs::remove_dir(folder).ok()).await;
    lab.fleet.end().await.unwrap();
}

async fn complains(lab: &mut Lab, word: &str) {
    let said = lab.history.check(&mut lab.fleet).await.expect_err("the check holds and should not");
    let said = format!("{said:#}");
    assert!(said.contains(word), "{said}");
}
