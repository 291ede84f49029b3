//! What a spec can ask for beside an image: a user, limits, names, ports that lead to others, when the registry is asked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use wherry_api_types::{
    DnsSettings, EndReason, EnvVar, HostAlias, Instance, InstanceState, Port, Protocol, PullPolicy, ResourceLimits,
};
use wherry_demo_images::{FileTree, OciImage};

use crate::support::{PROJECT, World, eventually, shell};

const STAY: &str = "echo DONE; sleep 999 & wait";

#[tokio::test]
async fn as_whom_it_runs_and_which_names_it_knows() {
    let world = World::start().await;
    let script = format!(
        "echo USER $(id -u):$(id -g); grep CapEff /proc/self/status; cat /etc/resolv.conf /etc/hosts; \
         httpd -p 8090 -h /etc; printf 'GET /hosts HTTP/1.0\\r\\n\\r\\n' | nc -w 5 alias.example 8090 | grep -q six && echo ALIAS; {STAY}"
    );
    let mut numbers = world.script("numbers", &script);
    numbers.containers[0].user = Some("1000:33".to_owned());
    numbers.dns = Some(DnsSettings {
        servers: vec!["192.0.2.53".to_owned()],
        searches: vec!["corp.example".to_owned()],
        options: vec!["ndots:2".to_owned()],
    });
    let alias = |address: &str, names: &[&str]| HostAlias {
        address: address.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    numbers.host_aliases = vec![alias("127.0.0.1", &["alias.example", "a2"]), alias("2001:db8::1", &["six"])];
    let mut named = world.script("named", &format!("echo USER $(id -u):$(id -g); {STAY}"));
    named.containers[0].user = Some("nobody".to_owned());
    // A program of its own, its arguments as they are given, where it begins, and how it is found again.
    let mut own = world.script("own", "");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    own.containers[0].command = words(&["/bin/sh", "-c"]);
    own.containers[0].args = words(&[
        "trap 'exit 0' TERM; echo BEGINS $(pwd) \"$0|$1|$COLOUR\"; echo DONE; sleep 999 & wait",
        "a b",
        "$HOME",
    ]);
    own.containers[0].working_dir = Some("/etc".to_owned());
    own.containers[0].env = vec![EnvVar::plain("COLOUR", "blue")];
    own.labels = [("app".to_owned(), "shop".to_owned())].into_iter().collect();
    let mut unknown = world.script("unknown", STAY);
    unknown.containers[0].user = Some("no-such-user".to_owned());
    let (_, _, _, unknown) =
        tokio::join!(world.run(&numbers), world.run(&named), world.run(&own), world.run_to_end(&unknown));

    let text = world.logged("numbers", "DONE").await;
    let has = |line: &str| text.lines().any(|known| known.split_whitespace().collect::<Vec<_>>().join(" ") == line);
    assert!(has("USER 1000:33") && has("CapEff: 0000000000000000"), "{text}");
    assert!(has("nameserver 192.0.2.53") && has("options ndots:2"), "{text}");
    let search = text.lines().find(|line| line.starts_with("search ")).unwrap();
    assert!(search.ends_with(" corp.example") && search.contains(".wherry.internal"), "{search}");
    assert!(has("127.0.0.1 localhost") && has("127.0.0.1 alias.example a2") && has("2001:db8::1 six"), "{text}");
    assert!(has("ALIAS"), "{text}");
    assert!(world.logged("named", "DONE").await.contains("USER 65534:65534"));
    let text = world.logged("own", "DONE").await;
    assert!(text.contains("BEGINS /etc a b|$HOME|blue"), "{text}");
    let listed = world.wherry.cli(&["ps", "--label", "app=shop", "-o", "name"]).await.well();
    assert_eq!(listed.trim(), "own");
    assert_eq!((unknown.state, unknown.reason), (InstanceState::Failed, Some(EndReason::StartFailed)), "{unknown:#?}");
    assert!(unknown.message.as_deref().unwrap_or_default().contains("\"no-such-user\""), "{unknown:#?}");
    world.finish().await;
}

/// 40 MB are held at once, in a container of 32 MiB.
fn hungry(world: &World, name: &str, limit: Option<&str>) -> wherry_api_types::InstanceCreate {
    let mut create = world.script(name, "head -c 40000000 /dev/zero | tail -c 40000000 | wc -c");
    let limits = |memory: &str| ResourceLimits { cpu: Some("200m".to_owned()), memory: Some(memory.to_owned()) };
    create.containers[0].limits = limit.map(limits);
    create
}

#[tokio::test]
async fn limits_above_what_is_reserved_where_the_operator_allows_them() {
    let world = World::start_with("[fleet]\nallow_limits_above_request = true\n").await;
    let (wide, narrow) = (hungry(&world, "wide", Some("96Mi")), hungry(&world, "narrow", None));
    let (wide, _narrow) = tokio::join!(world.run_to_end(&wide), world.run_to_end(&narrow));
    assert_eq!(world.logs("wide", None).await.trim(), "40000000", "{wide:#?}");
    assert_ne!(world.logs("narrow", None).await.trim(), "40000000", "it took more than it was given");
    assert_eq!(wide.spec.containers[0].memory.as_deref(), Some("32Mi"), "what is reserved is what it asked for");
    world.finish().await;

    let world = World::start().await;
    let refused = world.client.create_instance(PROJECT, &hungry(&world, "wide", Some("96Mi")), None).await.unwrap_err();
    assert!(refused.to_string().contains("containers[0].limits"), "{refused}");
    world.finish().await;
}

fn page(instance: &Instance, port: u16) -> Option<String> {
    let address = format!("{}:{port}", instance.address.as_deref()?).parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[tokio::test]
async fn a_public_port_leads_to_the_port_of_the_container() {
    let world = World::start().await;
    let mut web = world.script("web", &format!("echo hello > /tmp/index.html; httpd -p 8080 -h /tmp; {STAY}"));
    web.containers[0].ports = vec![Port { public_port: Some(80), ..Port::new(8080, Protocol::Tcp) }];
    let web = world.run(&web).await;
    world.logged("web", "DONE").await;
    let from_host = eventually("this machine gets the page", Duration::from_secs(20), async || page(&web, 80)).await;
    assert!(from_host.ends_with("hello\n"), "{from_host}");
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 web 80";
    world.run(&world.script("client", &format!("{ask} | tail -n 1; {STAY}"))).await;
    assert!(world.logged("client", "DONE").await.contains("hello"));
    assert!(world.wherry.nft_table().contains("dnat to :8080"));
    world.delete("web").await;
    assert!(!world.wherry.nft_table().contains("dnat to :8080"), "it leads on after its end");
    world.finish().await;
}

#[tokio::test]
async fn the_registry_is_asked_when_the_policy_says() {
    let world = World::start().await;
    let push = async |text: &str| {
        let tree = FileTree::new()
            .host_program(std::path::Path::new("/bin/busybox"))
            .unwrap()
            .symlink("/bin/sh", "busybox")
            .file("/text", 0o644, format!("{text}\n"));
        let image = OciImage::builder().layer(tree).env("PATH", "/bin").build().unwrap();
        image.push(&world.registry.address(), "demo/policy", "latest").await.unwrap()
    };
    let reference = push("the first content").await;
    let create = |name: &str, policy| {
        let mut create = shell(name, &reference, "busybox cat /text; echo DONE; busybox sleep 999 & wait");
        create.containers[0].pull_policy = Some(policy);
        create
    };
    for (name, policy) in [("always", PullPolicy::Always), ("once", PullPolicy::Once)] {
        world.run(&create(name, policy)).await;
        assert!(world.logged(name, "DONE").await.contains("the first content"));
    }
    push("another content").await;
    world.run(&create("present", PullPolicy::IfNotPresent)).await;
    assert!(world.logged("present", "DONE").await.contains("the first content"), "it is here already");
    for (name, expected) in [("always", "another content"), ("once", "the first content")] {
        world.client.stop_instance(PROJECT, name).await.unwrap();
        world.reach(name, InstanceState::Stopped).await;
        world.client.start_instance(PROJECT, name).await.unwrap();
        world.reach(name, InstanceState::Running).await;
        assert_eq!(world.logged(name, "DONE").await, format!("{expected}\nDONE\n"), "{name}");
    }
    world.finish().await;
}
