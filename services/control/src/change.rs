//! Writing a change: computed from a record, guarded by its revision, computed again when somebody was faster.

use wherry_model::lifecycle::Change;
use wherry_model::{Instance, InstanceId};

use crate::effects::Written;
use crate::{Control, Error};

/// How often a lost race is run again. Each loss means that somebody else made progress.
const MAX_ATTEMPTS: u32 = 16;

impl Control {
    /// Applies what `compute` makes of the instance's present record; `None` from it means that nothing has to change.
    /// Returns the record afterwards.
    pub(crate) async fn change_instance<F>(&self, mut instance: Instance, mut compute: F) -> Result<Instance, Error>
    where
        F: FnMut(&Instance) -> Result<Option<Change>, Error> + Send,
    {
        for _ in 0..MAX_ATTEMPTS {
            let Some(change) = compute(&instance)? else { return Ok(instance) };
            match self.write(change, None).await? {
                Written::Yes(after) => return Ok(*after),
                Written::LostRace => instance = self.reread(instance.id).await?,
                Written::NodeRefused => return Err(Error::internal("a node refused a change that takes nothing")),
            }
        }
        Err(Error::unavailable("the instance is being changed by many at once"))
    }

    pub(crate) async fn reread(&self, id: InstanceId) -> Result<Instance, Error> {
        let found = self.store().instance_of_any_tenant(id).await?;
        found.ok_or_else(|| Error::NotFound(format!("the instance {id}")))
    }
}
