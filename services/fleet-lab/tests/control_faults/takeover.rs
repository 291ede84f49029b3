//! F03: the replica that places, judges and empties is killed in the middle of it; another goes on.

use std::time::Instant;

use crate::support::{Lab, reach, run_servers, told, until};
use wherry_api_types::{InstanceState, NodeDrainRequest};

const HOLDER: &str = "SELECT holder FROM leases WHERE name = 'background'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_another_replica_takes_the_work_over_and_places_nothing_twice() {
    let mut lab = Lab::start(3, 2).await;
    let clients = lab.clients();
    // All on one machine, which is then emptied: each of them is stopped, waits for a place, and is placed anew.
    let second = lab.fleet.machines[1].host.name.clone();
    told(&clients, 0, async |client| client.cordon_node(&second).await).await;
    let ids = run_servers(&lab, 4, |_| {}).await;
    for id in &ids {
        lab.history.may_move(id);
    }
    let first = lab.fleet.machines[0].host.name.clone();
    told(&clients, 0, async |client| client.uncordon_node(&second).await).await;
    let holder =
        until("somebody does the background work", async || Some(lab.stored(HOLDER)).filter(|id| !id.is_empty())).await;
    let replicas = told(&clients, 0, async |client| client.replicas().await).await.items;
    let url = replicas.iter().find(|replica| replica.id == holder).and_then(|replica| replica.agents_url.clone());
    let url = url.unwrap_or_else(|| panic!("{holder} is none of {replicas:?}"));
    let victim = lab.fleet.replicas.iter().position(|replica| replica.join_url() == url).unwrap();
    let others: Vec<_> =
        clients.iter().enumerate().filter(|(index, _)| *index != victim).map(|(_, one)| one.clone()).collect();

    let drain = NodeDrainRequest::default();
    told(&others, 0, async |client| client.drain_node(&first, &drain).await).await;
    until("the machine is being emptied", async || {
        (lab.stored("SELECT count(*) FROM instances WHERE state IN ('stopping', 'pending')") != "0").then_some(())
    })
    .await;
    lab.fleet.replicas[victim].kill();
    let killed = Instant::now();
    until("another replica does the background work", async || {
        let holder_now = lab.stored(HOLDER);
        (holder_now != holder && !holder_now.is_empty()).then_some(())
    })
    .await;
    println!("F03: the work was taken over after {:?}", killed.elapsed());
    let second_id = lab.stored(&format!("SELECT id FROM nodes WHERE name = '{second}'"));
    for id in &ids {
        until(&format!("{id} runs on the other machine"), async || {
            let row = lab.stored(&format!("SELECT node, state FROM instances WHERE id = '{id}'"));
            (row == format!("{second_id}|running")).then_some(())
        })
        .await;
        reach(&others, id, InstanceState::Running).await;
        assert_eq!(lab.placed_again(id), 1, "{id} was placed once more, not twice");
    }
    let left = told(&others, 0, async |client| client.node(&first).await).await.drain.unwrap().left;
    assert_eq!(left, 0, "the machine is empty");
    lab.fleet.replicas[victim].start().await.unwrap();
    lab.finish().await;
}
