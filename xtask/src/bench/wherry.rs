//! Wherry itself, over its public API like any tenant: what it does on top of containerd is in the number (token check,
//! one transaction on disk, placement, a network of its own, the security profile, the meter).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;
use wherry_api_types::{ContainerSpec, InstanceCreate, InstanceState};
use wherry_demo_images::OciImage;

use super::first_byte::{self, Subject, WARM_UP};
use super::samples::{Milliseconds, Samples};
use crate::local::rest::Rest;
use crate::local::{LocalService, dns};

const NAMED_WITHIN: Duration = Duration::from_secs(5);
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(2);
/// After a start the process is still warm with what it did only then.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) struct Wherry<'a> {
    runtime: &'a Runtime,
    service: &'a LocalService,
    rest: Rest,
    image: String,
    /// Time of the create call.
    accepted: Samples,
    /// Time from the moment a waiting client hears of Running to the first answer of its name.
    named: Samples,
}

impl<'a> Wherry<'a> {
    /// Starts the service with a registry that has the image. The first start of the warm-up pulls it.
    pub(super) fn start(runtime: &'a Runtime, service: &'a mut LocalService, image: &OciImage) -> Result<Self> {
        let (rest, image) = runtime.block_on(async {
            let registry = service.start_registry().await?;
            let image = image.push(&registry.address(), "bench/first-byte", "1").await?;
            service.start().await?;
            anyhow::Ok((service.connect().await?, image))
        })?;
        Ok(Self { runtime, service, rest, image, accepted: Samples::default(), named: Samples::default() })
    }

    /// Resident memory of `wherry up`, without containerd.
    pub(super) fn resident_mib(&self) -> Result<u64> {
        std::thread::sleep(SETTLE);
        let pid = self.service.pid().context("wherry does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("cannot read the size of wherry")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc tells no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("/proc tells no number")?;
        Ok(kib / 1024)
    }

    /// What else was measured on the way.
    pub(super) fn extras(&self) -> Vec<String> {
        let line = |what: &str, samples: &Samples, target: &str| {
            let [half, most] = [50, 99].map(|percent| Milliseconds(samples.percentile(percent)));
            format!("- {what}: p50 {half} ms, p99 {most} ms (target: {target})")
        };
        vec![
            "- wherry takes sandboxes (network included) from a small stock that it keeps ready; the starts here come one \
             at a time, which leaves it time to refill"
                .to_owned(),
            line("answer to create", &self.accepted, "p99 below 20 ms"),
            line("Running heard by a waiting client → its name answers", &self.named, "within 5 ms"),
        ]
    }

    async fn start_instance(&mut self, name: &str, counts: bool) -> Result<Duration> {
        let container = ContainerSpec {
            image: self.image.clone(),
            cpu: Some("0.25".to_owned()),
            memory: Some("64Mi".to_owned()),
            ..ContainerSpec::default()
        };
        let body =
            InstanceCreate { name: Some(name.to_owned()), containers: vec![container], ..InstanceCreate::default() };
        let called = Instant::now();
        let ordered = first_byte::now();
        let instance = self.rest.create(&body).await?;
        let accepted = called.elapsed();
        let waited = self.rest.wait(name, InstanceState::Running).await?;
        let running = Instant::now();
        ensure!(waited.reached, "{name} does not run but is {}", waited.instance.state);
        while dns::ask(self.service.addresses().dns, &instance.fqdn, 1)?.addresses.is_empty() {
            ensure!(running.elapsed() < NAMED_WITHIN, "{} has no name after {NAMED_WITHIN:?}", instance.fqdn);
        }
        let named = running.elapsed();
        let taken = first_byte::since(ordered, &self.first_line(name).await?)?;
        if counts {
            self.accepted.add(accepted);
            self.named.add(named);
        }
        Ok(taken)
    }

    async fn first_line(&self, name: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            let text = self.rest.logs(name, "main").await?;
            if text.ends_with('\n') {
                return Ok(text);
            }
            if started.elapsed() > LOGGED_WITHIN {
                bail!("the log of {name} is empty after {LOGGED_WITHIN:?}");
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let id = self.rest.instance(name).await?.id;
        self.rest.delete(name).await?;
        let waited = self.rest.wait(&id, InstanceState::Deleted).await?;
        ensure!(waited.reached, "{name} is not deleted but {}", waited.instance.state);
        Ok(())
    }
}

impl Subject for Wherry<'_> {
    fn name(&self) -> &'static str {
        "wherry"
    }

    fn start_once(&mut self, number: usize) -> Result<Duration> {
        let runtime = self.runtime;
        let name = format!("bench-{number}");
        runtime.block_on(async {
            let taken = self.start_instance(&name, number >= WARM_UP).await?;
            self.remove(&name).await?;
            Ok(taken)
        })
    }
}
