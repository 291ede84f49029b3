//! Creating an instance: decide a place, then let the node's row be the referee, in one transaction with everything else.

use sha2::{Digest, Sha256};
use wherry_model::lifecycle::{self, Birth};
use wherry_model::{
    Demand, Instance, InstanceId, InstanceName, InstanceSpec, Principal, ProjectName, Scope, SpecError,
};
use wherry_store::{CreateOutcome, Placed, ProjectRecord};

use crate::fleet::Reservation;
use crate::{Control, Error, InstanceView, lock};

/// Proposals that may be refused by a node's row before the create is given up. Each refusal teaches the index.
const MAX_PROPOSALS: u32 = 5;

/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// A create as a tenant asks for it.
#[derive(Debug, Clone)]
pub struct CreateInstance {
    /// In which project.
    pub project: ProjectName,
    /// Its name; a generated one when absent.
    pub name: Option<InstanceName>,
    /// What to run.
    pub spec: InstanceSpec,
    /// Makes it safe to ask again: the same key and request get the same instance.
    pub idempotency_key: Option<String>,
}

/// What a create gives.
#[derive(Debug, Clone)]
pub struct Created {
    /// The instance.
    pub view: InstanceView,
    /// Whether the idempotency key had made it before.
    pub replayed: bool,
}

impl Control {
    /// Creates an instance. When it returns, the instance is stored and its resources are reserved.
    pub async fn create_instance(&self, principal: &Principal, request: CreateInstance) -> Result<Created, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        self.check_spec(&request.spec)?;
        request.spec.check_secrets_are_given()?;
        let project = self.project_of(principal, &request.project).await?;
        let idempotency = match &request.idempotency_key {
            Some(key) => Some((check_key(key)?, fingerprint(&project, request.name.as_ref(), &request.spec)?)),
            None => None,
        };
        // Whether the key was used is decided by the transaction, and looked up only where a create does not come to one: what was made
        // before stays made, also when its name is in use by then or there is no room for another.
        // Boxed: callers hold the future of a create on their stacks.
        let placing = self.place_and_create(principal, &project, request.name, request.spec, idempotency.as_ref());
        let (instance, replayed) = match (Box::pin(placing).await, &idempotency) {
            (Ok(placed), _) => placed,
            (Err(error), None) => return Err(error),
            (Err(error), Some(asked)) => match self.made_before(principal, asked).await? {
                Some(instance) => (instance, true),
                None => return Err(error),
            },
        };
        let view = if replayed { self.view(instance).await? } else { self.view_of_new(instance) };
        Ok(Created { view, replayed })
    }

    /// What the key made, if it was used for the same.
    async fn made_before(
        &self,
        principal: &Principal,
        (key, fingerprint): &(String, [u8; 32]),
    ) -> Result<Option<Instance>, Error> {
        let Some(record) = self.store().idempotency(principal.tenant, key).await? else { return Ok(None) };
        if record.fingerprint != *fingerprint {
            return Err(Error::IdempotencyMismatch);
        }
        let instance = self.store().instance(principal.tenant, record.instance).await?;
        instance.map(Some).ok_or_else(|| Error::NotFound("the instance that this key made".to_owned()))
    }

    /// Refuses a spec that is wrong, or that this service does not offer.
    pub(crate) fn check_spec(&self, spec: &InstanceSpec) -> Result<(), Error> {
        spec.check()?;
        if !self.inner.config.allow_limits_above_request {
            spec.check_limits_are_reserved()?;
        }
        Ok(())
    }

    /// Refuses what no machine of the fleet offers: waiting does not help.
    pub(super) fn check_offered(&self, spec: &InstanceSpec) -> Result<(), Error> {
        let wanted = spec.isolation;
        let offered = if wanted.is_shared() { None } else { lock(&self.inner.fleet).offered_isolation() };
        if let Some(zone) = spec.zone {
            let zones = lock(&self.inner.fleet).zones();
            if !zones.contains(&zone) {
                let there: Vec<_> = zones.iter().map(ToString::to_string).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                return Err(SpecError::new("zone", format!("there is no zone {zone} here; there is: {there}")).into());
            }
        }
        if let Some(asked) = &spec.gpu {
            let there = lock(&self.inner.fleet).gpus();
            if there.is_empty() {
                return Err(SpecError::new("gpu", "no machine here has a GPU").into());
            }
            if asked.model.is_some() && !there.contains(&asked.model) {
                let kinds: Vec<_> = there.iter().flatten().map(ToString::to_string).collect();
                let kinds = if kinds.is_empty() { "none that is named".to_owned() } else { kinds.join(", ") };
                let message = format!("no machine here has such a GPU; there is: {kinds}");
                return Err(SpecError::new("gpu.model", message).into());
            }
        }
        match offered {
            Some(offered) if !offered.has(wanted) => {
                let message = format!("no machine here offers {wanted}; there is: {offered}");
                Err(SpecError::new("isolation", message).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn place_and_create(
        &self,
        principal: &Principal,
        project: &ProjectRecord,
        name: Option<InstanceName>,
        spec: InstanceSpec,
        idempotency: Option<&(String, [u8; 32])>,
    ) -> Result<(Instance, bool), Error> {
        let id = InstanceId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref());
        let name = match name {
            Some(name) => name,
            None => self.generated_name()?,
        };
        self.check_offered(&spec)?;
        if !spec.is_of_the_first_release() {
            self.refuse_while_mixed("what the release before does not know")?;
        }
        let birth = Birth {
            id,
            tenant: principal.tenant,
            project: project.id,
            project_name: project.name.clone(),
            name: name.clone(),
            spec,
            node: None,
            actor: principal.subject.to_string(),
        };
        let demand = Demand { tenant: Some(birth.tenant), ..birth.spec.demand() };
        let terms = birth.spec.terms(birth.tenant);
        for _ in 0..MAX_PROPOSALS {
            // One with a schedule begins at its time, and finds its place then.
            let reservation = match birth.spec.schedule {
                Some(_) => None,
                None => match self.propose(id, &demand, &terms) {
                    Ok(reservation) => Some(reservation),
                    // Nobody makes room for what was made before, or for what would be refused all the same.
                    Err(full) => {
                        if let Some(asked) = idempotency
                            && let Some(instance) = self.made_before(principal, asked).await?
                        {
                            return Ok((instance, true));
                        }
                        let unplaced = lifecycle::create(birth, self.now()).after;
                        return Err(match self.store().taken(&unplaced).await? {
                            Some(taken) => names_taken(&taken, &unplaced),
                            None => self.made_room(&demand, &terms, full).await?,
                        });
                    }
                },
            };
            let node = reservation.as_ref().map(Reservation::node);
            let change = lifecycle::create(Birth { node, ..birth.clone() }, self.now());
            let placed = Placed { change, idempotency: idempotency.cloned() };
            match self.write_new(placed, reservation).await? {
                CreateOutcome::Created(instance) => return Ok((*instance, false)),
                CreateOutcome::Replayed(instance) => return Ok((*instance, true)),
                CreateOutcome::KeyReused => return Err(Error::IdempotencyMismatch),
                taken @ (CreateOutcome::NameTaken | CreateOutcome::DnsNameTaken) => {
                    return Err(names_taken(&taken, &lifecycle::create(birth, self.now()).after));
                }
                CreateOutcome::NodeRefused => {
                    if let Some(node) = node {
                        self.row_refused(node).await?;
                    }
                }
            }
        }
        Err(Error::CapacityUnavailable("the machines that had room were taken while this was decided".to_owned()))
    }

    /// A name for who gave none: short, and free unless 40 random bits say otherwise.
    fn generated_name(&self) -> Result<InstanceName, Error> {
        let mut random = [0_u8; 5];
        self.inner.entropy.fill(&mut random);
        let text = data_encoding::BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        InstanceName::new(format!("i-{text}")).map_err(|error| Error::internal(error.to_string()))
    }
}

fn names_taken(taken: &CreateOutcome, asked: &Instance) -> Error {
    match taken {
        CreateOutcome::DnsNameTaken => Error::DnsLabelTaken(asked.dns_label().to_owned()),
        _ => Error::NameTaken(asked.name.to_string()),
    }
}

pub(super) fn check_key(key: &str) -> Result<String, SpecError> {
    let right = (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if right {
        Ok(key.to_owned())
    } else {
        Err(SpecError::new("Idempotency-Key", "give 1 to 255 printable ASCII characters, for example a UUID"))
    }
}

/// What makes two requests the same: project, name and spec, not the way they were written down.
pub(super) fn fingerprint(
    project: &ProjectRecord,
    name: Option<&InstanceName>,
    spec: &InstanceSpec,
) -> Result<[u8; 32], Error> {
    let asked = serde_json::to_vec(&(project.id, name, spec))
        .map_err(|error| Error::internal(format!("a spec cannot be written as JSON: {error}")))?;
    Ok(Sha256::digest(asked).into())
}
