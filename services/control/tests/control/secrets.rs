//! Secrets: opened for the node that runs the instance, bound to their project, and the same however often they are given.

use wherry_agent_api::ControlPlane as _;
use wherry_control::{Control, Error, Outgoing, SendOutcome, WebhookRequest, WebhookSender};
use wherry_model::{Capacity, EnvVar, InstanceName, InstanceSpec, Sealed, WebhookName};
use wherry_sealing::{Keyring, Place, SealingKey};
use wherry_testkit::{Node, Stack, Tenant, spec};

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

#[tokio::test]
async fn all_secrets_are_sealed_anew_once_there_is_another_key() {
    let room = Capacity { cpu_millis: 64_000, memory_mib: 65_536, instances: 200 };
    let stack = Stack::builder().nodes([Node { capacity: room, ..Node::sized(1, 1) }]).start().await;
    let (control, acme, blue) = (stack.control(), stack.acme(), stack.blue());
    control.set_webhook_sender(std::sync::Arc::new(Nobody));
    for number in 0..103 {
        let secret = sealed(control.keyring(), acme, &format!("hush-{number:03}"));
        stack.create(acme, &format!("web-{number:03}"), with(secret)).await;
    }
    stack.create(blue, "other", with(sealed(control.keyring(), blue, "theirs"))).await;
    stack.create(blue, "plain", spec()).await;
    // One that no key of this installation has sealed.
    let foreign = Keyring::of(SealingKey::generate("9", stack.entropy().as_ref()));
    let lost = stack.create(blue, "lost", with(sealed(&foreign, blue, "lost"))).await;
    let hook = |name: &str| name.parse::<WebhookName>().unwrap();
    let request = WebhookRequest {
        url: "https://hooks.example".to_owned(),
        kinds: Vec::new(),
        instance: None,
        labels: std::collections::BTreeMap::new(),
        enabled: true,
    };
    control.create_webhook(&acme.principal, &acme.project, hook("a"), request).await.unwrap();
    control.rotate_webhook_secret(&acme.principal, &acme.project, &hook("a")).await.unwrap();
    let told_before = told(&stack, control).await;
    let events = crate::events::of(&stack, acme, None, 0).await;

    let newer = Keyring::of(SealingKey::generate("2", stack.entropy().as_ref())).to_file();
    let both = Keyring::parse(&format!("{}{}", control.keyring().to_file().as_str(), newer.as_str())).unwrap();
    let replica = stack.replica_with(&std::sync::Arc::default(), |config| config.sealing = both).await;
    let pass = async || {
        let (mut after, mut sums) = (None, (0, 0, 0));
        loop {
            let done = replica.reseal_secrets(stack.operator(), after.as_deref()).await.unwrap();
            assert_eq!(done.key, "2");
            assert!(done.examined <= 100, "{done:?}");
            sums = (sums.0 + done.examined, sums.1 + done.resealed, sums.2 + done.unopened);
            after = done.next;
            if after.is_none() {
                return sums;
            }
        }
    };
    // It is cut off after its first batch; another goes over it again.
    let first = replica.reseal_secrets(stack.operator(), None).await.unwrap();
    assert!(first.examined == 100 && (98..=100).contains(&first.resealed) && first.unopened <= 1, "{first:?}");
    let rest = 105 - first.resealed;
    assert_eq!(pass().await, (107, rest, 1), "103, that of the other tenant, the webhook; and one that does not open");
    assert_eq!(pass().await, (107, 0, 1), "there is nothing left to do");

    assert_eq!(told(&stack, &replica).await, told_before, "the secrets are what they were");
    assert_eq!(crate::events::of(&stack, acme, None, 0).await, events, "nothing happened to anybody");
    let newest = Keyring::parse(newer.as_str()).unwrap();
    let without = stack.replica_with(&std::sync::Arc::default(), |config| config.sealing = newest).await;
    assert_eq!(told(&stack, &without).await, told_before, "the key before can go");
    let kept = stack.read(blue, "lost").await.instance;
    assert_eq!(kept.spec, lost.instance.spec, "what does not open stays");
    let webhook = replica.get_webhook(&acme.principal, &acme.project, &hook("a")).await.unwrap();
    for secret in [&webhook.secret, &webhook.former_secret.as_ref().unwrap().secret] {
        assert!(secret.as_str().starts_with("w1.2."));
    }
}

/// Sends nothing.
struct Nobody;

#[async_trait::async_trait]
impl WebhookSender for Nobody {
    fn check_url(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn send(&self, _: Outgoing) -> SendOutcome {
        SendOutcome { status: None, error: None }
    }
}
