//! `wherry ps`.

use wherry_api_types::{Instance, InstanceState};
use wherry_model::{Clock as _, Timestamp};

use super::failure::Failure;
use super::output::{self, Colour, column, whole};
use super::session::Session;
use super::text::{age_of, clean};
use crate::cli::{ListFormat, PsArgs};
use crate::system::SystemClock;

pub(super) async fn run(session: &Session, args: &PsArgs) -> Result<(), Failure> {
    let states = wanted_states(args);
    let mut instances = Vec::new();
    let mut cursor = None;
    loop {
        let page = session.list(&states, &args.labels, cursor).await?;
        instances.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    match args.output {
        ListFormat::Json => output::json(&instances),
        ListFormat::Yaml => output::yaml(&instances),
        ListFormat::Name => instances.iter().try_for_each(|instance| output::line(&clean(&instance.name))),
        ListFormat::Wide => output::raw(render(&instances, SystemClock.now(), true, None).as_bytes()),
        ListFormat::Table => {
            let text = render(&instances, SystemClock.now(), false, output::terminal_width());
            output::raw(output::painted(&text, "STATE", colour).as_bytes())
        }
    }
}

/// States that are asked for; none means every one.
fn wanted_states(args: &PsArgs) -> Vec<InstanceState> {
    match (args.states.as_slice(), args.all) {
        ([], true) => Vec::new(),
        ([], false) => InstanceState::ALL.into_iter().filter(|state| !state.is_settled()).collect(),
        (states, _) => states.to_vec(),
    }
}

/// What a look is enough for.
fn colour(state: &str) -> Option<Colour> {
    match state.split(' ').next() {
        Some("running" | "succeeded") => Some(Colour::Green),
        Some("failed") => Some(Colour::Red),
        Some("unknown" | "pending" | "stopping" | "deleting") => Some(Colour::Yellow),
        _ => None,
    }
}

fn render(instances: &[Instance], now: Timestamp, is_wide: bool, width: Option<u16>) -> String {
    let mut columns = vec![
        whole("NAME"),
        column("STATE"),
        column("AGE"),
        column("RESTARTS"),
        column("CPU"),
        column("MEMORY"),
        column("ADDRESS"),
        column("DNS NAME"),
        column("COST"),
        column("IMAGE"),
    ];
    if is_wide {
        columns.extend([column("READY"), column("CONTAINERS"), column("ISOLATION"), column("ID")]);
    }
    let cells = |instance| {
        let mut cells = row(instance, now);
        if is_wide {
            cells.extend(more(instance));
        }
        cells
    };
    output::table(&columns, instances.iter().map(cells).collect(), width)
}

fn row(instance: &Instance, now: Timestamp) -> Vec<String> {
    let restarts: u32 = instance.containers.iter().map(|container| container.restart_count).sum();
    let first = instance.spec.containers.first();
    let amount = |of: Option<&String>| of.map_or_else(|| "-".to_owned(), |text| clean(text));
    vec![
        clean(&instance.name),
        state(instance),
        age_of(&instance.created_at, now),
        restarts.to_string(),
        amount(first.and_then(|container| container.cpu.as_ref())),
        amount(first.and_then(|container| container.memory.as_ref())),
        amount(instance.address.as_ref()),
        clean(&instance.fqdn),
        format!("{} {}", clean(&instance.cost.so_far), clean(&instance.cost.currency)),
        amount(first.map(|container| &container.image)),
    ]
}

/// What only a wide list shows.
fn more(instance: &Instance) -> [String; 4] {
    let containers = instance.containers.len() + instance.init_containers.len();
    let isolation = instance.spec.isolation.unwrap_or_default();
    let isolation = serde_json::to_value(isolation).ok().and_then(|word| word.as_str().map(str::to_owned));
    let ready = if instance.ready { "yes" } else { "no" };
    [ready.to_owned(), containers.to_string(), isolation.unwrap_or_default(), clean(&instance.id)]
}

/// The state, with the reason where it says more.
fn state(instance: &Instance) -> String {
    match (instance.state, instance.reason) {
        (InstanceState::Failed, Some(reason)) => format!("failed ({reason})"),
        (state, _) => state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::instance;

    const NOW: &str = "2026-03-01T00:05:00Z";

    #[test]
    fn a_list() {
        let mut failed = instance("job");
        failed.state = InstanceState::Failed;
        failed.reason = Some(wherry_api_types::EndReason::OomKilled);
        failed.address = None;
        failed.containers[0].restart_count = 3;
        let text = render(&[instance("web"), failed], NOW.parse().unwrap(), false, None);
        let expected = "\
NAME  STATE                AGE  RESTARTS  CPU   MEMORY  ADDRESS    DNS NAME                       COST          IMAGE
web   running              5m   0         250m  64Mi    10.77.0.2  web.4kq.local.wherry.internal  0.000125 USD  registry.example/team/web:1
job   failed (oom_killed)  5m   3         250m  64Mi    -          job.4kq.local.wherry.internal  0.000125 USD  registry.example/team/web:1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_wide_list_shows_more_and_cuts_nothing() {
        let text = render(&[instance("web")], NOW.parse().unwrap(), true, None);
        let (header, row) = text.split_once('\n').unwrap();
        assert!(header.ends_with("READY  CONTAINERS  ISOLATION  ID"), "{header}");
        assert!(row.contains("registry.example/team/web:1  yes    1           shared"), "{row}");
    }

    #[test]
    fn states_have_colours() {
        assert_eq!(colour("running"), Some(Colour::Green));
        assert_eq!(colour("failed (oom_killed)"), Some(Colour::Red));
        assert_eq!((colour("starting"), colour("stopped")), (None, None));
    }

    #[test]
    fn it_fits_the_terminal() {
        for width in [80, 100, 160] {
            let text = render(
                &[instance("web"), instance("worker-with-a-long-name")],
                NOW.parse().unwrap(),
                false,
                Some(width),
            );
            assert!(text.contains("worker-with-a-long-name"), "{width}:\n{text}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
            assert_eq!(text.lines().count(), 3, "{width}:\n{text}");
        }
    }

    #[test]
    fn ended_instances_are_listed_when_asked_for() {
        use clap::Parser as _;
        let states = |words: &str| match crate::cli::Cli::parse_from(words.split(' ')).command {
            crate::cli::Command::Client(crate::cli::ClientCommand::Ps(args)) => wanted_states(&args),
            other => panic!("{other:?}"),
        };
        assert!(states("wherry ps").contains(&InstanceState::Running));
        assert!(!states("wherry ps").contains(&InstanceState::Failed));
        assert!(states("wherry ps -a").is_empty());
        assert_eq!(states("wherry ps --state failed"), [InstanceState::Failed]);
    }
}
