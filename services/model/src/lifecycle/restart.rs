//! A run that ends because it is to be followed by another: the container's revision grows, and its node sees to the rest.
//! Generation, sandbox, name and address stay.

use crate::instance::{ContainerStatus, EventKind, Instance, InstanceState, Leaving};
use crate::name::ContainerName;
use crate::spec::ContainerKind;
use crate::time::Timestamp;

use super::draft::Draft;
use super::{Change, Refusal};

/// Restarts one container, or all of them, those of the beginning first. With `pull` the registry is asked again what the
/// references of their images mean.
///
/// None when nothing of it runs yet and nothing is to be forgotten: it is on its way to its start anyhow.
pub fn restart(
    instance: &Instance,
    container: Option<&ContainerName>,
    pull: bool,
    actor: &str,
    now: Timestamp,
) -> Result<Option<Change>, Refusal> {
    use InstanceState as S;
    // What is on its way to another machine begins anew there. Asked of it, that it is not taken for ended when all of it ends
    // by itself before its machine has ended it.
    let is_moving = instance.state == S::Stopping && instance.leaving == Some(Leaving::Move);
    let waits = match instance.state {
        S::Deleting | S::Deleted => return Err(Refusal::Gone),
        S::Stopping if is_moving => false,
        S::Stopping => return Err(Refusal::StillStopping),
        S::Stopped | S::Succeeded | S::Failed => return Err(Refusal::Ended),
        S::Pending => true,
        S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => false,
    };
    let is_of_the_beginning =
        |name: &ContainerName| instance.spec.container(name).is_some_and(|spec| spec.kind == ContainerKind::Init);
    if container.is_some_and(is_of_the_beginning) {
        return Err(Refusal::Beginning);
    }
    if waits && !pull {
        return Ok(None);
    }
    let mut draft = Draft::of(instance, now);
    if matches!(instance.state, S::Scheduled | S::Pulling | S::Starting | S::Running) {
        // What was said of an image that could not be had was said of the try before this one.
        draft.instance.message = None;
    }
    let known = &mut draft.instance.containers;
    for status in known.iter_mut().filter(|status| container.is_none_or(|one| *one == status.name)) {
        make_outdated(instance, status, pull);
        status.asks_registry |= pull;
    }
    let what = container.map_or_else(|| "all containers".to_owned(), ToString::to_string);
    let how = if pull { ", with what its image reference means now" } else { "" };
    let how = if is_moving { format!("{how}; it begins anew where it is placed") } else { how.to_owned() };
    draft.event_by(EventKind::RestartRequested, now, format!("restart of {what} requested{how}"), Some(actor));
    Ok(Some(draft.finish()))
}

/// What its image references meant is asked again at its next start. None when it is anyhow.
pub fn forget_images(instance: &Instance, now: Timestamp) -> Option<Change> {
    if instance.containers.iter().all(|status| status.image_digest.is_none() && status.asks_registry) {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    for status in &mut draft.instance.containers {
        make_outdated(instance, status, true);
        status.asks_registry = true;
    }
    Some(draft.finish())
}

/// What is said later of a lower revision, for example what its image means, is not believed any more. `instance` is the record
/// before. While no node has anything of it there is no run that could be out of date.
pub(super) fn make_outdated(instance: &Instance, status: &mut ContainerStatus, forgets_image: bool) {
    if instance.holds_resources {
        status.revision = status.revision.saturating_add(1);
        status.is_due = !instance.state.is_settled() && status.run_since(instance.first_run).is_some();
    }
    status.restart_at = None;
    if forgets_image {
        status.image_digest = None;
    }
}
