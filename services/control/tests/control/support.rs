//! Short ways to say what the tests say often.

use std::time::Duration;

use wherry_control::{Control, CreateInstance, Created, Error, InstanceView};
use wherry_model::{Capacity, InstanceName, InstanceSpec, InstanceState, NodeId};
use wherry_testkit::{Stack, Tenant};

/// A create with a key.
pub(crate) fn keyed(name: Option<&str>, spec: InstanceSpec, key: &str) -> CreateInstance {
    CreateInstance { idempotency_key: Some(key.to_owned()), ..asked(name, spec) }
}

/// A create in the project `default`.
pub(crate) fn asked(name: Option<&str>, spec: InstanceSpec) -> CreateInstance {
    CreateInstance {
        project: "default".parse().unwrap(),
        name: name.map(|name| InstanceName::new(name).unwrap()),
        spec,
        idempotency_key: None,
    }
}

pub(crate) async fn create(control: &Control, tenant: &Tenant, request: CreateInstance) -> Result<Created, Error> {
    control.create_instance(&tenant.principal, request).await
}

pub(crate) async fn stop(stack: &Stack, tenant: &Tenant, name: &str) -> Result<InstanceView, Error> {
    stack.control().stop_instance(&tenant.principal, &tenant.project, name).await
}

pub(crate) async fn start(stack: &Stack, tenant: &Tenant, name: &str) -> Result<InstanceView, Error> {
    stack.control().start_instance(&tenant.principal, &tenant.project, name).await
}

pub(crate) async fn delete(stack: &Stack, tenant: &Tenant, name: &str) -> Result<InstanceView, Error> {
    stack.control().delete_instance(&tenant.principal, &tenant.project, name).await
}

pub(crate) async fn state(stack: &Stack, tenant: &Tenant, name: &str) -> InstanceState {
    stack.read(tenant, name).await.instance.state
}

/// What the node's row has handed out.
pub(crate) async fn used(stack: &Stack, node: NodeId) -> Capacity {
    stack.store().node(node).await.unwrap().unwrap().used
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Lets every reconciler work twice: what one does by the other's work is done then.
pub(crate) async fn work(stack: &Stack) {
    stack.background().await;
    stack.background().await;
}
