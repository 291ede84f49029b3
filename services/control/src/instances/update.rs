//! Another spec for an instance that is there.

use wherry_model::lifecycle::{self, NotInPlace, Refusal, UpdatePlan};
use wherry_model::{
    Capacity, Demand, Generation, Instance, InstanceSpec, NodeRecord, Principal, ProjectName, Scope, Timestamp,
};

use super::life::refused;
use crate::effects::Written;
use crate::{Control, DryRun, Error, InstanceView, lock};

/// Lost races that an update survives before it is given up.
const MAX_ATTEMPTS: u32 = 16;

/// What an update would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePreview {
    /// What changes, and which containers that restarts.
    pub plan: UpdatePlan,
    /// What it would cost afterwards, and whether its machine has room for that.
    pub dry_run: DryRun,
}

impl Control {
    /// Gives the instance the spec that `edit` makes of its record. `edit` is called again when somebody else was faster, so that
    /// what they changed is not lost.
    pub async fn update_instance<E, F>(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        if_match: Option<Generation>,
        edit: F,
    ) -> Result<InstanceView, E>
    where
        E: From<Error> + Send,
        F: FnMut(&Instance) -> Result<InstanceSpec, E> + Send,
    {
        Self::require(principal, Scope::InstancesWrite)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let after = self.change_spec(principal, instance, if_match, edit).await?;
        Ok(self.view(after).await?)
    }

    /// Says what that would do. Changes nothing.
    pub async fn preview_update<E, F>(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        if_match: Option<Generation>,
        edit: F,
    ) -> Result<UpdatePreview, E>
    where
        E: From<Error> + Send,
        F: FnOnce(&Instance) -> Result<InstanceSpec, E> + Send,
    {
        Self::require(principal, Scope::InstancesWrite)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        require_version(&instance, if_match)?;
        let spec = self.settled_secrets(&instance, edit(&instance)?);
        Ok(self.previewed(&instance, &spec).await?)
    }

    async fn previewed(&self, instance: &Instance, spec: &InstanceSpec) -> Result<UpdatePreview, Error> {
        self.check_spec(spec)?;
        spec.check_secrets_are_given()?;
        let plan = lifecycle::plan_update(instance, spec).map_err(|why| not_in_place(why, instance))?;
        self.proof_before(&plan, instance).await?;
        let demand = spec.demand();
        let offered = self.check_other_class(instance, spec).err().map(|error| error.to_string());
        let why_not = match instance.node.filter(|_| plan.resizes) {
            _ if offered.is_some() => offered,
            Some(node) => {
                let row = self.store().node(node).await?;
                let fits = row.is_some_and(|row| room_beside(&row, instance.demand()).holds(demand));
                (!fits).then(|| no_room().to_string())
            }
            // With a schedule it needs no room before its time.
            None if instance.holds_resources || spec.schedule.is_some() => None,
            None => {
                let demand = Demand { tenant: Some(instance.tenant), ..demand };
                lock(&self.inner.fleet).why_not(&demand, &spec.terms(instance.tenant))
            }
        };
        let book = self.inner.config.price_book.of(demand.spot);
        let dry_run = DryRun {
            price_per_hour: wherry_metering::per_hour(&demand, &book),
            currency: book.currency,
            fits: why_not.is_none(),
            why_not,
            next_runs: self.next_runs(spec),
        };
        Ok(UpdatePreview { plan, dry_run })
    }

    pub(super) async fn change_spec<E, F>(
        &self,
        principal: &Principal,
        mut instance: Instance,
        if_match: Option<Generation>,
        mut edit: F,
    ) -> Result<Instance, E>
    where
        E: From<Error> + Send,
        F: FnMut(&Instance) -> Result<InstanceSpec, E> + Send,
    {
        let actor = principal.subject.to_string();
        for _ in 0..MAX_ATTEMPTS {
            require_version(&instance, if_match)?;
            let spec = self.settled_secrets(&instance, edit(&instance)?);
            self.check_spec(&spec)?;
            spec.check_secrets_are_given().map_err(Error::from)?;
            let plan = lifecycle::plan_update(&instance, &spec).map_err(|why| not_in_place(why, &instance))?;
            self.check_other_class(&instance, &spec)?;
            let proof_at = self.proof_before(&plan, &instance).await?;
            let change = lifecycle::update_proved(&instance, &spec, &actor, proof_at, self.now());
            let Some(change) = change.map_err(|why| not_in_place(why, &instance))? else { return Ok(instance) };
            self.refuse_while_mixed("changes of what is there")?;
            self.require_able_node(&instance, &change.after).await?;
            let resized = change.takes;
            match self.write(change, None).await? {
                Written::Yes(after) => {
                    if let Some(node) = resized
                        && let Err(error) = self.learn_node(node).await
                    {
                        tracing::debug!(%node, %error, "the picture of the fleet is behind, it is renewed by itself");
                    }
                    return Ok(*after);
                }
                Written::LostRace => instance = self.reread(instance.id).await?,
                Written::NodeRefused => return Err(no_room().into()),
            }
        }
        Err(Error::unavailable("the instance is being changed by many at once").into())
    }

    /// Refuses another class than it has that no machine offers. What it has it keeps, whatever has become of the machines.
    fn check_other_class(&self, instance: &Instance, spec: &InstanceSpec) -> Result<(), Error> {
        if instance.spec.isolation == spec.isolation { Ok(()) } else { self.check_offered(spec) }
    }

    /// Until when it is proved that what the plan resizes was there to run. Refused while its machine proves nothing: what it
    /// may have used meanwhile would be metered with amounts of another time.
    async fn proof_before(&self, plan: &UpdatePlan, instance: &Instance) -> Result<Timestamp, Error> {
        let now = self.now();
        let Some(node) = instance.node.filter(|_| plan.resizes) else { return Ok(now) };
        let Some(row) = self.store().node(node).await? else { return Ok(now) };
        // After an outage of every replica nobody has been silent for long, and nothing of that time is proved.
        let silent_for = lock(&self.inner.watch).silent_for(node).max(now.since(row.proof_at));
        if silent_for > self.inner.config.detection {
            return Err(refused(Refusal::Silent, instance));
        }
        Ok(row.proof_at.min(now))
    }

    /// An agent of an older contract would not see what it is asked for: nobody is told that it was done.
    pub(super) async fn require_able_node(&self, before: &Instance, after: &Instance) -> Result<(), Error> {
        let Some(node) = after.node.filter(|_| after.holds_resources) else { return Ok(()) };
        let revisions =
            |instance: &Instance| -> Vec<u32> { instance.containers.iter().map(|one| one.revision).collect() };
        let restarts = revisions(before) != revisions(after);
        let least = after.spec.least_protocol().max(if restarts { NodeRecord::PROTOCOL_OF_REVISIONS } else { 0 });
        let seen = lock(&self.inner.watch).record(node).map(|record| record.protocol);
        let spoken = match seen {
            Some(spoken) => Some(spoken),
            None => self.store().node(node).await?.map(|record| record.protocol),
        };
        if spoken.is_none_or(|spoken| spoken >= least.min(wherry_agent_api::PROTOCOL)) {
            return Ok(());
        }
        let message = "its machine runs an older release that cannot do this to what runs: stop the instance first, then start it";
        Err(Error::conflict("machine_too_old", message))
    }
}

/// Whether the instance is as the caller has read it.
pub(super) fn require_version(instance: &Instance, if_match: Option<Generation>) -> Result<(), Error> {
    match if_match {
        Some(wanted) if wanted != instance.version() => Err(Error::GenerationMismatch(instance.version().0)),
        _ => Ok(()),
    }
}

/// What the node would have free if it did not hold `demand`.
fn room_beside(row: &NodeRecord, demand: Demand) -> Capacity {
    let held =
        Capacity { cpu_millis: u64::from(demand.cpu.get()), memory_mib: u64::from(demand.memory.get()), instances: 1 };
    row.capacity.minus(row.used.minus(held))
}

fn no_room() -> Error {
    let message = "its machine has no room for that beside the others, or takes nothing new: stop the instance, change it and \
                   start it, which finds another machine, or ask for less";
    Error::CapacityUnavailable(message.to_owned())
}

fn not_in_place(why: NotInPlace, instance: &Instance) -> Error {
    match why {
        NotInPlace::Fixed(field) => Error::NotInPlace { field, name: instance.name.to_string() },
        NotInPlace::Forever(field) => {
            let name = &instance.name;
            let message = format!(
                "{field} stays as long as {name} is there: leave it as it is, or delete {name} and create it anew"
            );
            Error::NotChangeable { field, message }
        }
        NotInPlace::Refused(refusal) => refused(refusal, instance),
    }
}
