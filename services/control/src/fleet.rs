//! The picture of the fleet that places are proposed from. The rows of the store are the truth; this picture may be
//! behind them, and learns from each refusal and from a look at the rows every few seconds.

use wherry_model::{Demand, NodeId};
use wherry_placement::{Fleet, FleetChange, Refusal};

use crate::{Control, Error, lock};

/// The placement engine with what happens around it.
#[derive(Default)]
pub(crate) struct FleetIndex {
    fleet: Fleet,
}

impl FleetIndex {
    /// Why `demand` could not be placed now, or none if it could.
    pub(crate) fn why_not(&self, demand: &Demand) -> Option<String> {
        self.fleet.decide(demand).err().map(|refusal| for_tenants(&refusal))
    }

    /// An instance has left `node`.
    pub(crate) fn release(&mut self, node: NodeId, demand: Demand) {
        self.apply(FleetChange::Release { node, demand });
    }

    fn apply(&mut self, change: FleetChange) {
        if let Err(unapplied) = self.fleet.apply(change) {
            tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
        }
    }
}

/// A refusal without the fleet in it: tenants do not learn how many machines there are, or what is on them.
fn for_tenants(refusal: &Refusal) -> String {
    let Demand { cpu, memory, architecture } = refusal.demand;
    let kind = architecture.map(|architecture| format!(" on {architecture}")).unwrap_or_default();
    let way_out = if refusal.fits_an_empty_node {
        "try again later, or ask for less"
    } else {
        "it is more than any machine has, ask for less"
    };
    format!("{cpu} CPU and {memory} memory{kind} are not free; {way_out}")
}

/// A place that is proposed and kept free in the picture, so that creates that are decided at the same time do not all
/// propose the same last gap. Given back when dropped, unless the row has agreed.
pub(crate) struct Reservation {
    control: Control,
    node: NodeId,
    demand: Demand,
    kept: bool,
}

impl Reservation {
    /// Where.
    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    /// The row has agreed.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.control.inner.fleet).release(self.node, self.demand);
        }
    }
}

impl Control {
    /// Proposes a place for `demand`.
    pub(crate) fn propose(&self, demand: &Demand) -> Result<Reservation, Error> {
        let mut index = lock(&self.inner.fleet);
        let placement =
            index.fleet.decide(demand).map_err(|refusal| Error::CapacityUnavailable(for_tenants(&refusal)))?;
        tracing::debug!(node = %placement.node, why = %placement.why, "place proposed");
        index.apply(FleetChange::Reserve { node: placement.node, demand: *demand });
        Ok(Reservation { control: self.clone(), node: placement.node, demand: *demand, kept: false })
    }

    /// Takes the node's row into the picture.
    pub(crate) async fn learn_node(&self, node: NodeId) -> Result<(), Error> {
        let change = match self.store().node(node).await? {
            Some(record) => FleetChange::Node((&record).into()),
            None => FleetChange::Gone(node),
        };
        lock(&self.inner.fleet).apply(change);
        Ok(())
    }

    /// Takes all rows into the picture.
    pub(crate) async fn load_fleet(&self) -> Result<(), Error> {
        let records = self.store().nodes().await?;
        let mut index = lock(&self.inner.fleet);
        for record in &records {
            index.apply(FleetChange::Node(record.into()));
        }
        Ok(())
    }
}
