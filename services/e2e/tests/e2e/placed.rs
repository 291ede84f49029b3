//! Where instances are placed by what they ask, why they are not, and how room is made: on one machine.

use wherry_api_types::{EndReason, InstanceState, Priority};

use crate::support::{PROJECT, World};

const STAY: &str = "echo UP; sleep 999 & wait";

const SETTINGS: &str = "\
[node]
zone = \"west\"
cpu_millis = 1000
memory_mib = 2048
disk_mib = 4096

[fleet]
overcommit_cpu_percent = 200
spot_notice_seconds = 2
";

#[tokio::test]
async fn a_zone_disk_and_a_tenant_alone_are_kept_and_a_decision_explains_itself() {
    let world = World::start_with(SETTINGS).await;
    let mut web = world.script("web", STAY);
    (web.zone, web.dedicated, web.ephemeral_disk) = (Some("west".to_owned()), true, Some("1Gi".to_owned()));
    web.containers[0].cpu = Some("1500m".to_owned());
    let made = world.run(&web).await;
    assert_eq!((made.spec.zone.as_deref(), made.spec.dedicated), (Some("west"), true));

    let nodes = world.wherry.cli(&["admin", "nodes", "-o", "wide"]).await.well();
    assert!(nodes.contains("west") && nodes.contains("1024/4096 (25%)") && nodes.contains("200%,100%,100%"), "{nodes}");
    let explained = world.wherry.cli(&["admin", "explain", "web"]).await.well();
    assert!(
        explained.contains("now        running, on ") && explained.contains("fits       1 of 1 machines"),
        "{explained}"
    );
    let fleet = world.wherry.cli(&["admin", "fleet"]).await.well();
    assert!(
        fleet.contains("packing    ") && fleet.contains("stranded   ") && fleet.contains("room for   0 more of 1500"),
        "{fleet}"
    );
    let what_if = ["admin", "fleet", "--add-nodes", "2", "--like", "cpu=4,memory=8Gi"];
    let what_if = world.wherry.cli(&what_if).await.well();
    assert!(what_if.contains("room for   10 more of 1500"), "{what_if}");

    let run = |more: &[&'static str]| {
        let mut words = vec!["run", world.tool.as_str(), "--dry-run"];
        words.extend(more);
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let cli = async |words: Vec<String>| world.wherry.cli(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    cli(run(&["--zone", "east"])).await.badly(4, &["there is no zone east here", "west"]);
    cli(run(&["--cpu", "1"])).await.badly(4, &["with too little CPU left"]);
    cli(run(&["--cpu", "100m", "--ephemeral-disk", "4Gi"])).await.badly(4, &["with too little disk left"]);
    cli(run(&["--cpu", "100m", "--near", "app=db"])).await.badly(4, &["without what it must be near to"]);
    world.finish().await;
}

#[tokio::test]
async fn a_spot_instance_costs_half_and_makes_room_after_a_notice() {
    let world = World::start_with(SETTINGS).await;
    let mut batch = world.script("batch", STAY);
    batch.priority = Some(Priority::Spot);
    batch.containers[0].cpu = Some("1500m".to_owned());
    let spot = world.run(&batch).await;
    let mut regular = world.script("regular", STAY);
    regular.containers[0].cpu = Some("1500m".to_owned());
    let price = world.client.dry_run(PROJECT, &regular).await.unwrap().price_per_hour;
    let (spot, full): (f64, f64) = (spot.cost.per_hour.parse().unwrap(), price.parse().unwrap());
    assert!((spot * 2.0 - full).abs() < 1e-9, "{spot} {full}");

    let refused = world.client.create_instance(PROJECT, &regular, None).await.unwrap_err().to_string();
    assert!(refused.contains("make room"), "{refused}");
    let evicted = world.reach("batch", InstanceState::Stopped).await;
    assert_eq!(evicted.reason, Some(EndReason::Evicted));
    let events = world.wherry.cli(&["events", "batch"]).await.well();
    assert!(events.contains("leaving") && events.contains("its room is needed"), "{events}");
    world.run(&regular).await;
    world.finish().await;
}
