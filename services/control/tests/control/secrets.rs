//! Secrets: opened for the node that runs the instance, bound to their project, and the same however often they are given.

use wherry_agent_api::ControlPlane as _;
use wherry_control::{Control, Error};
use wherry_model::{EnvVar, InstanceName, InstanceSpec, Sealed};
use wherry_sealing::{Keyring, Place, SealingKey};
use wherry_testkit::{Stack, Tenant, spec};

fn with(secret: Sealed) -> InstanceSpec {
    let mut spec = spec();
    spec.containers[0].env.push(EnvVar { name: "TOKEN".to_owned(), value: String::new(), secret: Some(secret) });
    spec
}

fn sealed(keys: &Keyring, tenant: &Tenant, plain: &str) -> Sealed {
    keys.seal(&Place::of_project(tenant.record.id, &tenant.project), plain).unwrap()
}

/// What the node is told, by instance and secret.
async fn told(stack: &Stack, control: &Control) -> Vec<(String, Option<String>)> {
    let desired = control.desired(stack.agent().node(), None).await.unwrap().unwrap();
    let one = |instance: &wherry_agent_api::DesiredInstance| {
        let token = instance.containers[0].spec.env.iter().find_map(|variable| variable.secret.clone());
        let opened = token.and_then(|token| instance.more.secrets.get(&token).cloned());
        (instance.name.to_string(), opened.map(|secret| secret.expose().to_owned()))
    };
    let mut told: Vec<_> = desired.instances.iter().map(one).collect();
    told.sort();
    told
}

async fn put(control: &Control, tenant: &Tenant, spec: InstanceSpec) -> Result<u64, Error> {
    let name = InstanceName::new("web").unwrap();
    let put = control.put_instance(&tenant.principal, &tenant.project, name, spec, None, None).await?;
    Ok(put.view.instance.version().0)
}

#[tokio::test]
async fn a_secret_is_opened_for_its_node_and_in_its_project_alone() {
    let stack = Stack::start().await;
    let token = sealed(stack.control().keyring(), stack.acme(), "hush");
    stack.create(stack.acme(), "web", with(token.clone())).await;
    // Somebody who can write the store copies it into an instance of another tenant.
    stack.create(stack.blue(), "thief", with(token)).await;
    let expected = [("thief".to_owned(), None), ("web".to_owned(), Some("hush".to_owned()))];
    assert_eq!(told(&stack, stack.control()).await, expected);
    // A replica without the key keeps nothing else from the node.
    let without = stack.replica_with(&std::sync::Arc::default(), |config| config.sealing = Keyring::default()).await;
    assert_eq!(told(&stack, &without).await, [("thief".to_owned(), None), ("web".to_owned(), None)]);
    let view = stack.read(stack.acme(), "web").await;
    assert!(!format!("{:?}", view.instance).contains("w1."), "{view:?}");
}

#[tokio::test]
async fn the_same_secret_changes_nothing_also_under_another_key() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    let first = sealed(control.keyring(), acme, "hush");
    assert_eq!(put(control, acme, with(first.clone())).await.unwrap(), 1);
    assert_eq!(put(control, acme, with(sealed(control.keyring(), acme, "hush"))).await.unwrap(), 1);
    let text = control.keyring().to_file();
    let newer = Keyring::of(SealingKey::generate("2", stack.entropy().as_ref())).to_file();
    let both = Keyring::parse(&format!("{}{}", text.as_str(), newer.as_str())).unwrap();
    let replica = stack.replica_with(&std::sync::Arc::default(), |config| config.sealing = both).await;
    let again = sealed(replica.keyring(), acme, "hush");
    assert_ne!(again, first);
    assert_eq!(put(&replica, acme, with(again)).await.unwrap(), 1, "it says what it said");
    assert_eq!(put(&replica, acme, with(Sealed::kept())).await.unwrap(), 1, "it is kept");
    assert_eq!(put(&replica, acme, with(sealed(replica.keyring(), acme, "other"))).await.unwrap(), 2);
    assert_eq!(told(&stack, &replica).await, [("web".to_owned(), Some("other".to_owned()))]);
}

#[tokio::test]
async fn what_is_to_be_kept_must_be_there() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    let missing = put(control, acme, with(Sealed::kept())).await.unwrap_err();
    assert_eq!(missing.field(), Some("containers[0].env[0].secret"));
    put(control, acme, spec()).await.unwrap();
    let missing = put(control, acme, with(Sealed::kept())).await.unwrap_err();
    assert_eq!(missing.field(), Some("containers[0].env[0].secret"));
}
