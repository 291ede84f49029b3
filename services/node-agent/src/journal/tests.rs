//! What the journal promises across crashes, full disks and acknowledgements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wherry_model::{ContainerExit, ContainerName, EndReason, Timestamp};

use super::*;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_000)
    }
}

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Different ids in one process although the clock stands still.
struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

fn open(folder: &Path) -> (Arc<Journal>, JournalFolder) {
    let (journal, disk) = Journal::open(folder, Arc::new(Still), &Still, 1_000_000).unwrap();
    (Arc::new(journal), disk)
}

fn instance(number: u128) -> InstanceId {
    format!("{number:032x}").parse().unwrap()
}

fn failed(message: &str) -> Fact {
    Fact::Failed { reason: EndReason::StartFailed, message: message.to_owned() }
}

/// Runs the writer until everything said is on disk, then stops it and closes the file.
async fn write_and_close(journal: &Arc<Journal>, disk: JournalFolder) {
    let stopping = CancellationToken::new();
    let task = tokio::spawn(journal.clone().write_out(disk, stopping.clone()));
    journal.settled().await;
    stopping.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn what_was_said_is_there_after_a_restart_and_keeps_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    assert_eq!(journal.say(instance(1), Generation::FIRST, failed("a")), 1);
    assert!(journal.unacknowledged(9).is_empty(), "nothing is sent before it is on disk");
    journal.say(instance(2), Generation::FIRST, Fact::SandboxStopped);
    write_and_close(&journal, disk).await;
    let (again, _disk) = open(folder.path());
    assert_eq!(again.id(), journal.id());
    assert_eq!(again.unacknowledged(9).iter().map(|fact| fact.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(again.memory(instance(1)).unwrap().failed);
    assert_eq!(again.say(instance(1), Generation::FIRST, Fact::Removed), 3);
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    journal.say(instance(1), Generation::FIRST, failed("first"));
    journal.say(instance(1), Generation::FIRST, failed("second"));
    write_and_close(&journal, disk).await;
    let path = folder.path().join("journal.log");
    let whole = std::fs::read(&path).unwrap();
    let first_bytes = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in first_bytes..whole.len() {
        let mut torn = whole[..cut].to_vec();
        if cut % 3 == 0 {
            torn.extend_from_slice(b"\0\0garbage\n");
        }
        std::fs::write(&path, &torn).unwrap();
        let (again, disk) = open(folder.path());
        assert_eq!(again.unacknowledged(9).len(), 1, "cut at {cut}");
        assert_eq!(again.say(instance(1), Generation::FIRST, failed("other")), 2);
        write_and_close(&again, disk).await;
        let (third, _disk) = open(folder.path());
        assert_eq!(third.unacknowledged(9).len(), 2, "cut at {cut}");
    }
}

#[tokio::test]
async fn an_emptied_log_continues_its_numbers_and_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    let stopping = CancellationToken::new();
    let task = tokio::spawn(journal.clone().write_out(disk, stopping.clone()));
    for number in 0..500_u128 {
        journal.say(instance(number), Generation::FIRST, failed(&"x".repeat(200)));
    }
    journal.settled().await;
    assert!(journal.unacknowledged(usize::MAX).len() == 500);
    journal.acknowledged(490);
    stopping.cancel();
    task.await.unwrap();
    assert_eq!(std::fs::metadata(folder.path().join("journal.log")).unwrap().len(), 0);
    let (again, _disk) = open(folder.path());
    assert_eq!((again.id(), again.pending()), (journal.id(), 10));
    assert_eq!(again.unacknowledged(1)[0].seq, 491);
    assert!(again.memory(instance(499)).unwrap().failed);
    assert_eq!(again.say(instance(1), Generation::FIRST, Fact::Removed), 501);
}

#[tokio::test]
async fn a_log_that_does_not_continue_its_snapshot_begins_a_new_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    journal.say(instance(1), Generation::FIRST, failed("a"));
    write_and_close(&journal, disk).await;
    std::fs::remove_file(folder.path().join("said.json")).unwrap();
    let entropy = Counting(100.into());
    let (other, _disk) = Journal::open(folder.path(), Arc::new(Still), &entropy, 1_000).unwrap();
    assert_ne!(other.id(), journal.id());
    assert_eq!((other.pending(), other.memory(instance(1))), (0, None));
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, _disk) = open(folder.path());
    let Err(refused) = Journal::open(folder.path(), Arc::new(Still), &Still, 1_000) else { panic!("opened twice") };
    assert!(refused.to_string().contains("another agent"), "{refused}");
}

/// A disk that tears every write in the middle while it is full.
struct FullDisk {
    real: JournalFolder,
    full: Arc<AtomicBool>,
}

impl JournalDisk for FullDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            self.real.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.real.write_at(offset, bytes)
    }

    fn replace_snapshot(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.real.replace_snapshot(bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_blocks_says_why_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, real) = open(folder.path());
    let full = Arc::new(AtomicBool::new(true));
    let stopping = CancellationToken::new();
    let disk = FullDisk { real, full: full.clone() };
    let task = tokio::spawn(journal.clone().write_out(disk, stopping.clone()));
    journal.say(instance(1), Generation::FIRST, failed("a"));
    assert!(tokio::time::timeout(Duration::from_secs(5), journal.settled()).await.is_err());
    assert!(journal.check().unwrap_err().contains("free space"));
    assert!(journal.unacknowledged(9).is_empty());
    let exit = ContainerExit {
        finished_at: Timestamp::from_seconds(7),
        exit_code: 0,
        signal: None,
        reason: EndReason::Exited,
        message: None,
    };
    let (container, started_at) = (ContainerName::new("main").unwrap(), Timestamp::from_seconds(5));
    journal.say(
        instance(2),
        Generation::FIRST,
        Fact::ContainerStarted { container: container.clone(), run: 1, started_at },
    );
    assert_eq!(journal.untold().running.len(), 1, "what the disk does not take counts too");
    journal.say(
        instance(2),
        Generation::FIRST,
        Fact::ContainerExited { container, run: 1, started_at, exit, restart_at: None },
    );
    assert_eq!(journal.untold(), Untold { earliest_end: Some(Timestamp::from_seconds(7)), running: vec![] });
    journal.say(instance(1), Generation::FIRST, failed("b"));
    full.store(false, Ordering::SeqCst);
    journal.settled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(journal.check(), Ok(()));
    stopping.cancel();
    task.await.unwrap();
    let (again, _disk) = open(folder.path());
    assert_eq!(again.unacknowledged(9).len(), 4);
}

/// What the release before reads of `said.json`, as it stood in its source; it ignores what else is there.
mod former {
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what counts is that all of it is there")]
    pub(super) struct Snapshot {
        journal: wherry_model::JournalId,
        pub(super) through: u64,
        pub(super) facts: Vec<serde_json::Value>,
        pub(super) instances: BTreeMap<wherry_model::InstanceId, Memory>,
        aside: BTreeSet<wherry_model::InstanceId>,
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what counts is that all of it is there")]
    pub(super) struct Memory {
        generation: wherry_model::Generation,
        pub(super) containers: BTreeMap<String, Container>,
        address: Option<std::net::Ipv4Addr>,
        failed: bool,
        sandbox_stopped: bool,
        removed: bool,
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what counts is that all of it is there")]
    pub(super) struct Container {
        digest: Option<wherry_model::Digest>,
        pull_failures: u32,
        pull_retry_at: Option<wherry_model::Timestamp>,
        pub(super) run: u32,
        state: super::RunMemory,
        restarts_in_a_row: u32,
    }
}

/// The log and the snapshot, as the release before reads them.
fn left_behind(folder: &Path) -> (u64, former::Snapshot) {
    let log = std::fs::metadata(folder.join("journal.log")).unwrap().len();
    (log, serde_json::from_slice(&std::fs::read(folder.join("said.json")).unwrap()).unwrap())
}

/// A run that became ready, which is nothing that the release before knows.
fn say_ready(journal: &Journal) {
    let container = ContainerName::new("main").unwrap();
    let started_at = Timestamp::from_seconds(5);
    let started = Fact::ContainerStarted { container: container.clone(), run: 1, started_at };
    journal.say(instance(1), Generation::FIRST, started);
    journal.say(instance(1), Generation::FIRST, Fact::Readiness { container, run: 1, ready: true, message: None });
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_not_left_to_the_release_before() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    let stopping = CancellationToken::new();
    let task = tokio::spawn(journal.clone().write_out(disk, stopping.clone()));
    say_ready(&journal);
    journal.settled().await;
    journal.acknowledged(1);
    tokio::time::sleep(writer::QUIET * 2).await;
    assert!(left_behind(folder.path()).0 > 0, "one of them was not taken");
    journal.acknowledged(2);
    let mut waited = 0;
    while left_behind(folder.path()).0 > 0 {
        waited += 1;
        assert!(waited < 100, "the log stays");
        tokio::time::sleep(writer::QUIET).await;
    }
    let (_, snapshot) = left_behind(folder.path());
    assert_eq!((snapshot.through, snapshot.facts.len()), (2, 0));
    assert_eq!(snapshot.instances[&instance(1)].containers["main"].run, 1);
    // Carried over by a snapshot that is written for another reason, and taken then.
    say_ready(&journal);
    journal.set_aside(instance(9)).await;
    assert_eq!(left_behind(folder.path()).1.facts.len(), 2);
    journal.acknowledged(4);
    stopping.cancel();
    task.await.unwrap();
    let (log, snapshot) = left_behind(folder.path());
    assert_eq!((log, snapshot.through, snapshot.facts.len()), (0, 4, 0), "whoever stops does not wait");
    let (again, _disk) = open(folder.path());
    assert_eq!((again.id(), again.pending()), (journal.id(), 0));
    assert_eq!(again.memory(instance(1)).unwrap().container(&ContainerName::new("main").unwrap()).ready, Some(true));
}

#[tokio::test]
async fn a_fact_of_a_later_release_is_stepped_over_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = open(folder.path());
    journal.say(instance(1), Generation::FIRST, failed("first"));
    journal.say(instance(1), Generation::FIRST, failed("second"));
    journal.say(instance(2), Generation::FIRST, failed("third"));
    write_and_close(&journal, disk).await;
    let path = folder.path().join("journal.log");
    let written = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let lines = written.lines().collect::<Vec<_>>();
    let foreign = line::checked(lines[1][9..].replace("\"failed\"", "\"levitated\"").as_bytes());
    let mixed = [lines[0].as_bytes(), b"\n", &foreign, lines[2].as_bytes(), b"\n"].concat();
    std::fs::write(&path, &mixed).unwrap();
    let (again, disk) = open(folder.path());
    assert_eq!(again.id(), journal.id());
    assert_eq!(again.unacknowledged(9).iter().map(|fact| fact.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(again.say(instance(1), Generation::FIRST, Fact::Removed), 4);
    again.acknowledged(3);
    write_and_close(&again, disk).await;
    again.acknowledged(4);
    assert!(std::fs::read(&path).unwrap().starts_with(&mixed), "it is there for whoever understands it");
    let (third, disk) = open(folder.path());
    third.acknowledged(4);
    write_and_close(&third, disk).await;
    assert!(std::fs::read(&path).unwrap().starts_with(&mixed), "also when everything else was taken");

    let snapshot = folder.path().join("said.json");
    let (fourth, disk) = open(folder.path());
    let stopping = CancellationToken::new();
    let task = tokio::spawn(fourth.clone().write_out(disk, stopping.clone()));
    fourth.set_aside(instance(9)).await;
    stopping.cancel();
    task.await.unwrap();
    let said = String::from_utf8(std::fs::read(&snapshot).unwrap()).unwrap();
    assert!(said.contains("\"fact\":\"removed\""), "{said}");
    std::fs::write(&snapshot, said.replacen("\"fact\":\"failed\"", "\"fact\":\"levitated\"", 1)).unwrap();
    let (fifth, _disk) = open(folder.path());
    assert_eq!((fifth.id(), fifth.pending()), (journal.id(), 2));
}
