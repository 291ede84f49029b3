//! Which addresses belong to which project, and which projects have something on which node: what a node's packet filter
//! must know of instances elsewhere. A projection beside the names, fed by the same records.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use wherry_agent_api::Neighbours;
use wherry_model::{Instance, InstanceId, InstanceState, NodeId, ProjectId, TenantId};

type Folder = (TenantId, ProjectId);

/// See the module.
#[derive(Default)]
pub(crate) struct Neighbourhood {
    places: BTreeMap<InstanceId, Place>,
    folders: BTreeMap<Folder, BTreeMap<InstanceId, Place>>,
    /// How many instances of which project are on a node.
    on_node: BTreeMap<NodeId, BTreeMap<Folder, u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    folder: Folder,
    node: NodeId,
    /// None until it has a sandbox; its project has something on the node all the same.
    address: Option<Ipv4Addr>,
}

impl Neighbourhood {
    /// Takes note of a record that is newer than what is known; says whether anything has changed by it.
    pub(crate) fn note(&mut self, instance: &Instance) -> bool {
        let here = instance.node.filter(|_| instance.holds_resources && instance.state != InstanceState::Deleted);
        let folder = (instance.tenant, instance.project);
        let after = here.map(|node| Place { folder, node, address: instance.address });
        let before = self.places.get(&instance.id).copied();
        if before == after {
            return false;
        }
        if let Some(place) = before {
            self.remove(instance.id, place);
        }
        if let Some(place) = after {
            self.places.insert(instance.id, place);
            self.folders.entry(place.folder).or_default().insert(instance.id, place);
            *self.on_node.entry(place.node).or_default().entry(place.folder).or_default() += 1;
        }
        true
    }

    fn remove(&mut self, instance: InstanceId, place: Place) {
        self.places.remove(&instance);
        if let Some(members) = self.folders.get_mut(&place.folder) {
            members.remove(&instance);
            if members.is_empty() {
                self.folders.remove(&place.folder);
            }
        }
        if let Some(folders) = self.on_node.get_mut(&place.node) {
            if let Some(count) = folders.get_mut(&place.folder) {
                *count -= 1;
                if *count == 0 {
                    folders.remove(&place.folder);
                }
            }
            if folders.is_empty() {
                self.on_node.remove(&place.node);
            }
        }
    }

    /// Addresses on other nodes of the projects that have something on `node`, in order.
    pub(crate) fn of(&self, node: NodeId) -> Vec<Neighbours> {
        let folders = self.on_node.get(&node).into_iter().flat_map(BTreeMap::keys);
        let neighbours = folders.map(|folder| {
            let members = self.folders.get(folder).into_iter().flat_map(BTreeMap::values);
            let elsewhere = members.filter(|place| place.node != node).filter_map(|place| place.address);
            let mut addresses: Vec<Ipv4Addr> = elsewhere.collect();
            addresses.sort_unstable();
            addresses.dedup();
            Neighbours { tenant: folder.0, project: folder.1, addresses }
        });
        neighbours.filter(|neighbours| !neighbours.addresses.is_empty()).collect()
    }
}
