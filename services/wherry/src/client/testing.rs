//! What the tests of several commands need.

use wherry_api_types::{Container, ContainerSpec, ContainerState, Cost, Instance, InstanceSpec, InstanceState};

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
        fqdn: format!("{name}.4kq.local.wherry.internal"),
        address: Some("10.77.0.2".into()),
        progress: None,
        containers: vec![Container {
            name: "main".into(),
            image,
            image_digest: None,
            state: ContainerState::Running,
            restart_count: 0,
            restart_at: None,
            runs: Vec::new(),
        }],
        cost: Cost { so_far: "0.000125".into(), per_hour: "0.0092304".into(), currency: "USD".into() },
        spec: InstanceSpec { containers: vec![spec], ..InstanceSpec::default() },
        created_at: "2026-03-01T00:00:00Z".into(),
        updated_at: "2026-03-01T00:00:01Z".into(),
        started_at: Some("2026-03-01T00:00:01Z".into()),
        finished_at: None,
        deleted_at: None,
    }
}
