//! The tour: what a new user would do by hand, each answer checked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, InstanceState, Port, Protocol};
use wherry_demo_images::{OciImage, Registry, SlowPath, recipes};

use super::bill;
use super::steps::Steps;
use crate::local::rest::{Rest, client_that_resolves};
use crate::local::{LocalService, dns};

const RUNNING_WITHIN: Duration = Duration::from_mins(1);
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const NAMED_WITHIN: Duration = Duration::from_secs(5);
const LISTENING_WITHIN: Duration = Duration::from_secs(5);
const LOGGED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Long enough for a second on the meter.
const METERED: Duration = Duration::from_millis(2_100);
/// Bytes a second.
const THIN_LINE: usize = 2_000_000;
/// Name of the first instance, and of its image.
const WEB: &str = "web";
/// Name of the second instance, and of its image.
const NGINX: &str = "nginx";

/// Shows everything. With `keep` the second instance is left running.
pub(super) async fn give(steps: &mut Steps, service: &mut LocalService, keep: bool) -> Result<()> {
    let images = steps.step("build two images, push them to a registry on loopback", publish(service)).await?;
    steps.step("wherry up: every role in one process, a containerd of its own", start(service)).await?;
    let rest = steps.step("take a token: POST /oauth2/token", token(service)).await?;
    let begun = Instant::now();
    steps.step("create an instance: POST /v1/projects/default/instances", create(&rest, WEB, &images.web)).await?;
    let instance = steps.step("watch it pull and start", watch(&rest, WEB)).await?;
    println!("   {:.3} s from the order to Running, the pull included", begun.elapsed().as_secs_f64());
    steps.step("ask Wherry's DNS for its name, over UDP", resolve(service, &instance)).await?;
    steps.step("fetch its page by that name", page(service, &instance, "Hello from Wherry")).await?;
    steps.step("read its log", log(&rest, WEB, "serving /www")).await?;
    steps.step("run a second one: real nginx, pulled over a line of 2 MB/s", second(service, &rest, &images)).await?;
    steps.step("see what the first has cost so far", cost(&rest, &instance)).await?;
    steps.step("stop it", stop(&rest, WEB)).await?;
    steps.step("delete it", delete(service, &rest, &instance)).await?;
    if !keep {
        steps.step("delete the second", async { remove(&rest, NGINX).await }).await?;
    }
    steps.step("the bill, line by line", async { bill::show(&rest.usage().await?) }).await
}

/// Where to pull from.
struct Images {
    web: String,
    nginx: String,
    /// Slows the pull of nginx down while it lives, so that there is some progress to see.
    _line: SlowPath,
}

async fn publish(service: &mut LocalService) -> Result<Images> {
    let registry = service.start_registry().await?;
    let web = push(registry, WEB, &recipes::web()?).await?;
    push(registry, NGINX, &recipes::nginx()?).await?;
    let line = SlowPath::start(&registry.address(), THIN_LINE).await?;
    let nginx = format!("{}/demo/{NGINX}:1", line.address());
    Ok(Images { web, nginx, _line: line })
}

async fn push(registry: &Registry, name: &str, image: &OciImage) -> Result<String> {
    let reference = image.push(&registry.address(), &format!("demo/{name}"), "1").await?;
    println!("   {reference}, {} KiB", image.size_bytes() / 1024);
    Ok(reference)
}

async fn start(service: &mut LocalService) -> Result<()> {
    service
        .start()
        .await
        .context("Wherry does not start: `wherry doctor` checks this machine and says how to mend it")?;
    let addresses = service.addresses();
    println!("   API http://{}, names {}, metrics http://{}/metrics", addresses.api, addresses.dns, addresses.operator);
    Ok(())
}

async fn token(service: &LocalService) -> Result<Rest> {
    let rest = service.connect().await?;
    let token = rest.token();
    println!("   a {} token for {} s, scopes: {}", token.token_type, token.expires_in, token.scope);
    Ok(rest)
}

async fn create(rest: &Rest, name: &str, image: &str) -> Result<()> {
    let container = ContainerSpec {
        image: image.to_owned(),
        cpu: Some("0.25".to_owned()),
        memory: Some("64Mi".to_owned()),
        ports: vec![Port::new(80, Protocol::Tcp)],
        ..ContainerSpec::default()
    };
    let body = InstanceCreate { name: Some(name.to_owned()), containers: vec![container], ..InstanceCreate::default() };
    let instance = rest.create(&body).await?;
    println!("   {} is {}, its name will be {}", instance.name, instance.state, instance.fqdn);
    Ok(())
}

/// Follows the instance until it runs, a line for each change.
async fn watch(rest: &Rest, name: &str) -> Result<Instance> {
    let started = Instant::now();
    let mut shown = String::new();
    loop {
        let instance = rest.instance(name).await?;
        let known = instance.progress.filter(|progress| progress.total_bytes > 0);
        let progress = known.map_or_else(String::new, |progress| {
            format!(", {} of {} KiB", progress.done_bytes / 1024, progress.total_bytes / 1024)
        });
        let line = format!("{}{progress}", instance.state);
        if line != shown {
            println!("   {:>6.3} s  {line}", started.elapsed().as_secs_f64());
            shown = line;
        }
        if instance.state == InstanceState::Running {
            return Ok(instance);
        }
        let why = instance.message.as_deref().unwrap_or("no message");
        ensure!(!instance.state.is_settled(), "{name} ended as {} before it ran: {why}", instance.state);
        ensure!(
            started.elapsed() < RUNNING_WITHIN,
            "{name} is still {} after {RUNNING_WITHIN:?}: {why}",
            instance.state
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Names may follow Running by some milliseconds.
async fn resolve(service: &LocalService, instance: &Instance) -> Result<()> {
    let server = service.addresses().dns;
    let started = Instant::now();
    for id in 1.. {
        let asked = Instant::now();
        let answer = dns::ask(server, &instance.fqdn, id)?;
        if let Some(address) = answer.addresses.first() {
            ensure!(answer.authoritative, "{server} answers for {} without authority", instance.fqdn);
            let micros = asked.elapsed().as_micros();
            println!("   {} is {address}, answered in {micros} µs at question {id}", instance.fqdn);
            return Ok(());
        }
        let fqdn = &instance.fqdn;
        ensure!(started.elapsed() < NAMED_WITHIN, "{server} knows no {fqdn} after {NAMED_WITHIN:?}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("{} was asked for too often", instance.fqdn)
}

/// Looks the name up in Wherry's DNS, as the system's resolver would if it were told to, and fetches `/`.
async fn page(service: &LocalService, instance: &Instance, expected: &str) -> Result<()> {
    let answer = dns::ask(service.addresses().dns, &instance.fqdn, 0)?;
    let address = *answer.addresses.first().with_context(|| format!("{} has no address any more", instance.fqdn))?;
    let url = format!("http://{}/", instance.fqdn);
    let client = client_that_resolves(&instance.fqdn, (address, 80).into())?;
    let started = Instant::now();
    let response = loop {
        match client.get(&url).send().await {
            Ok(response) => break response,
            // Running means that the program runs; until it listens, connections are refused.
            Err(error) if error.is_connect() && started.elapsed() < LISTENING_WITHIN => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("{address} cannot be reached: is there a firewall besides Wherry's? See `nft list ruleset`")
                });
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let text = response.text().await.with_context(|| format!("{url} broke off"))?;
    ensure!(text.contains(expected), "{url} is not the page of the image: {text}");
    let title = text.lines().find(|line| line.contains("<h1>")).unwrap_or_default();
    println!("   {url} says {title}");
    Ok(())
}

async fn log(rest: &Rest, name: &str, expected: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let text = rest.logs(name, "main").await?;
        // The request that was just made is in it too, but the program writes that line when it likes.
        if text.contains(expected) && text.lines().count() > 1 {
            for line in text.lines().take(6) {
                println!("   | {line}");
            }
            return Ok(());
        }
        ensure!(started.elapsed() < LOGGED_WITHIN, "the log of {name} holds no {expected:?}: {text}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn second(service: &LocalService, rest: &Rest, images: &Images) -> Result<()> {
    create(rest, NGINX, &images.nginx).await?;
    let instance = watch(rest, NGINX).await?;
    resolve(service, &instance).await?;
    page(service, &instance, "Hello from nginx on Wherry").await
}

async fn cost(rest: &Rest, instance: &Instance) -> Result<()> {
    tokio::time::sleep(METERED).await;
    let cost = rest.instance(&instance.name).await?.cost;
    println!("   {} {} so far, {} an hour", cost.so_far, cost.currency, cost.per_hour);
    ensure!(bill::picos(&cost.so_far)? > 0, "the meter of {} stands still", instance.name);
    Ok(())
}

async fn stop(rest: &Rest, name: &str) -> Result<()> {
    rest.stop(name).await?;
    let started = Instant::now();
    loop {
        let state = rest.instance(name).await?.state;
        if state == InstanceState::Stopped {
            println!("   stopped; it keeps its name and costs nothing");
            return Ok(());
        }
        ensure!(started.elapsed() < SETTLED_WITHIN, "{name} is still {state} after {SETTLED_WITHIN:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn delete(service: &LocalService, rest: &Rest, instance: &Instance) -> Result<()> {
    remove(rest, &instance.name).await?;
    let answer = dns::ask(service.addresses().dns, &instance.fqdn, 1)?;
    ensure!(answer.addresses.is_empty(), "{} still has an address after the delete", instance.fqdn);
    println!("   gone, and so is its name (DNS code {})", answer.code);
    Ok(())
}

/// Deletes and waits until the name is free.
async fn remove(rest: &Rest, name: &str) -> Result<()> {
    let id = rest.instance(name).await?.id;
    rest.delete(name).await?;
    let started = Instant::now();
    loop {
        let state = rest.instance(&id).await?.state;
        if state == InstanceState::Deleted {
            return Ok(());
        }
        ensure!(started.elapsed() < SETTLED_WITHIN, "{name} is still {state} after {SETTLED_WITHIN:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
