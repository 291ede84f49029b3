//! `kill -9`, a torn WAL, a full disk: what was acknowledged is there, and the rest is whole or absent.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wherry_model::lifecycle::Ask;
use wherry_model::{Fact, NodeId, ProjectId, TenantId};
use wherry_store::{CreateOutcome, InstanceStore, MeterStore, Store, StoreError};
use wherry_store_contract::world::{asked, seen, started};
use wherry_store_contract::{World, invariants};

use crate::support::{SqliteSubject, database, open};

/// Tells the test binary, started again as a child, which folder to work in.
const FOLDER: &str = "WHERRY_TEST_FOLDER";

fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its binary"));
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The child's part: creates, starts and deletes for ever, each line on its output after the store has said yes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let world = World::continued(open(Path::new(&folder)).await).await;
    let node = world.store.nodes().await.unwrap()[0].id;
    let writers = (0..4).map(|writer| tokio::spawn(write_for_ever(world.clone(), node, writer)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

async fn write_for_ever(world: World, node: NodeId, writer: u32) {
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "said {line}").expect("the parent listens");
        out.flush().expect("the parent listens");
    };
    loop {
        let made = world.instance(&format!("w{writer}-{}", world.uuid().simple()), node, 1).await;
        say(format!("created {}", made.id));
        let running = world.applied(seen(&made, 2, started(1, 2))).await;
        say(format!("running {}", made.id));
        if made.id.as_uuid().as_u128() % 2 == 0 {
            let deleting = world.applied(asked(&running, Ask::Delete, 3)).await;
            world.applied(seen(&deleting, 4, Fact::Removed)).await;
            say(format!("deleted {}", made.id));
        }
    }
}

/// Kills the child without warning once it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Ten times on the same file: everything that was said is there, nothing is half there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_writing_it_keeps_what_it_said() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    world.node_for(100_000).await;
    let (folder, path) = subject.closed().await;
    let mut said: Vec<(String, String)> = Vec::new();
    // On a machine that does much else a round writes little: then there are more of them.
    let mut round = 0_u64;
    while round < 10 || (said.len() <= 100 && round < 60) {
        let mut writer = Killed(child("crashes::child_that_writes_until_it_is_killed", folder.path()).spawn().unwrap());
        let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
        let told = |line: String| {
            let (what, id) = line.strip_prefix("said ")?.split_once(' ')?;
            Some((what.to_owned(), id.to_owned()))
        };
        // It has written something in every round; when it dies is another moment in each.
        said.push(lines.by_ref().find_map(|line| told(line.unwrap())).expect("the child writes"));
        std::thread::sleep(Duration::from_millis(5 + round % 10 * 17));
        drop(writer);
        said.extend(lines.filter_map(|line| told(line.ok()?)));

        let store = open(folder.path()).await;
        let shared: std::sync::Arc<dyn Store> = store.clone();
        invariants::check(&shared).await.unwrap();
        for (what, id) in &said {
            let found = store.instance_of_any_tenant(id.parse().unwrap()).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{what} {id} was said and is not there"));
            match what.as_str() {
                "running" => assert!(found.started_at.is_some(), "{found:?}"),
                "deleted" => assert!(found.deleted_at.is_some(), "{found:?}"),
                _ => {}
            }
        }
        store.close().await;
        round += 1;
    }
    assert!(said.len() > 100, "only {} writes: this proves little", said.len());
    drop(path);
}

/// A WAL that was cut or garbled anywhere, as by a power cut with a lying disk: the database opens to the state after
/// some commit, the earlier the damage the earlier the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_wal_opens_to_a_prefix_of_the_commits() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(100).await;
    let mut made = Vec::new();
    for number in 0..12 {
        made.push(world.instance(&format!("web-{number}"), node, number).await.id);
    }
    let main = fs::read(subject.path()).unwrap();
    let wal = fs::read(subject.path().with_extension("db-wal")).unwrap();
    assert!(wal.len() > 100_000, "{} bytes of WAL", wal.len());
    let mut seen = 0;
    for step in 1..=40 {
        let position = wal.len() * step / 40;
        let garbled = {
            let mut wal = wal.clone();
            wal[position.saturating_sub(9)] ^= 0x40;
            wal
        };
        let mut found = Vec::new();
        for torn in [&wal[..position], &garbled[..]] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(database(folder.path()), &main).unwrap();
            fs::write(database(folder.path()).with_extension("db-wal"), torn).unwrap();
            let store = open(folder.path()).await;
            let shared: std::sync::Arc<dyn Store> = store.clone();
            invariants::check(&shared).await.unwrap();
            let kept = match store.instances_on(node).await.unwrap() {
                Some(found) => found.instances.iter().map(|instance| instance.id).collect::<Vec<_>>(),
                None => Vec::new(),
            };
            assert_eq!(kept, made[..kept.len()], "cut at {position}");
            found.push(kept.len());
            store.close().await;
        }
        assert!(found[0] >= seen, "{found:?} after {seen}");
        // One flipped byte loses the commit that it is in and what comes after, nothing before.
        assert!(found[1] <= found[0] && found[0] - found[1] <= 1, "{found:?} at {position}");
        seen = found[0];
    }
    assert_eq!(seen, made.len());
}

/// The child's part, on a file system of 6 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_on_a_small_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let store = open(folder).await;
    store.put_price_book(&wherry_model::PriceBook::default_book()).await.unwrap();
    let world =
        World::bare(store.clone(), TenantId::from_uuid(uuid::Uuid::nil()), ProjectId::from_uuid(uuid::Uuid::nil()));
    let world = world.with_tenant("acme").await;
    let node = world.node_for(100_000).await;
    let mut made = Vec::new();
    // Alone and side by side, until the disk is full, and then some more.
    let mut refused = 0;
    for round in 0..10_000 {
        let creates = (0..4).map(|number| world.create(&format!("web-{round}-{number}"), node, 1)).collect::<Vec<_>>();
        let outcomes = all_at_once(&store, &creates).await;
        for (create, outcome) in creates.iter().zip(outcomes) {
            match outcome {
                Ok(CreateOutcome::Created(_)) => made.push(create.change.after.id),
                Ok(other) => panic!("{other:?}"),
                Err(StoreError::DiskFull) => refused += 1,
                Err(other) => panic!("a full disk is told as {other:?}"),
            }
        }
        if refused > 40 {
            break;
        }
    }
    assert!(refused > 40, "the disk did not fill up after {} creates", made.len());
    // Reads go on, what was said is there.
    let shared: std::sync::Arc<dyn Store> = store.clone();
    invariants::check(&shared).await.unwrap();
    assert_eq!(usize::try_from(world.used(node).await).unwrap(), made.len());
    // Room again: it goes on by itself.
    fs::remove_file(&ballast).unwrap();
    made.push(world.instance("after", node, 2).await.id);
    invariants::check(&shared).await.unwrap();
    store.close().await;
    let store = open(folder).await;
    for id in &made {
        assert!(store.instance_of_any_tenant(*id).await.unwrap().is_some());
    }
    println!("held: {} creates, {refused} refusals", made.len());
}

async fn all_at_once(
    store: &std::sync::Arc<wherry_store_sqlite::SqliteStore>,
    creates: &[wherry_store::Placed],
) -> Vec<Result<CreateOutcome, StoreError>> {
    let tasks: Vec<_> = creates
        .iter()
        .cloned()
        .map(|placed| {
            let store = store.clone();
            tokio::spawn(async move { store.place_and_create(&placed).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no create panics"));
    }
    outcomes
}

/// In a mount namespace of its own, so that nothing is left behind however it ends.
#[test]
fn a_full_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let inner = child("crashes::child_on_a_small_disk", folder.path());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=6m,mode=0700 tmpfs \"$0\" && exec \"$@\"").arg(folder.path());
    command.arg(inner.get_program()).args(inner.get_args()).env(FOLDER, folder.path());
    let output = command.output().expect("`unshare` of util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "needs root for a tmpfs of its own, or the store failed:\n{text}");
    assert!(text.contains("held: "), "the child did not get to its end:\n{text}");
}
