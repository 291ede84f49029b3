//! What instances use, how far their pulls are, why they are as they are, and waiting for what they become.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use wherry_api_types::{Port, Progress, Protocol};
use wherry_demo_images::{FileTree, OciImage, SlowPath};

use crate::support::{PROJECT, World, eventually, plain_client, shell};

const PATIENCE: Duration = Duration::from_secs(30);

/// The number of a line of the Prometheus text format.
fn number(text: &str, of: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(of)?.trim().parse().ok())
}

#[tokio::test]
async fn what_runs_says_what_it_uses() {
    let world = World::start().await;
    let mut busy = world.script("busy", "while :; do :; done");
    busy.containers[0].cpu = Some("50m".to_owned());
    world.run(&busy).await;
    let mut echo = world.script("echo", "nc -ll -p 7007 -e cat");
    echo.containers[0].ports = vec![Port::new(7007, Protocol::Tcp)];
    let echo = world.run(&echo).await;

    let stats = eventually("what computes uses its cores", PATIENCE, async || {
        let stats = world.client.instance_stats(PROJECT, "busy").await.unwrap();
        let computes = stats.containers.first().is_some_and(|one| one.cpu_nanocores > Some(5_000_000));
        (!stats.stale && computes).then_some(stats)
    })
    .await;
    let container = &stats.containers[0];
    assert_eq!((container.name.as_str(), container.run, container.cpu_limit_nanocores), ("main", 1, 50_000_000));
    assert!((1..container.memory_limit_bytes).contains(&container.memory_bytes), "{container:#?}");
    assert!(container.throttled_nanos > Some(0), "a limit of 50m holds a busy loop back: {container:#?}");

    // What comes in and goes out is counted at the instance.
    let before = world.client.instance_stats(PROJECT, "echo").await.unwrap().network.unwrap();
    let address = format!("{}:7007", echo.address.unwrap());
    let mut line = eventually("the port is open", PATIENCE, async || TcpStream::connect(&address).ok()).await;
    let mut back = vec![0; 100_000];
    line.write_all(&back).unwrap();
    line.read_exact(&mut back).unwrap();
    eventually("the network is counted", PATIENCE, async || {
        let now = world.client.instance_stats(PROJECT, "echo").await.unwrap().network.unwrap();
        let received = now.received_bytes - before.received_bytes;
        (received >= 100_000 && now.sent_bytes - before.sent_bytes >= 100_000).then_some(())
    })
    .await;

    let table = world.wherry.cli(&["top"]).await.well();
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(line(&table, "busy").is_some_and(|line| line.contains("50m") && line.contains("MiB")), "{table}");
    assert!(line(&table, "echo").is_some(), "{table}");
    let document = world.wherry.cli(&["top", "busy", "-o", "json"]).await.well();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document[0]["containers"][0]["cpu_limit_nanocores"], 50_000_000, "{document:#}");

    let request = plain_client().get(world.wherry.url("/v1/projects/default/metrics"));
    let answer = request.bearer_auth(world.wherry.token().await).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert_eq!(number(&text, r#"wherry_instance_up{instance="busy"}"#), Some(1.0), "{text}");
    let spent = number(&text, r#"wherry_container_cpu_seconds_total{instance="busy",container="main"}"#);
    assert!(spent > Some(0.0), "{text}");
    assert!(number(&text, r#"wherry_instance_network_sent_bytes_total{instance="echo"}"#) >= Some(100_000.0), "{text}");

    world.wherry.cli(&["stop", "busy"]).await.well();
    let table = world.wherry.cli(&["top", "busy"]).await.well();
    assert!(table.contains("nothing runs"), "{table}");
    assert!(!world.wherry.cli(&["top"]).await.well().contains("busy"));
    world.finish().await;
}

/// Bytes that do not compress.
fn noise(seed: u32, words: u32) -> Vec<u8> {
    let word = |number: u32| number.wrapping_mul(2_654_435_761).wrapping_add(seed).rotate_left(number % 31);
    (0..words).flat_map(|number| word(number).to_le_bytes()).collect()
}

#[tokio::test]
async fn pulls_show_layers_and_bytes_each_its_own() {
    let world = World::start().await;
    let line = SlowPath::start(&world.registry.address(), 100 * 1024).await.unwrap();
    let image = |seed: u32, words: u32| {
        let layer = |path: &str, data: Vec<u8>| FileTree::new().file(path, 0o644, data);
        let image = OciImage::builder().layer(layer("/small", noise(seed, 10))).layer(layer("/empty", Vec::new()));
        image.layer(layer("/noise", noise(seed, words))).command(&["/noise"]).build().unwrap()
    };
    for (name, seed, words) in [("one", 1, 500_000), ("two", 2, 300_000)] {
        image(seed, words).push(&world.registry.address(), &format!("demo/{name}"), "1").await.unwrap();
        world.create(&shell(name, &format!("{}/demo/{name}:1", line.address()), "true")).await;
    }
    let pulled = async |name: &str| {
        let is_under_way = |progress: &Progress| {
            progress.done_layers >= 1 && progress.done_bytes > 0 && progress.done_bytes < progress.total_bytes
        };
        eventually(&format!("{name} shows its layers"), PATIENCE, async || {
            world.get(name).await.progress.filter(is_under_way)
        })
        .await
    };
    let (one, two) = tokio::join!(pulled("one"), pulled("two"));
    assert_eq!((one.total_layers, two.total_layers), (3, 3));
    assert!(one.done_layers < 3 && two.done_layers < 3, "{one:?} {two:?}");
    assert!(one.total_bytes > two.total_bytes && two.total_bytes > 1_000_000, "{one:?} {two:?}");
    let text = world.wherry.cli(&["describe", "one"]).await.well();
    assert!(text.contains("of 3 layers") || !text.contains("pulling"), "{text}");
    for name in ["one", "two"] {
        world.delete(name).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn an_instance_is_described_with_who_asked_and_how_it_ended() {
    let world = World::start().await;
    world.run_to_end(&world.script("job", "exit 3")).await;
    let text = world.wherry.cli(&["describe", "job"]).await.well();
    for words in
        ["State       failed", "exited; ", "exit code 3", "run 1, exit code 3, exited", "created: created (by "]
    {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    world.run(&world.script("web", "trap 'exit 0' TERM; sleep 999 & wait")).await;
    world.wherry.cli(&["stop", "web"]).await.well();
    let stopped = world.get("web").await;
    let text = world.wherry.cli(&["describe", "web"]).await.well();
    let who = stopped.asked_by.expect("somebody asked for the stop");
    for words in [
        format!("Asked by    {who}"),
        format!("stop requested (by {who})"),
        format!("stopped_by_user; the stop was asked for by {who}"),
    ] {
        assert!(text.contains(&words), "no {words:?} in\n{text}");
    }
    world.finish().await;
}

#[tokio::test]
async fn readiness_ends_and_deletes_are_waited_for() {
    let world = World::start().await;
    world.create(&world.script("web", "sleep 999 & wait")).await;
    let said = world.wherry.cli(&["wait", "web", "--for", "ready"]).await.well();
    assert_eq!(said.trim_end(), "web is ready");
    world.create(&world.script("job", "exit 3")).await;
    let said = world.wherry.cli(&["wait", "job", "--for", "ended"]).await.well();
    assert_eq!(said.trim_end(), "job is failed");
    // It does not become ready by itself any more, and that is said at once.
    world.wherry.cli(&["wait", "job", "--for", "ready", "--timeout", "10m"]).await.badly(1, &["failed and stays so"]);
    // Somebody else deletes it while this waits.
    let id = world.get("job").await.id;
    let wait = ["wait", &id, "--for", "deleted", "--timeout", "60s"];
    let (waited, ()) = tokio::join!(world.wherry.cli(&wait), async {
        // By its id it is found also if this comes first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.wherry.cli(&["rm", "job"]).await.well();
    });
    assert_eq!(waited.well().trim_end(), format!("{id} is deleted"));
    world.finish().await;
}
