//! What the tests of several commands need.

use wherry_api_types::{
    Architecture, Container, ContainerSpec, ContainerState, Cost, DrainThen, Instance, InstanceSpec, InstanceState,
    Node, NodeCapacity, NodeDrain, NodeState,
};

/// An instance that runs.
pub(super) fn instance(name: &str) -> Instance {
    let image = "registry.example/team/web:1".to_owned();
    let spec = ContainerSpec {
        image: image.clone(),
        cpu: Some("250m".into()),
        memory: Some("64Mi".into()),
        ..ContainerSpec::default()
    };
    Instance {
        id: "0190f1c2-6f0e-7cc3-98c4-dc0c0c07398f".into(),
        name: name.into(),
        project: "default".into(),
        generation: 1,
        state: InstanceState::Running,
        reason: None,
        message: None,
        asked_by: None,
        fqdn: format!("{name}.4kq.local.wherry.internal"),
        address: Some("10.77.0.2".into()),
        progress: None,
        ready: true,
        containers: vec![Container {
            name: "main".into(),
            image,
            image_digest: None,
            state: ContainerState::Running,
            ready: true,
            restart_count: 0,
            asked_restart_count: 0,
            restart_at: None,
            runs: Vec::new(),
        }],
        init_containers: Vec::new(),
        cost: Cost { so_far: "0.000125".into(), per_hour: "0.0092304".into(), currency: "USD".into() },
        spec: InstanceSpec { containers: vec![spec], ..InstanceSpec::default() },
        created_at: "2026-03-01T00:00:00Z".into(),
        updated_at: "2026-03-01T00:00:01Z".into(),
        started_at: Some("2026-03-01T00:00:01Z".into()),
        finished_at: None,
        expires_at: None,
        next_runs: Vec::new(),
        waiting_run: None,
        last_run: None,
        deleted_at: None,
    }
}

/// A machine that takes new instances.
pub(super) fn node(name: &str) -> Node {
    Node {
        id: format!("n-{name}"),
        name: name.into(),
        architecture: Architecture::Amd64,
        isolation: vec![wherry_api_types::Isolation::Shared],
        state: NodeState::Ready,
        capacity: NodeCapacity { cpu_millis: 2000, memory_mib: 4096, instances: 100 },
        used: NodeCapacity { cpu_millis: 500, memory_mib: 1024, instances: 2 },
        zone: None,
        disk: None,
        sole_tenant_id: None,
        gpus: None,
        overcommit: None,
        address_range: "10.77.0.0/16".into(),
        underlay: None,
        proof_at: "2026-03-01T00:00:00Z".into(),
        silent_seconds: None,
        drain: None,
    }
}

/// A drain that is done.
pub(super) fn drain() -> NodeDrain {
    NodeDrain {
        asked_at: "2026-03-01T00:00:00Z".into(),
        grace_until: "2026-03-01T00:00:30Z".into(),
        then: DrainThen::Move,
        left: 0,
        moving: 0,
        stopping: 0,
        staying: 0,
        gone: 0,
        waits_for_node: false,
    }
}
