//! The line to a control plane whose store is not what it was, or that does not take everything.

use std::path::Path;
use std::time::Duration;

use wherry_model::lifecycle::Ask;
use wherry_model::{InstanceState as S, RestartPolicy};

use super::world::World;

const WHILE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_control_plane_whose_store_was_put_back_is_obeyed_again() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    agent.shut_down(WHILE).await;
    let held = world.control.revision();
    world.control.turn_back(0);
    let agent = world.agent().await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    assert!(world.control.revision() > held);
    assert_eq!(agent.status().borrow().control_plane_trouble, None);
}

fn copy_files(from: &Path, to: &Path) {
    for name in ["journal.log", "said.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_was_put_back_says_nothing_under_numbers_that_are_taken() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    agent.shut_down(WHILE).await;
    let copy = tempfile::tempdir().unwrap();
    copy_files(world.folder.path(), copy.path());
    let agent = world.agent().await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    agent.shut_down(WHILE).await;
    copy_files(copy.path(), world.folder.path());
    assert_eq!(world.control.journals().len(), 1);

    let agent = world.agent().await;
    world.control.ask(id, Ask::Start(world.config().machine.node));
    world.until_state(id, S::Running).await;
    assert_eq!(world.control.journals().len(), 2, "it goes on under another id");
    agent.shut_down(WHILE).await;
    let _agent = world.agent().await;
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    assert_eq!(world.control.journals().len(), 2, "the new id is kept");
}

#[tokio::test(start_paused = true)]
async fn a_fact_that_the_control_plane_cannot_take_holds_up_its_own_instance_only() {
    let world = World::new();
    let agent = world.agent().await;
    let poison = world.create("serve", RestartPolicy::Always);
    world.control.set_poison([poison]);
    let others = [(); 3].map(|()| world.create("sleep 5; exit 1", RestartPolicy::Always));
    for other in others {
        world.until_state(other, S::Running).await;
    }
    assert_ne!(world.instance(poison).state, S::Running);
    // Set aside for good: neither a crash nor what others say meanwhile loses what it said.
    agent.buried().await;
    let agent = world.agent().await;
    world.until_run(others[0], 4).await;
    assert_eq!(world.control.facts(poison), []);
    world.control.set_poison([]);
    world.until_state(poison, S::Running).await;
    assert_eq!(world.control.facts(poison).len(), 4, "pull started, pulled, sandbox ready, container started");
    world.until("everything was taken", |_| agent.status().borrow().journal_facts == 0).await;
    let journals = world.control.journals().len();
    world.control.ask(poison, Ask::Delete);
    world.until_state(poison, S::Deleted).await;
    assert_eq!(world.control.journals().len(), journals);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_takes_nothing_at_all_is_waited_out() {
    let world = World::new();
    let _agent = world.agent().await;
    let all: Vec<_> = (0..20).map(|_| world.create("serve", RestartPolicy::Always)).collect();
    world.control.set_poison(all.clone());
    tokio::time::sleep(Duration::from_mins(40)).await;
    world.control.set_poison([]);
    tokio::time::sleep(Duration::from_mins(2)).await;
    for id in all {
        assert_eq!(world.instance(id).state, S::Running);
    }
    assert_eq!(world.control.journals().len(), 17, "sixteen and the others");
}
