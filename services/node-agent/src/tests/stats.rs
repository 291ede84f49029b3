//! What instances use, as the agent answers it.

use wherry_agent_api::{NodeServices as _, StatsQuery};
use wherry_model::{Generation, InstanceState as S, RestartPolicy};
use wherry_runtime::RuntimeError;
use wherry_runtime::fake::Fault;

use super::world::World;

fn query(instance: wherry_model::InstanceId) -> StatsQuery {
    StatsQuery { instance, generation: Generation(1), others: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn rates_are_over_the_time_between_two_readings_and_many_watchers_cost_one() {
    let world = World::new();
    let agent = world.agent().await;
    let busy = world.create("while :; do :; done", RestartPolicy::Always);
    let idle = world.create("serve", RestartPolicy::Always);
    world.until_state(busy, S::Running).await;
    world.until_state(idle, S::Running).await;
    let both = StatsQuery { others: vec![(idle, Generation(1))], ..query(busy) };
    let first = agent.stats(both.clone()).await.unwrap();
    assert_eq!(first.iter().map(|stats| stats.instance).collect::<Vec<_>>(), [busy, idle]);
    assert_eq!(first[0].window_ms, Some(500));
    let rate = |at: usize| first[at].containers[0].cpu_nanocores.unwrap();
    let limit = 1_000_000 * u64::from(world.control.get(busy).spec.containers[0].cpu.get());
    assert_eq!((rate(0), rate(1)), (limit, 1_000_000));
    assert_eq!(first[0].containers[0].run, 1);
    assert!(first[0].network.is_some_and(|network| network.received_bytes_per_second == Some(0)));
    // Two readings of each for the first answer. Who asks within a second costs none.
    assert_eq!(world.runtime.calls("Usage"), 4);
    let (one, other) = tokio::join!(agent.stats(both.clone()), agent.stats(query(busy)));
    assert_eq!(one.unwrap(), first);
    assert_eq!(other.unwrap()[0], first[0]);
    assert_eq!(world.runtime.calls("Usage"), 4);
    // Later one reading is enough: the rate is since the one before.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let (one, other) = tokio::join!(agent.stats(query(busy)), agent.stats(query(busy)));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one, other);
    assert_eq!((one[0].window_ms, one[0].containers[0].cpu_nanocores), (Some(10_000), Some(limit)));
    assert_eq!(world.runtime.calls("Usage"), 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_what_is_not_to_run_here() {
    let world = World::new();
    let agent = world.agent().await;
    let web = world.create("serve", RestartPolicy::Always);
    world.until_state(web, S::Running).await;
    let later = StatsQuery { generation: Generation(2), ..query(web) };
    assert_eq!(agent.stats(later).await.unwrap(), []);
    assert_eq!(agent.stats(query("77".repeat(16).parse().unwrap())).await.unwrap(), []);
    world.runtime.set_engine_down(true);
    assert!(agent.stats(query(web)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_hides_no_other() {
    let world = World::new();
    let agent = world.agent().await;
    let one = world.create("serve", RestartPolicy::Always);
    let other = world.create("serve", RestartPolicy::Always);
    world.until_state(one, S::Running).await;
    world.until_state(other, S::Running).await;
    let both = StatsQuery { others: vec![(other, Generation(1))], ..query(one) };
    world.runtime.inject("Usage", Fault::Fail(RuntimeError::Internal { message: "broken".into() }), 1);
    assert_eq!(agent.stats(both.clone()).await.unwrap().len(), 1);
    assert_eq!(agent.stats(both).await.unwrap().len(), 2);
}
