//! What a person types, in the order of the README, and what they see.

use std::time::Duration;

use serde_json::Value;
use wherry_api_types::InstanceState;

use crate::support::{World, dns, picos};

const SHORT: Duration = Duration::from_secs(5);

/// `wherry run`, `ps`, `logs -f`, `cost`, `stop`, `start`, `rm` against a service that was started by hand.
#[tokio::test]
async fn the_commands_of_the_readme() {
    let world = World::start().await;
    let image = world.web_image().await;
    let wherry = &world.wherry;

    let run = ["run", &image, "--name", "web", "--cpu", "0.25", "--memory", "64Mi", "--port", "80"];
    let said = wherry.cli(&run).await;
    assert!(said.err.contains("web: pulling the image"), "no progress was shown: {said:#?}");
    let out = said.well();
    for word in ["web runs.", "ports    80", "USD an hour", "wherry logs -f web"] {
        assert!(out.contains(word), "{word:?} is missing:\n{out}");
    }
    let web = world.get("web").await;
    let address = web.address.clone().unwrap();
    assert!(out.contains(&web.fqdn) && out.contains(&address), "{out}");

    // A bill has whole seconds: after two of them there must be something on it.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let ps = wherry.cli(&["ps"]).await.well();
    let row = ps.lines().find(|line| line.starts_with("web ")).unwrap_or_else(|| panic!("no row:\n{ps}"));
    for word in ["running", "250m", "64Mi", &address, &web.fqdn, &image] {
        assert!(row.contains(word), "{word:?} is missing: {row}");
    }
    let cost = row.split_whitespace().rev().nth(2).unwrap();
    assert!(picos(cost) > 0, "the meter stands still: {row}");

    // The page, by the name that Wherry's own DNS answers, over both transports.
    for answer in [dns::over_udp(wherry.dns, &web.fqdn), dns::over_tcp(wherry.dns, &web.fqdn)] {
        assert_eq!((answer.code, answer.authoritative), (0, true), "{answer:?}");
        assert_eq!(answer.addresses, [address.parse::<std::net::Ipv4Addr>().unwrap()]);
        assert!(answer.ttl.unwrap() <= 30, "{answer:?}");
    }
    assert!(page(&world, &web.fqdn).await.contains("Hello"));

    let logs = wherry.cli_until_interrupted(&["logs", "-f", "web"], Duration::from_millis(1_500)).await;
    assert!(logs.out.contains("serving /www") && logs.out.contains("response:200"), "{logs:#?}");

    let cost = wherry.cli(&["cost"]).await.well();
    assert!(cost.contains("web ") && cost.contains("\ntotal 0."), "{cost}");
    check_bill(&wherry.cli(&["cost", "web", "--json"]).await.well());

    assert!(wherry.cli(&["stop", "web"]).await.well().contains("web is stopped"));
    let answer = dns::over_udp(wherry.dns, &web.fqdn);
    assert!(answer.addresses.is_empty() && answer.negative_ttl.unwrap() <= 1, "{answer:?}");
    let billed = bill(&wherry.cli(&["cost", "web", "--json"]).await.well());
    assert!(wherry.cli(&["start", "web"]).await.well().contains("web is started"));
    let again = world.get("web").await;
    assert_eq!((&again.id, &again.fqdn), (&web.id, &web.fqdn), "a start keeps identity and DNS name");
    let named = dns::over_udp(wherry.dns, &web.fqdn);
    assert_eq!(named.addresses, [again.address.unwrap().parse::<std::net::Ipv4Addr>().unwrap()]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    let events = wherry.cli(&["events", "web"]).await.well();
    assert!(events.lines().count() >= 5, "{events}");
    assert!(wherry.cli(&["rm", "web"]).await.well().contains("web is deleted"));
    assert!(!wherry.cli(&["ps", "-a"]).await.well().contains("running"));
    wherry.cli(&["inspect", "web"]).await.badly(3, &["web"]);
    let last = wherry.cli(&["cost", &web.id, "--json"]).await.well();
    check_bill(&last);
    assert!(bill(&last) > billed, "the second run is not on the bill: {last}");
    world.finish().await;
}

/// Ctrl-C leaves instances running, and the next `wherry up` finds the same processes.
#[tokio::test]
async fn ctrl_c_and_up_again_finds_the_same_processes() {
    let mut world = World::start().await;
    let image = world.web_image().await;
    for name in ["one", "two"] {
        world.wherry.cli(&["run", &image, "--name", name, "--cpu", "50m", "--memory", "32Mi"]).await.well();
    }
    let before = [world.get("one").await, world.get("two").await];
    let pids = running(&world);
    assert_eq!(pids.len(), 2, "{pids:?}");

    assert!(world.wherry.interrupt().await.success());
    assert!(world.wherry.log().contains("2 instances run on"), "{}", world.wherry.log());
    assert_eq!(running(&world), pids, "a stop of Wherry must not stop containers");
    let failure = world.wherry.cli(&["ps"]).await.badly(5, &["`wherry up` running"]);
    assert_eq!(failure.lines().count(), 1, "{failure}");

    let took = world.wherry.start().await;
    assert!(took < Duration::from_secs(3), "`wherry up` took {took:?}");
    for earlier in before {
        let now = world.reach(&earlier.id, InstanceState::Running).await;
        assert_eq!((now.address, now.containers[0].restart_count), (earlier.address, 0));
        assert_eq!(now.containers[0].runs.len(), 1);
        assert_eq!(dns::over_udp(world.wherry.dns, &now.fqdn).addresses.len(), 1, "{} has no name", now.name);
    }
    assert_eq!(running(&world), pids);
    // What was metered while nobody looked is on the bill, once.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    check_bill(&world.wherry.cli(&["cost", "one", "--json"]).await.well());
    world.finish().await;
}

/// What it has said by the time at which the greeting is there whole: it is printed after the doors are open.
async fn greeting_of(wherry: &crate::support::Wherry) -> String {
    for _ in 0..600 {
        if wherry.log().contains("Ctrl-C") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wherry.log()
}

/// The first start ever, on an empty folder, and what it tells a new user.
#[tokio::test]
async fn a_first_start_takes_less_than_three_seconds_and_says_what_to_type() {
    let mut wherry = crate::support::Wherry::prepare("");
    let took = wherry.start().await;
    assert!(took < Duration::from_secs(3), "`wherry up` took {took:?}");
    let greeting = greeting_of(&wherry).await;
    let here = format!("wherry --data {}", wherry.data().display());
    let typed = [format!("{here} run IMAGE --name web"), format!("{here} ps")];
    for word in ["Wherry is up", &typed[0], &typed[1], "/docs", "Ctrl-C"] {
        assert!(greeting.contains(word), "{word:?} is missing:\n{greeting}");
    }
    assert_eq!(wherry.cli(&["ps", "-o", "json"]).await.well().trim(), "[]");
    // With nothing to keep, Ctrl-C alone leaves no trace.
    assert!(wherry.interrupt().await.success());
    wherry.assert_nothing_left().await;
    wherry.finish().await;
}

/// Main processes of all containers, by instance.
fn running(world: &World) -> std::collections::BTreeMap<String, u32> {
    let containers = world.wherry.engine().into_iter().filter(crate::support::EngineContainer::is_container);
    containers.map(|container| (container.instance().unwrap().to_owned(), container.pid.unwrap())).collect()
}

async fn page(world: &World, fqdn: &str) -> String {
    let address = dns::over_udp(world.wherry.dns, fqdn).addresses[0];
    let client =
        reqwest::Client::builder().no_proxy().resolve(fqdn, (address, 80).into()).timeout(SHORT).build().unwrap();
    client.get(format!("http://{fqdn}/")).send().await.unwrap().text().await.unwrap()
}

/// Total in picos.
fn bill(json: &str) -> i128 {
    picos(serde_json::from_str::<Value>(json).unwrap()["total"].as_str().unwrap())
}

/// Recomputes every line and the total from quantities and prices, and looks for gaps and overlaps.
fn check_bill(json: &str) {
    let usage: Value = serde_json::from_str(json).unwrap();
    let lines = usage["lines"].as_array().unwrap();
    assert!(!lines.is_empty(), "{usage:#}");
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let mut sum = 0;
    let mut ends = std::collections::BTreeMap::new();
    for line in lines {
        let quantity: i128 = text(line, "quantity").parse().unwrap();
        let amount = quantity * picos(&text(line, "unit_price"));
        assert_eq!(amount, picos(&text(line, "amount")), "{line:#}");
        let [from, to] = ["from", "to"].map(|name| text(line, name).parse::<jiff::Timestamp>().unwrap());
        assert_eq!(to.as_second() - from.as_second(), line["seconds"].as_i64().unwrap(), "{line:#}");
        let end = ends.entry((text(line, "kind"), text(line, "resource"))).or_insert(from);
        assert!(*end <= from, "a second is billed twice: {usage:#}");
        *end = to;
        sum += amount;
    }
    assert_eq!(sum, picos(usage["total"].as_str().unwrap()), "the lines do not sum up: {usage:#}");
}
