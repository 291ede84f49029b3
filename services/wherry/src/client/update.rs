//! `wherry update`: reads the spec, changes what was named, and puts it back if nobody was faster.

use wherry_api_types::{ContainerSpec, DryRun, InstanceSpec, Schedule};

use super::failure::{Exit, Failure};
use super::output;
use super::run::starts;
use super::session::Session;
use super::text::clean;
use crate::cli::UpdateArgs;

pub(super) async fn run(session: &Session, args: &UpdateArgs) -> Result<(), Failure> {
    let found = session.get(&args.name).await?;
    let spec = edited(found.spec.clone(), args)?;
    let name = clean(&found.name);
    let answer = session.preview(&found.name, found.generation, &spec).await?;
    if args.dry_run {
        output::line(&render(&answer))?;
        return match &answer.why_not {
            Some(why) if !answer.fits => Err(Failure::new(Exit::NoRoom, clean(why))),
            _ => Ok(()),
        };
    }
    if answer.changes.is_empty() {
        return output::line(&format!("{name} is so already"));
    }
    session.update(&found.name, found.generation, &spec).await?;
    output::line(&format!("{name} is updated: {}", restarts(&answer)))
}

fn edited(mut spec: InstanceSpec, args: &UpdateArgs) -> Result<InstanceSpec, Failure> {
    let is_about_a_container = args.image.is_some()
        || args.cpu.is_some()
        || args.memory.is_some()
        || !args.env.is_empty()
        || !args.secret_env.is_empty()
        || !args.unset_env.is_empty();
    if is_about_a_container {
        let container = chosen(&mut spec, args.container.as_deref())?;
        if let Some(image) = &args.image {
            container.image.clone_from(image);
        }
        container.cpu = args.cpu.clone().or_else(|| container.cpu.take());
        container.memory = args.memory.clone().or_else(|| container.memory.take());
        let given = |name: &str| args.env.iter().chain(&args.secret_env).any(|variable| variable.name == name);
        container.env.retain(|variable| !args.unset_env.contains(&variable.name) && !given(&variable.name));
        container.env.extend(args.env.iter().chain(&args.secret_env).cloned());
    }
    spec.labels.retain(|key, _| !args.unset_labels.contains(key));
    spec.labels.extend(args.labels.iter().cloned());
    spec.restart_policy = args.restart.or(spec.restart_policy);
    if let Some(kept) = args.ttl {
        spec.ttl_seconds = Some(u32::try_from(kept.as_secs()).unwrap_or(u32::MAX));
    }
    let concerns_schedule = args.time_zone.is_some() || args.suspend || args.resume;
    match (&mut spec.schedule, &args.schedule) {
        (Some(schedule), cron) => {
            schedule.cron = cron.clone().unwrap_or_else(|| schedule.cron.clone());
            schedule.time_zone = args.time_zone.clone().or(schedule.time_zone.take());
            schedule.suspended = (schedule.suspended || args.suspend) && !args.resume;
        }
        (None, Some(cron)) => {
            let (cron, time_zone) = (cron.clone(), args.time_zone.clone());
            spec.schedule = Some(Schedule { cron, time_zone, suspended: args.suspend, ..Schedule::default() });
        }
        (None, None) if concerns_schedule => {
            return Err(Failure::new(Exit::Usage, "it has no schedule: give it one with --schedule"));
        }
        (None, None) => {}
    }
    Ok(spec)
}

fn chosen<'s>(spec: &'s mut InstanceSpec, name: Option<&str>) -> Result<&'s mut ContainerSpec, Failure> {
    let names: Vec<String> = spec.containers.iter().filter_map(|container| container.name.clone()).collect();
    let mut all = spec.containers.iter_mut().chain(&mut spec.init_containers);
    let found = match name {
        Some(name) => all.find(|container| container.name.as_deref() == Some(name)),
        None if names.len() == 1 => all.next(),
        None => None,
    };
    found.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("say which container with --container: {}", clean(&names.join(", "))))
    })
}

pub(super) fn render(answer: &DryRun) -> String {
    if answer.changes.is_empty() {
        return "nothing would change".to_owned();
    }
    let room = if answer.fits { "there is room for it" } else { "there is no room for it" };
    let (price, currency) = (clean(&answer.price_per_hour), clean(&answer.currency));
    let mut lines = vec![format!("changes {}", clean(&answer.changes.join(", "))), restarts(answer)];
    lines.push(format!("{price} {currency} an hour while it runs; {room}"));
    lines.extend(starts(&answer.next_runs));
    lines.join("\n")
}

pub(super) fn restarts(answer: &DryRun) -> String {
    if answer.restarts.is_empty() {
        return "nothing is restarted".to_owned();
    }
    let one = |restart: &wherry_api_types::ContainerRestart| {
        format!("restarts {} because of {}", clean(&restart.container), clean(&restart.because.join(", ")))
    };
    answer.restarts.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wherry_api_types::EnvVar;

    use super::*;
    use crate::cli::{Cli, ClientCommand, Command};

    fn arguments(words: &[&str]) -> UpdateArgs {
        let all = ["wherry", "update", "web"].iter().chain(words);
        match Cli::parse_from(all).command {
            Command::Client(ClientCommand::Update(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn spec(names: &[&str]) -> InstanceSpec {
        let variable = |name: &str| EnvVar::plain(name, "old");
        let container = |name: &&str| ContainerSpec {
            name: Some((*name).to_owned()),
            image: "r.example/web:1".to_owned(),
            cpu: Some("250m".to_owned()),
            env: vec![variable("A"), variable("B"), variable("C")],
            ..ContainerSpec::default()
        };
        InstanceSpec { containers: names.iter().map(container).collect(), ..InstanceSpec::default() }
    }

    #[test]
    fn only_what_is_named_changes() {
        let args = arguments(&[
            "--image",
            "r.example/web:2",
            "-e",
            "A=new",
            "--unset-env",
            "B",
            "-l",
            "team=net",
            "--ttl",
            "10m",
        ]);
        let after = edited(spec(&["main"]), &args).unwrap();
        let container = &after.containers[0];
        assert_eq!((container.image.as_str(), container.cpu.as_deref()), ("r.example/web:2", Some("250m")));
        let env: Vec<_> = container.env.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        assert_eq!(env, [("C", "old"), ("A", "new")]);
        assert_eq!((after.labels["team"].as_str(), after.ttl_seconds), ("net", Some(600)));
        assert_eq!(edited(spec(&["main"]), &arguments(&[])).unwrap(), spec(&["main"]));
    }

    #[test]
    fn of_several_containers_one_is_named() {
        let failure = edited(spec(&["web", "side"]), &arguments(&["--cpu", "0.5"])).unwrap_err();
        assert_eq!(failure, Failure::new(Exit::Usage, "say which container with --container: web, side"));
        let after = edited(spec(&["web", "side"]), &arguments(&["--cpu", "500m", "-c", "side"])).unwrap();
        assert_eq!(after.containers[1].cpu.as_deref(), Some("500m"));
        assert_eq!(after.containers[0], spec(&["web"]).containers[0]);
    }
}
