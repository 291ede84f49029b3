//! What a create would cost and whether it would fit, without creating.

use wherry_model::{Demand, InstanceName, InstanceSpec, PicoAmount, Principal, ProjectName, Scope, Timestamp};

use crate::{Control, Error, lock};

/// The answer to a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// What an hour of running costs.
    pub price_per_hour: PicoAmount,
    /// ISO 4217.
    pub currency: String,
    /// Whether it would be accepted now.
    pub fits: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// The next times at which its schedule would start it, at most [`NEXT_RUNS`].
    pub next_runs: Vec<Timestamp>,
}

/// The times of a schedule that are told ahead.
pub const NEXT_RUNS: usize = 5;

impl Control {
    /// Says what would happen; stores nothing, reserves nothing.
    pub async fn dry_run(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: Option<&InstanceName>,
        spec: &InstanceSpec,
    ) -> Result<DryRun, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        self.check_spec(spec)?;
        spec.check_secrets_are_given()?;
        let project = self.project_of(principal, project).await?;
        let taken = match name {
            Some(name) => self.store().instance_by_name(principal.tenant, project.id, name).await?.is_some(),
            None => false,
        };
        let offered = self.check_offered(spec).err().map(|error| error.to_string());
        let why_not = match name {
            Some(name) if taken => Some(Error::NameTaken(name.to_string()).to_string()),
            _ if offered.is_some() => offered,
            // It needs no room before its time.
            _ if spec.schedule.is_some() => None,
            _ => {
                let demand = Demand { tenant: Some(principal.tenant), ..spec.demand() };
                lock(&self.inner.fleet).why_not(&demand, &spec.terms(principal.tenant))
            }
        };
        let book = self.inner.config.price_book.of(spec.demand().spot);
        Ok(DryRun {
            price_per_hour: wherry_metering::per_hour(&spec.demand(), &book),
            currency: book.currency,
            fits: why_not.is_none(),
            why_not,
            next_runs: self.next_runs(spec),
        })
    }

    pub(super) fn next_runs(&self, spec: &InstanceSpec) -> Vec<Timestamp> {
        let schedule = spec.schedule.as_ref().filter(|schedule| !schedule.suspended);
        schedule.map(|schedule| schedule.times_after(self.now()).take(NEXT_RUNS).collect()).unwrap_or_default()
    }
}
