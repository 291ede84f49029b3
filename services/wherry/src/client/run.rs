//! `wherry run`: create, show how it gets there, say what it is.

use std::time::{Duration, Instant};

use wherry_api_types::{ContainerSpec, DryRun, Instance, InstanceCreate, InstanceState, RegistryCredential};

use super::failure::{Exit, Failure};
use super::output;
use super::progress::Progress;
use super::session::Session;
use super::text::{clean, short_time};
use super::{apply, documents, spec};
use crate::cli::RunArgs;

/// How often the instance is looked at: often at first, a start takes a fraction of a second.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(50);
const LATER_LOOKS_EVERY: Duration = Duration::from_millis(250);
const FIRST_LOOKS_FOR: Duration = Duration::from_secs(3);

/// A server that is away for longer is given up; a restart of it takes less.
const AWAY_MOST: Duration = Duration::from_secs(10);

pub(super) async fn run(session: &Session, args: &RunArgs) -> Result<(), Failure> {
    let bodies = match &args.file {
        Some(file) => {
            // Half of it here and half of it there would be read wrongly by somebody.
            if body(args)? != nothing() {
                let message = "with -f everything that is to be run stands in the file: leave the other arguments away";
                return Err(Failure::new(Exit::Usage, message));
            }
            documents::read(file)?
        }
        None => vec![body(args)?],
    };
    if args.idempotency_key.is_some() && bodies.len() > 1 {
        return Err(Failure::new(Exit::Usage, "--idempotency-key makes one instance, and the file has several"));
    }
    let count = bodies.len();
    let mut begun = Vec::with_capacity(count);
    for (number, body) in bodies.iter().enumerate() {
        let shown = body.name.clone().unwrap_or_else(|| format!("document {}", number + 1));
        begun.extend(begin(session, args, body).await.map_err(|failure| apply::of(&shown, count, failure))?);
    }
    for made in begun {
        wait_for(session, made, args.timeout).await?;
    }
    Ok(())
}

/// The instance, if it is to be waited for.
async fn begin(session: &Session, args: &RunArgs, body: &InstanceCreate) -> Result<Option<Instance>, Failure> {
    if args.dry_run {
        let answer = session.dry_run(body).await?;
        output::line(&render_dry_run(&answer))?;
        return if answer.fits { Ok(None) } else { Err(no_room(&answer)) };
    }
    let made = session.create(body, args.idempotency_key.as_deref()).await?;
    if args.no_wait {
        output::line(&clean(&made.name))?;
        return Ok(None);
    }
    Ok(Some(made))
}

/// Waits until it runs or has ended, and says what it is then.
pub(super) async fn wait_for(session: &Session, made: Instance, timeout: Duration) -> Result<(), Failure> {
    let name = clean(&made.name);
    let mut progress = Progress::start(&name);
    let waited = tokio::select! {
        waited = follow(session, made, timeout, &mut progress) => waited,
        _ = tokio::signal::ctrl_c() => Err(Failure::failed(format!(
            "not waiting any more; {name} goes on: see it with `wherry ps`, delete it with `wherry rm {name}`"
        ))),
    };
    progress.end();
    conclude(&waited?, timeout)
}

/// What the arguments say when they say nothing.
fn nothing() -> InstanceCreate {
    InstanceCreate { containers: vec![ContainerSpec::default()], ..InstanceCreate::default() }
}

fn body(args: &RunArgs) -> Result<InstanceCreate, Failure> {
    // Program and arguments replace the image's own, both of them.
    let (command, rest) = args.command.split_at(args.command.len().min(1));
    let container = ContainerSpec {
        image: args.image.clone().unwrap_or_default(),
        command: command.to_vec(),
        args: rest.to_vec(),
        env: args.env.iter().chain(&args.secret_env).cloned().collect(),
        working_dir: args.workdir.clone(),
        cpu: args.cpu.clone(),
        memory: args.memory.clone(),
        ports: args.ports.clone(),
        ..ContainerSpec::default()
    };
    let stop_grace_seconds = spec::seconds("--stop-grace", args.stop_grace)?;
    let usual = InstanceCreate {
        name: args.name.clone(),
        containers: vec![container],
        restart_policy: args.restart,
        architecture: args.arch,
        stop_grace_seconds,
        on_node_loss: args.on_node_loss,
        registry_credentials: credential(args).into_iter().collect(),
        labels: args.labels.iter().cloned().collect(),
        ..InstanceCreate::default()
    };
    spec::complete(usual, &args.more)
}

/// Who asks for the image, at the registry that it names.
fn credential(args: &RunArgs) -> Option<RegistryCredential> {
    let registry = args.image.as_deref().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
    let (username, password) = (args.registry_user.clone()?, args.registry_password.clone()?);
    Some(RegistryCredential { registry, username, password: Some(password), password_set: false })
}

pub(super) fn render_dry_run(answer: &DryRun) -> String {
    let room = if answer.fits { "there is room for it" } else { "there is no room for it now" };
    let price = format!("{} {} an hour while it runs; {room}", clean(&answer.price_per_hour), clean(&answer.currency));
    match starts(&answer.next_runs) {
        Some(starts) => format!("{price}\n{starts}"),
        None => price,
    }
}

/// When a schedule starts it, of one that has any.
pub(super) fn starts(next_runs: &[String]) -> Option<String> {
    let times: Vec<String> = next_runs.iter().map(|at| short_time(at)).collect();
    (!times.is_empty()).then(|| format!("its schedule starts it at {} (UTC)", times.join(", ")))
}

pub(super) fn no_room(answer: &DryRun) -> Failure {
    let why = answer.why_not.as_deref().map_or_else(|| "nothing is free that fits".to_owned(), clean);
    Failure::new(Exit::NoRoom, why)
}

/// Looks until it runs or has ended, or the time is over.
async fn follow(
    session: &Session,
    mut instance: Instance,
    timeout: Duration,
    progress: &mut Progress,
) -> Result<Instance, Failure> {
    let begun = Instant::now();
    let mut heard_of = Instant::now();
    let id = instance.id.clone();
    loop {
        progress.show(&instance);
        let is_there = instance.state == InstanceState::Running || instance.state.is_settled();
        if is_there || begun.elapsed() >= timeout {
            return Ok(instance);
        }
        let is_early = begun.elapsed() < FIRST_LOOKS_FOR;
        tokio::time::sleep(if is_early { FIRST_LOOKS_EVERY } else { LATER_LOOKS_EVERY }).await;
        match session.get(&id).await {
            Ok(seen) => {
                instance = seen;
                heard_of = Instant::now();
            }
            Err(failure) if failure.is_server_away() && heard_of.elapsed() < AWAY_MOST => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn conclude(instance: &Instance, timeout: Duration) -> Result<(), Failure> {
    let name = clean(&instance.name);
    match instance.state {
        InstanceState::Running => output::line(&render_running(instance)),
        InstanceState::Succeeded => {
            output::line(&format!("{name} has ended well (exit code 0); what it printed: wherry logs {name}"))
        }
        InstanceState::Failed => Err(Failure::failed(render_failed(instance))),
        InstanceState::Stopped if !instance.next_runs.is_empty() => {
            let next = short_time(&instance.next_runs[0]);
            output::line(&format!(
                "{name} waits for its schedule: it is started at {next} (UTC), now with `wherry start {name}`"
            ))
        }
        InstanceState::Stopped if instance.spec.schedule.as_ref().is_some_and(|schedule| schedule.suspended) => {
            output::line(&format!(
                "{name} waits, its schedule is suspended: `wherry update {name} --resume`, or now with `wherry start {name}`"
            ))
        }
        state if state.is_settled() => Err(Failure::failed(format!("{name} is {state}: somebody else asked for it"))),
        state => Err(Failure::new(
            Exit::TimedOut,
            format!(
                "{name} is still {state} after {} s and goes on: wait with `wherry wait {name}`, delete it with `wherry rm {name}`",
                timeout.as_secs()
            ),
        )),
    }
}

fn render_running(instance: &Instance) -> String {
    let name = clean(&instance.name);
    let ports = instance.spec.containers.iter().flat_map(|container| &container.ports);
    let ports: Vec<String> = ports
        .map(|port| match port.protocol {
            wherry_api_types::Protocol::Tcp => port.port.to_string(),
            wherry_api_types::Protocol::Udp => format!("{}/udp", port.port),
        })
        .collect();
    let mut lines = vec![format!("{name} runs.")];
    lines.push(format!("  name     {}", clean(&instance.fqdn)));
    lines.push(format!("  address  {}", instance.address.as_deref().map_or_else(|| "-".to_owned(), clean)));
    if !ports.is_empty() {
        lines.push(format!("  ports    {}", ports.join(", ")));
    }
    lines.push(format!("  costs    {} {} an hour", clean(&instance.cost.per_hour), clean(&instance.cost.currency)));
    lines.push(format!("  logs     wherry logs -f {name}"));
    lines.join("\n")
}

fn render_failed(instance: &Instance) -> String {
    let name = clean(&instance.name);
    let last_run = instance.containers.iter().filter_map(|container| container.runs.last()).next_back();
    let mut facts: Vec<String> = instance.reason.iter().map(|reason| reason.as_str().replace('_', " ")).collect();
    if let Some(run) = last_run {
        match (run.signal, run.exit_code) {
            (Some(signal), _) => facts.push(format!("signal {signal}")),
            (None, Some(code)) => facts.push(format!("exit code {code}")),
            (None, None) => {}
        }
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let why = instance.message.as_deref().map(|message| format!(": {}", clean(message))).unwrap_or_default();
    let logs = if last_run.is_some() { format!("; what it printed: wherry logs {name}") } else { String::new() };
    format!("{name} failed{facts}{why}{logs}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use wherry_api_types::{ContainerRun, EndReason, Port, Protocol};

    use super::*;
    use crate::cli::{Cli, ClientCommand, Command};
    use crate::client::testing::instance;

    fn args(words: &str) -> RunArgs {
        match Cli::try_parse_from(words.split(' ')).unwrap().command {
            Command::Client(ClientCommand::Run(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_the_server() {
        let body = body(&args("wherry run r.example/a:1")).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), r#"{"containers":[{"image":"r.example/a:1"}]}"#);
    }

    #[test]
    fn a_whole_body() {
        let words = "wherry run r.example/a:1 --name web --cpu 0.25 --memory 64Mi --port 80 -e A=b -l team=net --restart never \
                     --stop-grace 30s --on-node-loss replace -- /bin/job --all";
        let body = body(&args(words)).unwrap();
        let expected = r#"{"name":"web","containers":[{"image":"r.example/a:1","command":["/bin/job"],"args":["--all"],"env":[{"name":"A","value":"b"}],"cpu":"0.25","memory":"64Mi","ports":[{"port":80,"protocol":"tcp"}]}],"restart_policy":"never","stop_grace_seconds":30,"on_node_loss":"replace","labels":{"team":"net"}}"#;
        assert_eq!(serde_json::to_string(&body).unwrap(), expected);
        assert!(super::body(&args("wherry run r.example/a --stop-grace 1500ms")).is_err());
        assert!(super::body(&args("wherry run r.example/a --ttl 1500ms")).is_err());
    }

    /// Every field of the API that is no list of containers and no file has an argument.
    #[test]
    fn the_rest_of_a_body() {
        let words = "wherry run r.example/a -u 1000:33 --cpu-limit 1 --memory-limit 1Gi --pull always --volume tmp:memory:8Mi --volume-git \
                     site=https://a.example/b#v1 --ephemeral-disk 2Gi --pids 256 --schedule @daily --time-zone UTC -m site:/srv -m tmp:/tmp -m data/a:/data:ro --startup tcp:80 --liveness http:80/ok,every=5s --readiness exec:true \
                     --post-start tcp:81 --pre-stop http:82 --stop-signal SIGINT --max-restarts 3 --deadline 1h --ttl 10m \
                     --isolation sandboxed --zone rack-7 --dedicated --priority spot --spread app=2/zone --near app=db --apart app=batch --dns-label shop --dns-reuse-scope tenant --publish-unready --dns-server 10.0.0.53 \
                     --dns-search corp.example --dns-option ndots:2 --add-host db=10.0.0.9 --add-host cache=10.0.0.9 -p web=80:8080";
        let expected = serde_json::json!({
            "containers": [{
                "image": "r.example/a",
                "user": "1000:33",
                "limits": {"cpu": "1", "memory": "1Gi"},
                "pull_policy": "always",
                "ports": [{"port": 8080, "protocol": "tcp", "name": "web", "public_port": 80}],
                "volume_mounts": [
                    {"volume": "site", "path": "/srv"},
                    {"volume": "tmp", "path": "/tmp"},
                    {"volume": "data", "path": "/data", "sub_path": "a", "read_only": true},
                ],
                "startup_probe": {"tcp": {"port": 80}},
                "liveness_probe": {"http": {"port": 80, "path": "/ok"}, "period_seconds": 5},
                "readiness_probe": {"exec": {"command": ["true"]}},
                "post_start": {"tcp": {"port": 81}},
                "pre_stop": {"http": {"port": 82}},
                "stop_signal": "SIGINT",
            }],
            "volumes": [
                {"name": "tmp", "empty_dir": {"medium": "memory", "size": "8Mi"}},
                {"name": "site", "git": {"repository": "https://a.example/b", "revision": "v1"}},
                {"name": "data", "empty_dir": {}},
            ],
            "ephemeral_disk": "2Gi",
            "pids": 256,
            "schedule": {"cron": "@daily", "time_zone": "UTC"},
            "max_restarts": 3,
            "deadline_seconds": 3600,
            "ttl_seconds": 600,
            "isolation": "sandboxed",
            "zone": "rack-7",
            "dedicated": true,
            "priority": "spot",
            "placement": {
                "spread": [{"label": "app", "max_skew": 2, "over": "zone"}],
                "near": ["app=db"],
                "apart": ["app=batch"],
            },
            "dns_label": "shop",
            "dns_reuse_scope": "tenant",
            "publish_unready": true,
            "dns": {"servers": ["10.0.0.53"], "searches": ["corp.example"], "options": ["ndots:2"]},
            "host_aliases": [{"address": "10.0.0.9", "names": ["db", "cache"]}],
        });
        assert_eq!(serde_json::to_value(body(&args(words)).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_file_stands_alone() {
        assert_eq!(body(&args("wherry run -f x.yaml --no-wait")).unwrap(), nothing());
        for more in ["--cpu 1", "--ttl 1h", "-e A=b", "--name web", "-m a:/b", "--publish-unready"] {
            assert_ne!(body(&args(&format!("wherry run -f x.yaml {more}"))).unwrap(), nothing(), "{more}");
        }
    }

    #[test]
    fn what_runs_says_all_that_is_needed_next() {
        let mut web = instance("web");
        web.spec.containers[0].ports = vec![Port::new(80, Protocol::Tcp), Port::new(53, Protocol::Udp)];
        let expected = "\
web runs.
  name     web.4kq.local.wherry.internal
  address  10.77.0.2
  ports    80, 53/udp
  costs    0.0092304 USD an hour
  logs     wherry logs -f web";
        assert_eq!(render_running(&web), expected);
    }

    #[test]
    fn what_failed_says_why() {
        let mut job = instance("job");
        job.state = InstanceState::Failed;
        job.reason = Some(EndReason::ImagePullFailed);
        job.message = Some("the registry has no such image".into());
        assert_eq!(render_failed(&job), "job failed (image pull failed): the registry has no such image");
        job.reason = Some(EndReason::Exited);
        job.message = None;
        job.containers[0].runs.push(ContainerRun {
            number: 1,
            started_at: "2026-03-01T00:00:00Z".into(),
            finished_at: None,
            exit_code: Some(3),
            signal: None,
            reason: None,
            message: None,
        });
        assert_eq!(render_failed(&job), "job failed (exited, exit code 3); what it printed: wherry logs job");
    }

    #[test]
    fn a_dry_run_without_room_has_the_exit_code_of_no_capacity() {
        let answer = DryRun {
            fits: false,
            why_not: Some("no machine has 64 cores".into()),
            price_per_hour: "1.50".into(),
            currency: "USD".into(),
            changes: Vec::new(),
            restarts: Vec::new(),
            next_runs: Vec::new(),
        };
        assert_eq!(render_dry_run(&answer), "1.50 USD an hour while it runs; there is no room for it now");
        assert_eq!(no_room(&answer), Failure::new(Exit::NoRoom, "no machine has 64 cores"));
        let times = ["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"].map(str::to_owned).to_vec();
        let said = render_dry_run(&DryRun { fits: true, why_not: None, next_runs: times, ..answer });
        let (_, starts) = said.split_once('\n').unwrap();
        assert_eq!(starts, "its schedule starts it at 2026-03-01 00:00:00, 2026-03-02 00:00:00 (UTC)");
    }
}
