//! A Wherry that runs and a registry with images for it.

use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_api_client::{Client, LogOptions};
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, InstanceState, RestartPolicy};
use wherry_demo_images::{Registry, recipes};

use super::{Wherry, eventually};

/// The project that every tenant has.
pub(crate) const PROJECT: &str = "default";

/// For what an instance becomes, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_mins(2);

/// Both, and a client with the key of this machine.
pub(crate) struct World {
    pub(crate) wherry: Wherry,
    pub(crate) registry: Registry,
    pub(crate) client: Client,
    /// Busybox with a shell.
    pub(crate) tool: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// `more` is added to `wherry.toml`.
    pub(crate) async fn start_with(more: &str) -> Self {
        Self::start_in(Wherry::prepare(more)).await
    }

    pub(crate) async fn start_in(mut wherry: Wherry) -> Self {
        let (registry, tool) = registry_with_tool(&wherry).await;
        wherry.start().await;
        let client = wherry.client();
        Self { wherry, registry, client, tool }
    }

    /// A web server with a page.
    pub(crate) async fn web_image(&self) -> String {
        recipes::web().unwrap().push(&self.registry.address(), "demo/web", "1").await.unwrap()
    }

    /// The body of a create that runs a shell script, never restarted.
    pub(crate) fn script(&self, name: &str, script: &str) -> InstanceCreate {
        shell(name, &self.tool, script)
    }

    pub(crate) async fn create(&self, create: &InstanceCreate) -> Instance {
        self.client.create_instance(PROJECT, create, None).await.unwrap()
    }

    /// Creates and waits until it runs.
    pub(crate) async fn run(&self, create: &InstanceCreate) -> Instance {
        let made = self.create(create).await;
        self.reach(&made.id, InstanceState::Running).await
    }

    /// Creates and waits until it has ended, well or not.
    pub(crate) async fn run_to_end(&self, create: &InstanceCreate) -> Instance {
        let made = self.create(create).await;
        let ends = [InstanceState::Succeeded, InstanceState::Failed];
        let wait = self.client.wait_instance(PROJECT, &made.id, &ends, PATIENCE);
        let waited = wait.await.unwrap();
        assert!(waited.reached, "it did not end: {:#?}", waited.instance);
        waited.instance
    }

    #[track_caller]
    pub(crate) fn reach(&self, name: &str, state: InstanceState) -> impl Future<Output = Instance> {
        let (client, name) = (self.client.clone(), name.to_owned());
        async move {
            let waited = client.wait_instance(PROJECT, &name, &[state], PATIENCE).await.unwrap();
            assert!(waited.reached, "{name} is not {state}: {:#?}", waited.instance);
            waited.instance
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Instance {
        self.client.instance(PROJECT, name).await.unwrap()
    }

    /// Deletes and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        let asked = self.client.delete_instance(PROJECT, name).await.unwrap();
        self.reach(&asked.id, InstanceState::Deleted).await;
    }

    /// All that the container `main` has printed in its latest run, or in `run`.
    pub(crate) async fn logs(&self, name: &str, run: Option<i64>) -> String {
        let options = LogOptions { run, ..LogOptions::default() };
        let mut pieces = self.client.logs(PROJECT, name, "main", &options).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend(piece.unwrap());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its log holds `word`, and answers the log.
    pub(crate) async fn logged(&self, name: &str, word: &str) -> String {
        eventually(&format!("{name} prints {word:?}"), Duration::from_secs(20), async || {
            let text = self.logs(name, None).await;
            text.contains(word).then_some(text)
        })
        .await
    }

    pub(crate) async fn finish(self) {
        self.wherry.finish().await;
    }
}

async fn registry_with_tool(wherry: &Wherry) -> (Registry, String) {
    let registry = Registry::start(&wherry.scratch().join("registry")).await.unwrap();
    let tool = recipes::tool().unwrap().push(&registry.address(), "demo/tool", "1").await.unwrap();
    (registry, tool)
}

/// The body of a create that runs a shell script from `image`, never restarted. It ends when it is asked to, once what runs in
/// the foreground has ended.
pub(crate) fn shell(name: &str, image: &str, script: &str) -> InstanceCreate {
    let container = ContainerSpec {
        image: image.to_owned(),
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("trap 'exit 0' TERM; {script}")],
        cpu: Some("50m".to_owned()),
        memory: Some("32Mi".to_owned()),
        ..ContainerSpec::default()
    };
    InstanceCreate {
        name: Some(name.to_owned()),
        containers: vec![container],
        restart_policy: Some(RestartPolicy::Never),
        ..InstanceCreate::default()
    }
}
