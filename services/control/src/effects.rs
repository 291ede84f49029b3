//! What follows from a committed change: the projections in memory are told. Never before the commit, and losing it to
//! a crash loses nothing: all of it is read again at start.

use wherry_model::lifecycle::Change;

use crate::{Control, lock};

impl Control {
    pub(crate) fn after_commit(&self, change: &Change) {
        let instance = &change.after;
        if let Some(node) = change.releases {
            lock(&self.inner.fleet).release(node, instance.spec.demand());
        }
        self.inner.zone.observe(instance, || self.inner.config.fqdn(instance));
    }
}
