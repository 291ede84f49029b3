//! A small fleet with short times, and the ways to ask and wait that all these tests share.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wherry_api_client::Client;
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, InstanceState, Node, OnNodeLoss, RestartPolicy};
use wherry_demo_images::recipes;
use wherry_fleet_lab::{Fleet, FleetOptions, History, Machine, PROJECT, Run};

/// For whatever has to happen by itself on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The shortest times that the settings take.
pub(crate) const SHORT: &str =
    "[fleet]\ndetection_seconds = 5\nfence_after_seconds = 10\nfence_margin_seconds = 20\nlease_seconds = 2\n";

/// Runs until it is asked to end, and ends at once then.
pub(crate) const STEADY: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// Ends with code 7 when it is told to by SIGUSR1.
pub(crate) const UNTIL_TOLD: &str = "trap 'exit 7' USR1; while :; do sleep 1 & wait $!; done";

pub(crate) struct Lab {
    pub(crate) fleet: Fleet,
    pub(crate) history: History,
    pub(crate) client: Client,
    /// Busybox with a shell.
    pub(crate) tool: String,
}

impl Lab {
    /// One replica over PostgreSQL, so many machines.
    pub(crate) async fn start(machines: usize, control_settings: &str) -> Self {
        let machine_settings = "cpu_millis = 2000\nmemory_mib = 1024\n[containerd]\nwarm_sandboxes = 1\n".to_owned();
        let options = FleetOptions {
            replicas: 1,
            machines,
            control_settings: control_settings.to_owned(),
            machine_settings,
            ..FleetOptions::new(binary())
        };
        let mut fleet = Fleet::start(options).await.unwrap();
        let history = History::start(&fleet).unwrap();
        let client = fleet.client().unwrap();
        let tool = recipes::tool().unwrap().push(&fleet.registry.address(), "demo/tool", "1").await.unwrap();
        Self { fleet, history, client, tool }
    }

    /// A body that runs a shell script, never restarted.
    pub(crate) fn script(&self, name: &str, script: &str) -> InstanceCreate {
        InstanceCreate {
            name: Some(name.to_owned()),
            containers: vec![ContainerSpec {
                image: self.tool.clone(),
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
                cpu: Some("50m".to_owned()),
                memory: Some("16Mi".to_owned()),
                ..ContainerSpec::default()
            }],
            restart_policy: Some(RestartPolicy::Never),
            stop_grace_seconds: Some(2),
            ..InstanceCreate::default()
        }
    }

    pub(crate) fn replaced(&self, name: &str) -> InstanceCreate {
        InstanceCreate { on_node_loss: Some(OnNodeLoss::Replace), ..self.script(name, STEADY) }
    }

    /// Creates and waits until it runs and the witness has seen it.
    pub(crate) async fn run(&self, create: InstanceCreate) -> Instance {
        let made = self.history.run(&self.client, create).await.unwrap();
        self.run_number(&made.id, 1).await;
        made
    }

    /// The instance's run of this number, once the witness has seen it.
    pub(crate) async fn run_number(&self, id: &str, number: usize) -> Run {
        eventually(&format!("{id} runs for the {number}th time"), async || {
            self.history.runs(id).get(number - 1).cloned()
        })
        .await
    }

    /// Waits until the instance has the state.
    pub(crate) async fn reach(&self, id: &str, state: InstanceState) -> Instance {
        eventually(&format!("{id} is {state}"), async || {
            let now = self.client.instance(PROJECT, id).await.ok()?;
            (now.state == state).then_some(now)
        })
        .await
    }

    /// Waits until the machine's node is as wanted.
    pub(crate) async fn node(&self, name: &str, what: &str, is_wanted: impl Fn(&Node) -> bool) -> Node {
        eventually(&format!("{name} is {what}"), async || {
            let node = self.client.node(name).await.ok()?;
            is_wanted(&node).then_some(node)
        })
        .await
    }

    pub(crate) fn machine(&mut self, name: &str) -> &mut Machine {
        self.fleet.machine(name).unwrap()
    }

    /// Deletes everything, checks the history, ends the fleet.
    pub(crate) async fn finish(self) {
        let Self { fleet, history, .. } = self;
        history.finish(fleet).await.unwrap();
    }
}

/// Signals the program of a run, past everybody.
pub(crate) fn signal(run: &Run, signal: Signal) {
    kill_process(Pid::from_raw(run.pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The binary beside these tests.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_E2E_BINARY") {
        return PathBuf::from(path);
    }
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("wherry");
    assert!(path.exists(), "{} is missing: run `cargo build --package wherry` first", path.display());
    path
}
