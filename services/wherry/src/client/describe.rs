//! `wherry describe`: what a person asks about an instance, in the order in which it is asked: how is it, why, what runs in
//! it, where is it reached, what does it hold, what does it cost, what happened.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use wherry_api_types::{
    Container, ContainerRun, ContainerSpec, ContainerState, Event, FinishedRun, Instance, Port, Probe, Protocol,
    Schedule, Volume, WaitingRun,
};

use super::events::by;
use super::failure::Failure;
use super::output;
use super::session::Session;
use super::text::{bytes, clean, short_time};
use crate::cli::OneArgs;

/// The latest events that are shown.
const EVENTS: usize = 12;
/// The most that are read to find them.
const EVENTS_READ: usize = 20_000;
/// Columns of the longest label and the space behind it.
const LABEL: usize = 12;
/// Text is not broken into narrower pieces than this.
const NARROWEST: usize = 20;

pub(super) async fn run(session: &Session, args: &OneArgs) -> Result<(), Failure> {
    let instance = session.get(&args.name).await?;
    let mut latest = VecDeque::new();
    let mut events = session.events(Some(&instance.id), 0, false).await?.take(EVENTS_READ);
    while let Some(event) = events.next().await {
        if latest.len() == EVENTS {
            latest.pop_front();
        }
        latest.push_back(event?);
    }
    output::raw(render(&instance, latest.make_contiguous(), output::terminal_width()).as_bytes())
}

/// Lines of labels and values.
struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn heading(&mut self, text: &str) {
        self.text.push('\n');
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A value behind its label; what does not fit goes on below itself. Values are safe for a terminal already.
    fn line(&mut self, indent: usize, label: &str, value: &str) {
        let before = indent + LABEL;
        let room = self.width.saturating_sub(before).max(NARROWEST);
        for (index, piece) in wrap(value, room).into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let line = format!("{:indent$}{label:<LABEL$}{piece}", "");
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    fn line_of(&mut self, indent: usize, label: &str, value: Option<String>) {
        if let Some(value) = value {
            self.line(indent, label, &value);
        }
    }
}

/// Pieces of at most `room` characters, broken between words where there are any.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: VecDeque<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > room {
            pieces.push(String::new());
            used = 0;
        }
        let Some(mut piece) = pieces.pop() else { break };
        if used > 0 {
            piece.push(' ');
            used += 1;
        }
        while used + word.len() > room {
            piece.extend(word.drain(..room - used));
            pieces.push(std::mem::take(&mut piece));
            used = 0;
        }
        used += word.len();
        piece.extend(word);
        pieces.push(piece);
    }
    pieces
}

fn render(instance: &Instance, events: &[Event], width: Option<u16>) -> String {
    let mut page = Page { text: String::new(), width: width.map_or(usize::MAX, usize::from) };
    head(&mut page, instance);
    let spec = &instance.spec;
    for (heading, specs, statuses) in [
        ("Containers of the beginning", &spec.init_containers, &instance.init_containers),
        ("Containers", &spec.containers, &instance.containers),
    ] {
        if !specs.is_empty() {
            page.heading(heading);
        }
        for (spec, status) in specs.iter().zip(statuses) {
            container(&mut page, spec, status);
        }
    }
    if !spec.volumes.is_empty() {
        page.heading("Volumes");
        for volume in &spec.volumes {
            page.line(2, &clean(&volume.name), &what_it_holds(volume));
        }
    }
    page.heading("Cost");
    let currency = clean(&instance.cost.currency);
    page.line(2, "so far", &format!("{} {currency}", clean(&instance.cost.so_far)));
    page.line(2, "per hour", &format!("{} {currency} while it runs", clean(&instance.cost.per_hour)));
    if !events.is_empty() {
        page.heading("What happened last");
        for event in events {
            let what = format!("{}: {}{}", event.kind.as_str(), clean(&event.message), by(event));
            let at = short_time(&event.at);
            let room = page.width.saturating_sub(at.len() + 4).max(NARROWEST);
            for (index, piece) in wrap(&what, room).into_iter().enumerate() {
                let at = if index == 0 { at.as_str() } else { "" };
                page.text.push_str(format!("  {at:<19}  {piece}").trim_end());
                page.text.push('\n');
            }
        }
    }
    page.text
}

fn head(page: &mut Page, instance: &Instance) {
    let spec = &instance.spec;
    page.line(0, "Name", &clean(&instance.name));
    page.line(0, "Id", &clean(&instance.id));
    page.line(0, "Project", &clean(&instance.project));
    let readiness = match (instance.state, instance.ready) {
        (wherry_api_types::InstanceState::Running, true) => ", ready",
        (wherry_api_types::InstanceState::Running, false) => ", not ready",
        _ => "",
    };
    page.line(0, "State", &format!("{}{readiness}", instance.state));
    page.line_of(0, "Why", why(instance));
    page.line_of(0, "Asked by", instance.asked_by.as_deref().map(clean));
    let pulling = instance.progress.filter(|progress| progress.total_bytes > 0).map(|progress| {
        let (done, total) = (bytes(progress.done_bytes), bytes(progress.total_bytes));
        format!("{done} of {total}, {} of {} layers", progress.done_layers, progress.total_layers)
    });
    page.line_of(0, "Pulling", pulling);
    page.line(0, "DNS name", &clean(&instance.fqdn));
    page.line_of(0, "Address", instance.address.as_deref().map(clean));
    for (label, moment) in [
        ("Created", Some(&instance.created_at)),
        ("Started", instance.started_at.as_ref()),
        ("Ended", instance.finished_at.as_ref()),
        ("Expires", instance.expires_at.as_ref()),
        ("Next run", instance.next_runs.first()),
        ("Deleted", instance.deleted_at.as_ref()),
    ] {
        page.line_of(0, label, moment.map(|moment| short_time(moment)));
    }
    page.line_of(0, "Waiting run", instance.waiting_run.as_ref().map(waiting));
    page.line_of(0, "Last run", instance.last_run.as_ref().map(finished));
    page.line_of(0, "Schedule", spec.schedule.as_ref().map(schedule));
    page.line(0, "Generation", &instance.generation.to_string());
    let most = spec.max_restarts.map(|most| format!(", at most {most} times")).unwrap_or_default();
    page.line_of(0, "Restarts", spec.restart_policy.map(|policy| format!("{}{most}", word(&policy))));
    page.line_of(0, "Deadline", spec.deadline_seconds.map(|seconds| format!("{seconds} s after its start")));
    let labels: Vec<String> =
        spec.labels.iter().map(|(key, value)| format!("{}={}", clean(key), clean(value))).collect();
    page.line_of(0, "Labels", list(&labels));
}

fn schedule(schedule: &Schedule) -> String {
    let zone = clean(schedule.time_zone.as_deref().unwrap_or("UTC"));
    let suspended = if schedule.suspended { ", suspended" } else { "" };
    format!("{} ({zone}){suspended}", clean(&schedule.cron))
}

fn waiting(run: &WaitingRun) -> String {
    format!("of {}, tried again at {}: {}", short_time(&run.due), short_time(&run.retry_at), clean(&run.message))
}

fn finished(run: &FinishedRun) -> String {
    let reason = run.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let due = run.due.as_deref().map(|due| format!(" for its time {}", short_time(due))).unwrap_or_default();
    format!("{}{reason} at {}{due}", run.state, short_time(&run.finished_at))
}

/// The name of a value of a closed set on the wire.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn list(all: &[String]) -> Option<String> {
    (!all.is_empty()).then(|| all.join(", "))
}

/// Reason, how the last container ended, and the sentence that was given with it.
fn why(instance: &Instance) -> Option<String> {
    let mut all: Vec<String> = instance.reason.map(|reason| reason.to_string()).into_iter().collect();
    all.extend(instance.message.as_deref().map(clean));
    if instance.state.is_settled() {
        let runs = instance.containers.iter().chain(&instance.init_containers);
        let last = runs.filter_map(|container| container.runs.last()).max_by(|one, other| {
            let at = |run: &ContainerRun| run.finished_at.clone();
            at(one).cmp(&at(other))
        });
        let told = all.join(" ");
        all.extend(last.and_then(code).filter(|code| !has_word(&told, code.rsplit(' ').next().unwrap_or(code))));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric()).any(|found| found == word)
}

fn code(run: &ContainerRun) -> Option<String> {
    match (run.signal, run.exit_code) {
        (Some(signal), _) => Some(format!("signal {signal}")),
        (None, Some(code)) => Some(format!("exit code {code}")),
        (None, None) => None,
    }
}

fn container(page: &mut Page, spec: &ContainerSpec, status: &Container) {
    page.line(2, &clean(&status.name), &clean(&status.image));
    let indent = 4;
    page.line_of(indent, "digest", status.image_digest.as_deref().map(clean));
    let mut state = word(&status.state);
    if status.state == ContainerState::Running {
        let since = status.runs.last().map(|run| format!(" since {}", short_time(&run.started_at)));
        state.push_str(if status.ready { ", ready" } else { ", not ready" });
        state.push_str(&since.unwrap_or_default());
    }
    page.line(indent, "state", &state);
    let words: Vec<String> = spec.command.iter().chain(&spec.args).map(|word| clean(word)).collect();
    page.line_of(indent, "runs", (!words.is_empty()).then(|| words.join(" ")));
    let amount = |of: Option<&String>| of.map_or_else(|| "-".to_owned(), |amount| clean(amount));
    let mut resources = format!("cpu {}, memory {}", amount(spec.cpu.as_ref()), amount(spec.memory.as_ref()));
    if let Some(limits) = &spec.limits {
        let limits = [("cpu", &limits.cpu), ("memory", &limits.memory)];
        let most: Vec<String> =
            limits.iter().filter_map(|(what, most)| Some(format!("{what} {}", clean(most.as_ref()?)))).collect();
        resources.push_str(&list(&most).map(|most| format!("; at most {most}")).unwrap_or_default());
    }
    page.line(indent, "reserves", &resources);
    page.line_of(indent, "ports", list(&spec.ports.iter().map(port).collect::<Vec<_>>()));
    let variable = |variable: &wherry_api_types::EnvVar| {
        let value = if variable.secret_set { "(secret)".to_owned() } else { clean(&variable.value) };
        format!("{}={value}", clean(&variable.name))
    };
    page.line_of(indent, "environment", list(&spec.env.iter().map(variable).collect::<Vec<_>>()));
    let mount = |mount: &wherry_api_types::VolumeMount| {
        let part = mount.sub_path.as_deref().map(|part| format!("/{}", clean(part))).unwrap_or_default();
        let how = if mount.read_only { ", read-only" } else { "" };
        format!("{} from {}{part}{how}", clean(&mount.path), clean(&mount.volume))
    };
    page.line_of(indent, "mounts", list(&spec.volume_mounts.iter().map(mount).collect::<Vec<_>>()));
    for (label, probe) in
        [("startup", &spec.startup_probe), ("liveness", &spec.liveness_probe), ("readiness", &spec.readiness_probe)]
    {
        page.line_of(indent, label, probe.as_ref().map(check));
    }
    let next = status.restart_at.as_deref().map(|at| format!(", again at {}", short_time(at))).unwrap_or_default();
    if status.restart_count > 0 || !next.is_empty() {
        page.line(indent, "restarts", &format!("{}{next}", status.restart_count));
    }
    let ended = status.runs.iter().rev().find(|run| run.finished_at.is_some());
    page.line_of(indent, "last end", ended.map(end));
}

fn port(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    };
    let name = port.name.as_deref().map(|name| format!(" ({})", clean(name))).unwrap_or_default();
    match port.public_port.filter(|public| *public != port.port) {
        Some(public) => format!("{public}{protocol} to {}{name}", port.port),
        None => format!("{}{protocol}{name}", port.port),
    }
}

fn check(probe: &Probe) -> String {
    let mut what = if let Some(exec) = &probe.exec {
        clean(&exec.command.join(" "))
    } else if let Some(http) = &probe.http {
        format!("http port {} {}", http.port, clean(http.path.as_deref().unwrap_or("/")))
    } else {
        probe.tcp.map_or_else(String::new, |tcp| format!("tcp port {}", tcp.port))
    };
    if let Some(period) = probe.period_seconds {
        what = format!("{what}, every {period} s");
    }
    if let Some(failures) = probe.failure_threshold {
        what = format!("{what}, {failures} failures");
    }
    what
}

fn end(run: &ContainerRun) -> String {
    let mut all = vec![format!("run {}", run.number)];
    all.extend(code(run));
    all.extend(run.reason.map(|reason| reason.to_string()));
    all.extend(run.finished_at.as_deref().map(|at| format!("at {}", short_time(at))));
    let message = run.message.as_deref().map(|message| format!(": {}", clean(message))).unwrap_or_default();
    format!("{}{message}", all.join(", "))
}

/// By the field that is there, and how much it may hold.
fn what_it_holds(volume: &Volume) -> String {
    if let Some(folder) = &volume.empty_dir {
        let medium = folder.medium.map_or_else(|| "disk".to_owned(), |medium| word(&medium));
        let size = folder.size.as_deref().map(|size| format!(", at most {}", clean(size))).unwrap_or_default();
        return format!("empty at first, on {medium}{size}");
    }
    if let Some(config) = &volume.config {
        let names: Vec<String> = config.files.keys().map(|name| clean(name)).collect();
        return format!("files: {}", names.join(", "));
    }
    // What else there is stands in the spec under the name of its kind; secrets are not among what is answered.
    let document = serde_json::to_value(volume).unwrap_or_default();
    let kinds = document.as_object().into_iter().flatten().map(|(kind, _)| kind).filter(|kind| *kind != "name");
    kinds.map(|kind| clean(kind)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wherry_api_types::{
        EmptyDirVolume, EndReason, EnvVar, EventKind, HttpCheck, InstanceState, Progress, RestartPolicy, VolumeMount,
    };

    use super::*;
    use crate::client::testing::instance;

    fn ended(number: u32, code: i32) -> ContainerRun {
        ContainerRun {
            number,
            started_at: "2026-03-01T00:00:01Z".into(),
            finished_at: Some("2026-03-01T00:04:01Z".into()),
            exit_code: Some(code),
            signal: None,
            reason: Some(EndReason::Exited),
            message: None,
        }
    }

    fn web() -> Instance {
        let mut web = instance("web");
        web.asked_by = Some("key:0190f1c2".into());
        web.spec.restart_policy = Some(RestartPolicy::OnFailure);
        web.spec.labels = BTreeMap::from([("team".to_owned(), "net".to_owned())]);
        web.spec.volumes = vec![Volume {
            name: "data".into(),
            empty_dir: Some(EmptyDirVolume { medium: None, size: Some("64Mi".into()) }),
            ..Volume::default()
        }];
        let spec = &mut web.spec.containers[0];
        spec.command = vec!["/bin/web".into(), "--all".into()];
        spec.ports = vec![
            Port { port: 8080, public_port: Some(80), name: Some("http".into()), protocol: Protocol::Tcp },
            Port::new(53, Protocol::Udp),
        ];
        spec.env = vec![EnvVar::plain("MODE", "fast")];
        spec.volume_mounts =
            vec![VolumeMount { volume: "data".into(), path: "/data".into(), sub_path: None, read_only: true }];
        spec.readiness_probe = Some(Probe {
            http: Some(HttpCheck { port: 8080, path: Some("/healthz".into()), scheme: None, headers: Vec::new() }),
            period_seconds: Some(5),
            ..Probe::default()
        });
        let status = &mut web.containers[0];
        status.restart_count = 1;
        let again = ContainerRun { started_at: "2026-03-01T00:04:11Z".into(), finished_at: None, ..ended(2, 0) };
        status.runs = vec![ended(1, 3), ContainerRun { exit_code: None, reason: None, ..again }];
        web
    }

    fn event(kind: EventKind, message: &str, actor: Option<&str>) -> Event {
        Event {
            seq: 1,
            instance_id: "x".into(),
            instance: "web".into(),
            kind,
            at: "2026-03-01T00:00:00Z".into(),
            state: InstanceState::Running,
            generation: 1,
            message: message.into(),
            actor: actor.map(str::to_owned),
        }
    }

    #[test]
    fn everything_a_person_asks() {
        let events = [
            event(EventKind::Created, "created", Some("key:0190f1c2")),
            event(EventKind::ContainerExited, "main ended with exit code 3", None),
        ];
        let expected = "\
Name        web
Id          0190f1c2-6f0e-7cc3-98c4-dc0c0c07398f
Project     default
State       running, ready
Asked by    key:0190f1c2
DNS name    web.4kq.local.wherry.internal
Address     10.77.0.2
Created     2026-03-01 00:00:00
Started     2026-03-01 00:00:01
Generation  1
Restarts    on_failure
Labels      team=net

Containers
  main        registry.example/team/web:1
    state       running, ready since 2026-03-01 00:04:11
    runs        /bin/web --all
    reserves    cpu 250m, memory 64Mi
    ports       80 to 8080 (http), 53/udp
    environment MODE=fast
    mounts      /data from data, read-only
    readiness   http port 8080 /healthz, every 5 s
    restarts    1
    last end    run 1, exit code 3, exited, at 2026-03-01 00:04:01

Volumes
  data        empty at first, on disk, at most 64Mi

Cost
  so far      0.000125 USD
  per hour    0.0092304 USD while it runs

What happened last
  2026-03-01 00:00:00  created: created (by key:0190f1c2)
  2026-03-01 00:00:00  container_exited: main ended with exit code 3
";
        assert_eq!(render(&web(), &events, None), expected);
    }

    #[test]
    fn what_ended_says_why_with_reason_sentence_and_code() {
        let mut job = web();
        job.state = InstanceState::Failed;
        job.reason = Some(EndReason::OomKilled);
        job.message = Some("main was killed because it wanted more memory than it asked for".into());
        job.containers[0].runs = vec![ContainerRun { signal: Some(9), ..ended(1, 137) }];
        let text = render(&job, &[], None);
        let why = "Why         oom_killed; main was killed because it wanted more memory than it asked for; signal 9\n";
        assert!(text.contains(why), "{text}");
        assert!(text.contains("last end    run 1, signal 9, exited, at 2026-03-01 00:04:01\n"), "{text}");

        // Nothing is said twice.
        job.reason = Some(EndReason::Exited);
        job.message = Some("main exited with code 3".into());
        job.containers[0].runs = vec![ended(1, 3)];
        let text = render(&job, &[], None);
        assert!(text.contains("Why         exited; main exited with code 3\n"), "{text}");
    }

    #[test]
    fn what_runs_by_the_clock_says_when() {
        let mut job = web();
        job.state = InstanceState::Failed;
        job.spec.schedule = Some(Schedule { cron: "@daily".into(), suspended: true, ..Schedule::default() });
        job.waiting_run = Some(WaitingRun {
            due: "2026-03-02T00:00:00Z".into(),
            retry_at: "2026-03-02T00:00:04Z".into(),
            message: "no machine has room".into(),
        });
        job.last_run = Some(FinishedRun {
            due: Some("2026-03-01T00:00:00Z".into()),
            state: InstanceState::Failed,
            reason: Some(EndReason::Exited),
            message: None,
            started_at: None,
            finished_at: "2026-03-01T00:04:01Z".into(),
        });
        let wanted = "\
Waiting run of 2026-03-02 00:00:00, tried again at 2026-03-02 00:00:04: no machine has room
Last run    failed (exited) at 2026-03-01 00:04:01 for its time 2026-03-01 00:00:00
Schedule    @daily (UTC), suspended
";
        let text = render(&job, &[], None);
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn a_pull_says_how_far_it_is() {
        let mut web = web();
        web.state = InstanceState::Pulling;
        web.progress = Some(Progress { done_bytes: 1024, total_bytes: 2048, done_layers: 1, total_layers: 3 });
        assert!(render(&web, &[], None).contains("Pulling     1.0 KiB of 2.0 KiB, 1 of 3 layers\n"));
    }

    #[test]
    fn it_fits_the_terminal() {
        let mut web = web();
        web.message = Some("a sentence that goes on for longer than a narrow terminal has room for ".repeat(3));
        web.containers[0].image_digest = Some(format!("sha256:{}", "0".repeat(64)));
        let events = [event(EventKind::Created, &"word ".repeat(40), None)];
        for width in [50, 80, 120] {
            let text = render(&web, &events, Some(width));
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width), "{width}:\n{text}");
        }
    }

    #[test]
    fn words_are_broken_only_when_they_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
