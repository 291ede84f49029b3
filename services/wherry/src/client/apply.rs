//! `wherry apply`: makes sure that the instances of a file are there and are so. Said twice it changes nothing.

use std::time::Duration;

use wherry_api_types::{Instance, InstanceSpec};

use super::failure::{Exit, Failure};
use super::run::{no_room, render_dry_run, wait_for};
use super::session::Session;
use super::text::clean;
use super::{documents, output, update};
use crate::cli::ApplyArgs;

pub(super) async fn run(session: &Session, args: &ApplyArgs) -> Result<(), Failure> {
    let mut named = Vec::new();
    for path in &args.files {
        for (number, spec) in documents::read(path)?.into_iter().enumerate() {
            let Some(name) = spec.name.clone() else {
                let (file, number) = (clean(&path.to_string_lossy()), number + 1);
                let message =
                    format!("{file}: document {number} has no name, without which there is nothing to find again");
                return Err(Failure::new(Exit::Usage, message));
            };
            if named.iter().any(|(known, _)| *known == name) {
                return Err(Failure::new(Exit::Usage, format!("{} stands in two files", clean(&name))));
            }
            named.push((name, spec));
        }
    }
    let mut begun = Vec::new();
    for (name, spec) in &named {
        let applied = one(session, name, spec, args.dry_run).await.map_err(|failure| of(name, named.len(), failure))?;
        begun.extend(applied);
    }
    if args.no_wait {
        return Ok(());
    }
    all_run(session, begun, args.timeout).await
}

/// Waits for those that are new, one after the other; they start at the same time.
async fn all_run(session: &Session, begun: Vec<Instance>, timeout: Duration) -> Result<(), Failure> {
    for instance in begun {
        wait_for(session, instance, timeout).await?;
    }
    Ok(())
}

/// The instance, if it is new.
async fn one(session: &Session, name: &str, spec: &InstanceSpec, dry_run: bool) -> Result<Option<Instance>, Failure> {
    let shown = clean(name);
    let found = match session.get(name).await {
        Ok(found) => found,
        Err(Failure::Told { exit: Exit::NotFound, .. }) if dry_run => {
            let answer = session.dry_run(spec).await?;
            output::line(&format!("{shown} would be created: {}", render_dry_run(&answer)))?;
            return if answer.fits { Ok(None) } else { Err(no_room(&answer)) };
        }
        Err(Failure::Told { exit: Exit::NotFound, .. }) => {
            let made = session.create(spec, None).await?;
            output::line(&format!("{shown} is created"))?;
            return Ok(Some(made));
        }
        Err(failure) => return Err(failure),
    };
    let answer = session.preview(&found.name, found.generation, spec).await?;
    if answer.changes.is_empty() {
        output::line(&format!("{shown} is so already"))?;
    } else if dry_run {
        output::line(&format!("{shown}: {}", update::render(&answer)))?;
        return if answer.fits { Ok(None) } else { Err(no_room(&answer)) };
    } else {
        session.update(&found.name, found.generation, spec).await?;
        output::line(&format!("{shown} is updated: {}", update::restarts(&answer)))?;
    }
    Ok(None)
}

/// Says of which of several.
pub(super) fn of(name: &str, count: usize, failure: Failure) -> Failure {
    match failure {
        Failure::Told { exit, message } if count > 1 => Failure::new(exit, format!("{}: {message}", clean(name))),
        other => other,
    }
}
