//! The machines: rows that nobody stands behind.

use std::net::Ipv4Addr;

use rand::RngExt as _;
use rand::rngs::StdRng;
use wherry_agent_api::{ControlPlane as _, NodeHello};
use wherry_control::Control;
use wherry_model::{
    Architecture, BootId, Capacity, GpuOffer, IsolationSet, JournalId, NodeId, Principal, ScopeSet, Subject, TenantId,
};

use crate::{MEAN_CPU, RealClock, RealEntropy};

pub(crate) const MACHINES: u32 = 1_000;
pub(crate) const ROOM: Capacity = Capacity { cpu_millis: 96_000, memory_mib: 256 * 1_024, instances: 500 };

/// How full the fleet is in the end, in hundredths of its CPU.
const FULL_PERCENT: u64 = 88;

pub(crate) async fn join(control: &Control) {
    for number in 0..MACHINES {
        let [_, _, second, third] = (number + (1 << 15)).to_be_bytes();
        let hello = NodeHello {
            node: NodeId::generate(&RealClock, &RealEntropy),
            name: format!("node-{number}"),
            architecture: Architecture::Amd64,
            capacity: ROOM,
            range: (Ipv4Addr::new(10, second, third, 0), 24),
            boot: BootId::generate(&RealClock, &RealEntropy),
            journal: JournalId::generate(&RealClock, &RealEntropy),
            desired_revision: None,
            underlay: None,
            isolation: IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: GpuOffer::default(),
            images: Vec::new(),
            protocol: wherry_agent_api::PROTOCOL,
        };
        control.hello(hello).await.unwrap();
    }
}

/// What is there before `creates` of the usual sizes come, so that the fleet is [`FULL_PERCENT`] full in the end: one large one for each
/// machine, no two alike.
pub(crate) fn ballast(random: &mut StdRng, creates: u64) -> Vec<(u32, u32)> {
    let all = u64::from(MACHINES) * ROOM.cpu_millis;
    let each = (all * FULL_PERCENT / 100).saturating_sub(creates * MEAN_CPU) / u64::from(MACHINES);
    let spread = each.min(ROOM.cpu_millis - each) / 2;
    let mut sizes: Vec<(u32, u32)> = (0..MACHINES)
        .map(|_| {
            let cpu = random.random_range(each - spread..=each + spread);
            (u32::try_from(cpu).unwrap(), u32::try_from(cpu * 5 / 2).unwrap())
        })
        .collect();
    // The largest first: each gets a machine of its own then.
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes
}

/// No machine has handed out more than it has.
pub(crate) async fn check(control: &Control) {
    let tenant = TenantId::generate(&RealClock, &RealEntropy);
    let subject = Subject::External { issuer: "bench".to_owned(), subject: "operator".to_owned() };
    let operator = Principal { tenant, subject, scopes: ScopeSet::all() };
    for node in control.node_statuses(&operator).await.unwrap() {
        let (used, has) = (node.record.used, node.record.capacity);
        assert!(
            used.cpu_millis <= has.cpu_millis && used.memory_mib <= has.memory_mib && used.instances <= has.instances,
            "{} has handed out {used:?} of {has:?}",
            node.record.name
        );
    }
}
