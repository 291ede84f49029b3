//! A whole fleet: database, registry, network, replicas, machines.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use wherry_api_client::Client;
use wherry_api_types::NodeState;
use wherry_demo_images::{HostState, Marks, Registry};
use wherry_pg_cluster::{Cluster, Settings as ClusterSettings};

use crate::machine::{Invitation, Machine};
use crate::network::Network;
use crate::replica::Replica;

/// Last byte of the first replica's address, and of the first machine's.
const FIRST_REPLICA: u8 = 10;
const FIRST_MACHINE: u8 = 100;
const MOST_REPLICAS: usize = 50;
const MOST_MACHINES: usize = 100;
const JOINED_WITHIN: Duration = Duration::from_mins(1);
const GONE_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The program under test.
    pub binary: PathBuf,
    /// Processes of the control plane; one at most without PostgreSQL.
    pub replicas: usize,
    /// Machines that run containers.
    pub machines: usize,
    /// PostgreSQL, else SQLite.
    pub postgres: bool,
    /// Added to the settings of every replica: whole tables, for example `[fleet]` with short times.
    pub control_settings: String,
    /// Added to the settings of every machine, after a `[node]` table: its further keys may come first.
    pub machine_settings: String,
}

impl FleetOptions {
    /// Two replicas and three machines over PostgreSQL.
    pub fn new(binary: PathBuf) -> Self {
        let (control_settings, machine_settings) = (String::new(), String::new());
        Self { binary, replicas: 2, machines: 3, postgres: true, control_settings, machine_settings }
    }
}

/// A running fleet. Dropped, everything of it is killed and removed; [`Fleet::end`] also proves it.
#[derive(Debug)]
pub struct Fleet {
    /// The control plane.
    pub replicas: Vec<Replica>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// The lines between all of them.
    pub network: Network,
    /// Where images are pushed to; the same address works on every machine.
    pub registry: Registry,
    /// The database server, unless the store is SQLite.
    pub postgres: Option<Cluster>,
    database: Option<String>,
    options: FleetOptions,
    scratch: Option<TempDir>,
    marks: Marks,
    before: HostState,
}

impl Fleet {
    /// Makes everything and starts it: database, registry, replicas, then the machines, which join. Answers when all
    /// machines are ready.
    pub async fn start(options: FleetOptions) -> Result<Self> {
        let (replicas, machines) = (options.replicas, options.machines);
        let mut fleet = Self::prepare(options).await?;
        for _ in 0..replicas {
            fleet.add_replica().await?;
        }
        for _ in 0..machines {
            fleet.add_machine().await?;
        }
        let names: Vec<String> = fleet.machines.iter().map(|machine| machine.host.name.clone()).collect();
        fleet.joined(&names).await?;
        Ok(fleet)
    }

    /// Makes the network, the database and the registry; there are no replicas and machines yet.
    pub async fn prepare(options: FleetOptions) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "only root makes network namespaces and containers: run as root");
        ensure!(options.binary.exists(), "{} is missing: `cargo build --package wherry`", options.binary.display());
        ensure!(options.postgres || options.replicas <= 1, "several replicas need PostgreSQL");
        let scratch = tempfile::Builder::new().prefix("wherry-fleet-").tempdir().context("no scratch folder")?;
        let folder = scratch.path().to_str().context("the scratch folder's path is not UTF-8")?.to_owned();
        let id = format!("wl{}", std::process::id());
        let id = format!("{id}{}", folder.rsplit('-').next().unwrap_or_default());
        let marks = Marks::new([folder, id.clone()]);
        let before = HostState::look(&marks)?;
        let network = Network::create(&id)?;
        let (postgres, database) = if options.postgres {
            let (cluster, database) = tokio::task::spawn_blocking(start_postgres).await.context("no database")??;
            (Some(cluster), Some(database))
        } else {
            (None, None)
        };
        let registry = Registry::start(&scratch.path().join("registry")).await?;
        Ok(Self {
            replicas: Vec::new(),
            machines: Vec::new(),
            network,
            registry,
            postgres,
            database,
            options,
            scratch: Some(scratch),
            marks,
            before,
        })
    }

    /// Starts one more replica; the first one brings the schema up to date and makes the keys, all others get a copy.
    pub async fn add_replica(&mut self) -> Result<usize> {
        let index = self.replicas.len();
        ensure!(index < MOST_REPLICAS, "the lab has addresses for {MOST_REPLICAS} replicas");
        let host = self.network.attach(&format!("control-{index}"), FIRST_REPLICA + u8::try_from(index)?)?;
        let address = self.database_url().map(|url| address_of(&url).map(|address| (url, address))).transpose()?;
        let database = address.as_ref().map(|(url, address)| (url.as_str(), *address));
        let (folder, binary) = (self.folder().to_owned(), self.options.binary.clone());
        let mut replica = Replica::prepare(host, &folder, &binary, database, &self.options.control_settings)?;
        match self.replicas.first() {
            Some(first) => copy_folder(&first.keys(), &replica.keys())?,
            None if database.is_some() => drop(replica.cli(&binary, &["migrate"]).await?),
            None => {}
        }
        replica.start().await?;
        self.replicas.push(replica);
        Ok(index)
    }

    /// Gives the keys of one replica to all others, as the operator does before they run a release that has made one more.
    pub fn share_keys(&self, of: usize) -> Result<()> {
        let keys = self.replicas[of].keys();
        let others = self.replicas.iter().enumerate().filter(|(index, _)| *index != of);
        others.into_iter().try_for_each(|(_, other)| copy_folder(&keys, &other.keys()))
    }

    /// Starts one more machine, which joins; answers before it has, see [`Fleet::joined`].
    pub async fn add_machine(&mut self) -> Result<usize> {
        let index = self.machines.len();
        ensure!(index < MOST_MACHINES, "the lab has addresses for {MOST_MACHINES} machines");
        let invitation = self.invite().await?;
        let host = self.network.attach(&format!("node-{index}"), FIRST_MACHINE + u8::try_from(index)?)?;
        let registry = self.registry.address().parse().context("the registry has no address")?;
        let (binary, settings) = (self.options.binary.clone(), self.options.machine_settings.clone());
        let mut machine = Machine::prepare(host, self.folder(), &binary, registry, &settings)?;
        machine.join(&invitation)?;
        self.machines.push(machine);
        Ok(index)
    }

    /// A token for one machine, asked of the first replica that lives.
    pub async fn invite(&mut self) -> Result<Invitation> {
        let binary = self.options.binary.clone();
        let said = self.living()?.cli(&binary, &["admin", "node", "token"]).await?;
        let word = |prefix: &str| {
            let mut words = said.split(|character: char| character.is_whitespace() || "='\"`".contains(character));
            let found = words.find(|word| word.starts_with(prefix)).map(str::to_owned);
            found.with_context(|| format!("`wherry admin node token` names no {prefix}…:\n{said}"))
        };
        Ok(Invitation { url: word("https://")?, token: word("wjt_")?, fingerprint: word("sha256:")? })
    }

    /// Waits until all these machines are ready for instances, as a replica sees it.
    pub async fn joined(&mut self, names: &[String]) -> Result<()> {
        let client = self.client()?;
        let begun = Instant::now();
        loop {
            for machine in self.machines.iter_mut().filter(|machine| names.contains(&machine.host.name)) {
                machine.program.ensure_alive()?;
            }
            let nodes = client.nodes().await.context("the machines cannot be listed")?.items;
            let is_ready =
                |name: &String| nodes.iter().any(|node| node.name == *name && node.state == NodeState::Ready);
            if names.iter().all(is_ready) {
                return Ok(());
            }
            if begun.elapsed() > JOINED_WITHIN {
                bail!("not ready within {JOINED_WITHIN:?}: {names:?}; there are {nodes:?}\n{}", self.logs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A client of the first replica that lives.
    pub fn client(&mut self) -> Result<Client> {
        self.living()?.client()
    }

    /// The program under test.
    pub fn binary(&self) -> &Path {
        &self.options.binary
    }

    /// The machine of this name.
    pub fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        let found = self.machines.iter_mut().find(|machine| machine.host.name == name);
        found.with_context(|| format!("there is no machine {name}"))
    }

    /// The URL of the database, which works on the machine of the lab and on every replica.
    pub fn database_url(&self) -> Option<String> {
        self.postgres.as_ref()?.tcp_url(self.database.as_ref()?)
    }

    /// Runs statements on the database as its superuser: to look at what is stored.
    pub fn psql(&self, statements: &str) -> Result<String> {
        let cluster = self.postgres.as_ref().context("the store is SQLite")?;
        let database = self.database.as_ref().context("the store is SQLite")?;
        cluster.psql(database, statements).context("psql failed")
    }

    /// Where everything of it is kept.
    pub fn folder(&self) -> &Path {
        self.scratch.as_ref().map_or_else(|| Path::new("/nonexistent"), TempDir::path)
    }

    /// The ends of all logs, to show when something has failed.
    pub fn logs(&self) -> String {
        let replicas = self.replicas.iter().map(|replica| (&replica.host.name, replica.program.last_lines()));
        let machines = self.machines.iter().map(|machine| (&machine.host.name, machine.last_lines()));
        let parts: Vec<String> = replicas.chain(machines).map(|(name, lines)| format!("--- {name}\n{lines}")).collect();
        parts.join("\n")
    }

    /// Ends everything and removes every trace. An error names what is left on the machine.
    pub async fn end(mut self) -> Result<()> {
        let mut troubles = Vec::new();
        for replica in &mut self.replicas {
            if let Err(error) = replica.stop().await {
                troubles.push(format!("{error:#}"));
            }
        }
        self.clear(&mut troubles);
        let left = self.before.left_behind(&self.marks, GONE_WITHIN).await?;
        troubles.extend(left.into_iter().map(|line| format!("left behind: {line}")));
        ensure!(troubles.is_empty(), "the fleet did not end well:\n  {}", troubles.join("\n  "));
        Ok(())
    }

    fn living(&mut self) -> Result<&Replica> {
        for index in 0..self.replicas.len() {
            if self.replicas[index].program.is_alive()? {
                return Ok(&self.replicas[index]);
            }
        }
        bail!("no replica lives")
    }

    /// Idempotent. What cannot be removed is noted, and its folder stays.
    fn clear(&mut self, troubles: &mut Vec<String>) {
        let Some(mut scratch) = self.scratch.take() else { return };
        for replica in &mut self.replicas {
            replica.kill();
        }
        let begun = troubles.len();
        // Side by side: each waits for its containers.
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self.machines.iter_mut().map(|machine| scope.spawn(|| machine.clear())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("the clean-up panicked"))).collect()
        });
        troubles.extend(outcomes.into_iter().filter_map(|outcome| Some(format!("{:#}", outcome.err()?))));
        self.registry.stop();
        self.postgres = None;
        if troubles.len() > begun {
            // Mounts may still be below: deleting would reach through them.
            scratch.disable_cleanup(true);
            troubles.push(format!("look into {}", scratch.path().display()));
        } else if let Err(error) = scratch.close() {
            troubles.push(format!("the scratch folder cannot be removed: {error}"));
        }
        for host in
            self.replicas.iter().map(|replica| &replica.host).chain(self.machines.iter().map(|machine| &machine.host))
        {
            host.namespace.remove();
        }
        self.network.remove();
        self.replicas.clear();
        self.machines.clear();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.scratch.is_none() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let mut troubles = Vec::new();
        self.clear(&mut troubles);
        for trouble in troubles {
            eprintln!("the fleet did not end well: {trouble}");
        }
    }
}

fn start_postgres() -> Result<(Cluster, String)> {
    let listen = Some(std::net::Ipv4Addr::LOCALHOST);
    let cluster = Cluster::start(&ClusterSettings { listen, ..ClusterSettings::default() })?;
    let database = cluster.create_database()?;
    Ok((cluster, database))
}

/// `postgres://user:password@address:port/database`
fn address_of(url: &str) -> Result<std::net::SocketAddr> {
    let address = url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next());
    address.and_then(|address| address.parse().ok()).context("the database's URL names no address")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).context("cannot make a folder of keys")?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry.context("cannot read a folder of keys")?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).context("cannot copy a key")?;
    }
    Ok(())
}
