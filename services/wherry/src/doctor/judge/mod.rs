//! What the facts mean, and how to mend what is wrong. Pure.

mod engine;
mod fleet;
mod network;
mod resources;
mod system;

use crate::cli::Role;

use super::host::{Essentials, Host, Plane};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Nothing to do, good to know.
    Note,
    /// Works, but not as well or as safely as it could.
    Warning,
    /// The role or its instances will not work.
    Failure,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) topic: &'static str,
    /// What was found.
    pub(super) says: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
    /// Debian packages that would mend it.
    pub(super) packages: Vec<&'static str>,
}

impl Finding {
    fn new(verdict: Verdict, topic: &'static str, says: impl Into<String>) -> Self {
        Self { verdict, topic, says: says.into(), mend: None, packages: Vec::new() }
    }

    fn ok(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, topic, says)
    }

    fn note(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Note, topic, says)
    }

    fn warning(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, topic, says)
    }

    fn failure(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(Verdict::Failure, topic, says)
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    fn packages(mut self, packages: &[&'static str]) -> Self {
        self.packages.extend(packages);
        self
    }

    pub(super) fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failure
    }
}

/// Every finding, in the order in which a person would mend things.
pub(super) fn everything(host: &Host) -> Vec<Finding> {
    let mut findings = system::privileges(&host.privileges);
    findings.push(system::kernel(&host.kernel));
    findings.extend(system::cgroups(&host.cgroups));
    findings.extend(engine::programs(&host.programs));
    findings.extend(engine::vulnerabilities(&host.programs));
    if host.privileges.is_root {
        findings.extend([
            system::overlay(&host.overlay),
            network::namespace(&host.network_namespace),
            network::nft(&host.nft, &host.programs),
        ]);
    } else {
        findings.push(Finding::note("trials", "overlay, network namespaces and nftables are only tried as root"));
    }
    findings.push(network::forwarding(&host.network.forwards, host.role));
    findings.extend(network::range(&host.network, host.role));
    findings.extend(network::ports(&host.network.ports, &host.occupancy));
    findings.extend(resources::disk(&host.disk));
    findings.push(resources::memory(&host.memory));
    findings.push(resources::open_files(host.open_files));
    findings.extend(resources::clock(&host.clock));
    findings.extend(system::mandatory_access_control(&host.kernel));
    findings.extend(resources::occupancy(&host.occupancy, host.role));
    findings.extend(host.store.iter().map(fleet::store));
    if let Some(membership) = &host.membership {
        findings.extend(fleet::membership(membership, host.clock.now));
    }
    findings.extend(resources::health(&host.health, host.role));
    findings
}

/// Every finding about a replica of the control plane.
pub(super) fn plane(seen: &Plane) -> Vec<Finding> {
    let mut findings = network::ports(&seen.ports, &seen.occupancy);
    findings.extend(resources::disk(&seen.disk));
    findings.push(resources::memory(&seen.memory));
    findings.push(resources::open_files(seen.open_files));
    findings.extend(resources::clock(&seen.clock));
    findings.push(fleet::store(&seen.store));
    findings.push(fleet::keys(&seen.keys));
    findings.extend(resources::occupancy(&seen.occupancy, Role::Control));
    findings.extend(resources::health(&seen.health, Role::Control));
    findings
}

/// The findings about what `wherry up` and `wherry node` cannot work without.
pub(super) fn for_start(host: &Essentials) -> Vec<Finding> {
    let mut findings = system::privileges(&host.privileges);
    if !host.privileges.is_root {
        // Without root nothing else can be told apart from it.
        return findings;
    }
    findings.extend(system::cgroups(&host.cgroups));
    findings.extend(engine::programs(&host.programs));
    findings.push(system::overlay(&host.overlay));
    findings.push(network::nft(&host.nft, &host.programs));
    findings.extend(network::range(&host.network, host.role));
    if host.occupancy.holder.is_none() {
        findings.extend(network::ports(&host.network.ports, &host.occupancy));
    }
    findings
}

#[cfg(test)]
mod tests;
