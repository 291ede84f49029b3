//! What a tenant can reach: every use case against another tenant's things, and without its scope. A use case that is
//! not in the table fails the test that compares the table with the source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wherry_control::{
    Control, CreateInstance, DeliveryPageRequest, DrainRequest, EntriesRequest, Error, EventsRequest, ExecRequest,
    ExplainInstance, JoinTokenRequest, ListInstances, LogRequest, SessionKind, TenantKeyRequest, WebhookRecord,
    WebhookRequest, WhatIf,
};
use wherry_model::{
    ApiKeyId, DeliveryId, DrainThen, Instance, InstanceState, Principal, ProjectName, Scope, ScopeSet, TenantId,
    Timestamp, WebhookName,
};
use wherry_testkit::{Stack, main_container, spec};

/// What the use cases are pointed at.
#[derive(Clone)]
struct Target {
    project: ProjectName,
    instance: String,
    key: ApiKeyId,
    tenant: TenantId,
    delivery: DeliveryId,
}

/// The stack's machine.
const NODE: &str = "node-0";

/// How a use case says what is another tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It names a thing: another tenant's is not found.
    Names,
    /// It works on the caller's own things only, whatever it is asked.
    Own,
    /// It names no tenant's things, or is the operator's.
    Other,
}

const TABLE: [(&str, Scope, Kind); 62] = [
    ("create_instance", Scope::InstancesWrite, Kind::Own),
    ("put_instance", Scope::InstancesWrite, Kind::Own),
    ("dry_run", Scope::InstancesWrite, Kind::Own),
    ("get_instance", Scope::InstancesRead, Kind::Names),
    ("list_instances", Scope::InstancesRead, Kind::Own),
    ("stop_instance", Scope::InstancesWrite, Kind::Names),
    ("start_instance", Scope::InstancesWrite, Kind::Names),
    ("delete_instance", Scope::InstancesWrite, Kind::Names),
    ("restart_instance", Scope::InstancesWrite, Kind::Names),
    ("restart_container", Scope::InstancesWrite, Kind::Names),
    ("update_instance", Scope::InstancesWrite, Kind::Names),
    ("preview_update", Scope::InstancesWrite, Kind::Names),
    ("wait_instance", Scope::InstancesRead, Kind::Names),
    ("instance_logs", Scope::LogsRead, Kind::Names),
    ("instance_exec", Scope::Exec, Kind::Names),
    ("instance_session", Scope::Exec, Kind::Names),
    ("check_session", Scope::Exec, Kind::Names),
    ("entries", Scope::Exec, Kind::Own),
    ("all_entries", Scope::Admin, Kind::Other),
    ("instance_usage", Scope::UsageRead, Kind::Names),
    ("instance_stats", Scope::InstancesRead, Kind::Names),
    ("project_stats", Scope::InstancesRead, Kind::Own),
    ("usage", Scope::UsageRead, Kind::Own),
    ("events", Scope::InstancesRead, Kind::Names),
    ("event_stream", Scope::InstancesRead, Kind::Names),
    ("create_webhook", Scope::InstancesWrite, Kind::Own),
    ("webhooks", Scope::InstancesRead, Kind::Own),
    ("get_webhook", Scope::InstancesRead, Kind::Names),
    ("update_webhook", Scope::InstancesWrite, Kind::Names),
    ("rotate_webhook_secret", Scope::InstancesWrite, Kind::Names),
    ("test_webhook", Scope::InstancesWrite, Kind::Names),
    ("deliveries", Scope::InstancesRead, Kind::Names),
    ("get_delivery", Scope::InstancesRead, Kind::Names),
    ("redeliver", Scope::InstancesWrite, Kind::Names),
    ("delete_webhook", Scope::InstancesWrite, Kind::Names),
    ("create_project", Scope::InstancesWrite, Kind::Own),
    ("projects", Scope::InstancesRead, Kind::Own),
    ("create_key", Scope::KeysWrite, Kind::Own),
    ("keys", Scope::KeysWrite, Kind::Own),
    ("revoke_key", Scope::KeysWrite, Kind::Names),
    ("create_tenant", Scope::Admin, Kind::Other),
    ("tenants", Scope::Admin, Kind::Other),
    ("create_tenant_key", Scope::Admin, Kind::Other),
    ("nodes", Scope::Admin, Kind::Other),
    ("get_node", Scope::Admin, Kind::Other),
    ("node_statuses", Scope::Admin, Kind::Other),
    ("cordon_node", Scope::Admin, Kind::Other),
    ("uncordon_node", Scope::Admin, Kind::Other),
    ("drain_node", Scope::Admin, Kind::Other),
    ("cancel_drain", Scope::Admin, Kind::Other),
    ("confirm_node_off", Scope::Admin, Kind::Other),
    ("remove_node", Scope::Admin, Kind::Other),
    ("create_join_token", Scope::Admin, Kind::Other),
    ("replicas", Scope::Admin, Kind::Other),
    ("reseal_secrets", Scope::Admin, Kind::Other),
    ("explain_spec", Scope::Admin, Kind::Other),
    ("explain_instance", Scope::Admin, Kind::Other),
    ("what_if", Scope::Admin, Kind::Other),
    ("fleet_events", Scope::Admin, Kind::Other),
    ("fleet_event_stream", Scope::Admin, Kind::Other),
    ("project_events", Scope::InstancesRead, Kind::Own),
    ("project_usage", Scope::UsageRead, Kind::Own),
];

/// Cases of a use case that is in the table under its own name too.
const FURTHER_CASES: [&str; 2] = ["project_events", "project_usage"];

fn hook() -> WebhookName {
    "hook".parse().unwrap()
}

fn webhook() -> WebhookRequest {
    WebhookRequest {
        url: "https://hooks.example".to_owned(),
        kinds: Vec::new(),
        instance: None,
        labels: BTreeMap::new(),
        enabled: true,
    }
}

async fn ask(control: &Control, who: &Principal, use_case: &str, target: &Target) -> Result<(), Error> {
    let (project, instance) = (&target.project, target.instance.as_str());
    let events = |instance| EventsRequest { project: project.clone(), instance, after: 0, limit: 10 };
    let entries = || EntriesRequest { instance: None, cursor: None, limit: 10 };
    let key =
        || TenantKeyRequest { name: "k".into(), scopes: [Scope::LogsRead].into_iter().collect(), expires_at: None };
    let (from, to) = (Timestamp::from_seconds(1_767_000_000), Timestamp::from_seconds(1_768_000_000));
    match use_case {
        "create_instance" => {
            let request = CreateInstance {
                project: project.clone(),
                name: None,
                spec: spec(),
                idempotency_key: Some("k".into()),
            };
            control.create_instance(who, request).await.map(drop)
        }
        "put_instance" => {
            let name = "put".parse().unwrap();
            control.put_instance(who, project, name, spec(), None, None).await.map(drop)
        }
        "dry_run" => control.dry_run(who, project, None, &spec()).await.map(drop),
        "get_instance" => control.get_instance(who, project, instance).await.map(drop),
        "list_instances" => {
            let (states, labels) = (InstanceState::ALL.to_vec(), BTreeMap::new());
            let request = ListInstances { project: project.clone(), states, labels, cursor: None, limit: 10 };
            control.list_instances(who, request).await.map(drop)
        }
        "create_webhook" => control.create_webhook(who, project, "fresh".parse().unwrap(), webhook()).await.map(drop),
        "webhooks" => control.webhooks(who, project).await.map(drop),
        "get_webhook" => control.get_webhook(who, project, &hook()).await.map(drop),
        "update_webhook" => {
            let edit = |_: &WebhookRecord| Ok::<_, Error>(webhook());
            control.update_webhook(who, project, &hook(), edit).await.map(drop)
        }
        "rotate_webhook_secret" => control.rotate_webhook_secret(who, project, &hook()).await.map(drop),
        "test_webhook" => control.test_webhook(who, project, &hook()).await.map(drop),
        "deliveries" => {
            let request = DeliveryPageRequest { cursor: None, limit: 10 };
            control.deliveries(who, project, &hook(), &request).await.map(drop)
        }
        "get_delivery" => control.get_delivery(who, project, &hook(), target.delivery).await.map(drop),
        "redeliver" => control.redeliver(who, project, &hook(), target.delivery).await.map(drop),
        "delete_webhook" => control.delete_webhook(who, project, &hook()).await,
        "stop_instance" => control.stop_instance(who, project, instance).await.map(drop),
        "start_instance" => control.start_instance(who, project, instance).await.map(drop),
        "delete_instance" => control.delete_instance(who, project, instance).await.map(drop),
        "restart_instance" => control.restart_instance(who, project, instance, false).await.map(drop),
        "restart_container" => {
            control.restart_container(who, project, instance, &main_container(), false).await.map(drop)
        }
        "update_instance" => {
            let same = |known: &Instance| Ok::<_, Error>(known.spec.clone());
            control.update_instance(who, project, instance, None, same).await.map(drop)
        }
        "preview_update" => {
            let same = |known: &Instance| Ok::<_, Error>(known.spec.clone());
            control.preview_update(who, project, instance, None, same).await.map(drop)
        }
        "wait_instance" => {
            let states = [InstanceState::Running];
            control.wait_instance(who, project, instance, &states, Duration::ZERO).await.map(drop)
        }
        "instance_logs" => {
            control.instance_logs(who, project, instance, &main_container(), LogRequest::default()).await.map(drop)
        }
        "instance_exec" => {
            let request = ExecRequest { command: vec!["true".to_owned()], stdin: None, timeout_seconds: 1 };
            control.instance_exec(who, project, instance, &main_container(), request).await.map(drop)
        }
        "instance_session" => {
            let kind = SessionKind::Port { port: 80 };
            control.instance_session(who, project, instance, kind).await.map(drop)
        }
        "check_session" => control.check_session(who, project, instance, &SessionKind::Port { port: 80 }).await,
        "entries" => control.entries(who, project, entries()).await.map(drop),
        "all_entries" => control.all_entries(who, entries()).await.map(drop),
        "instance_usage" => control.instance_usage(who, project, instance).await.map(drop),
        "instance_stats" => control.instance_stats(who, project, instance).await.map(drop),
        "project_stats" => control.project_stats(who, project).await.map(drop),
        "usage" => control.usage(who, None, from, to).await.map(drop),
        "project_usage" => control.usage(who, Some(project), from, to).await.map(drop),
        "events" => control.events(who, &events(Some(instance.to_owned()))).await.map(drop),
        "project_events" => control.events(who, &events(None)).await.map(drop),
        "event_stream" => control.event_stream(who, &events(Some(instance.to_owned()))).await.map(drop),
        "create_project" => control.create_project(who, "fresh".parse().unwrap()).await.map(drop),
        "projects" => control.projects(who).await.map(drop),
        "create_key" => control.create_key(who, key()).await.map(drop),
        "keys" => control.keys(who).await.map(drop),
        "revoke_key" => control.revoke_key(who, target.key).await,
        "create_tenant" => control.create_tenant(who, "fresh".parse().unwrap()).await.map(drop),
        "tenants" => control.tenants(who, None, 10).await.map(drop),
        "create_tenant_key" => control.create_tenant_key(who, target.tenant, key()).await.map(drop),
        "nodes" => control.nodes(who).await.map(drop),
        "get_node" => control.get_node(who, NODE).await.map(drop),
        "node_statuses" => control.node_statuses(who).await.map(drop),
        "cordon_node" => control.cordon_node(who, NODE).await.map(drop),
        "uncordon_node" => control.uncordon_node(who, NODE).await.map(drop),
        "drain_node" => {
            let request = DrainRequest { grace: Duration::from_hours(1), then: DrainThen::Move };
            control.drain_node(who, NODE, request).await.map(drop)
        }
        "cancel_drain" => control.cancel_drain(who, NODE).await.map(drop),
        "confirm_node_off" => control.confirm_node_off(who, NODE).await.map(drop),
        "remove_node" => control.remove_node(who, NODE).await,
        "create_join_token" => control.create_join_token(who, JoinTokenRequest::default()).await.map(drop),
        "replicas" => control.replicas(who).await.map(drop),
        "reseal_secrets" => control.reseal_secrets(who, None).await.map(drop),
        "explain_spec" => control.explain_spec(who, None, &spec()).await.map(drop),
        "explain_instance" => {
            let tenant = Some(target.tenant.to_string());
            let request = ExplainInstance { tenant, project: project.clone(), instance: instance.to_owned() };
            control.explain_instance(who, &request).await.map(drop)
        }
        "what_if" => control.what_if(who, &WhatIf { drain: vec![NODE.to_owned()], add: None }).await.map(drop),
        "fleet_events" => control.fleet_events(who, 0, 10).map(drop),
        "fleet_event_stream" => control.fleet_event_stream(who, 0).map(drop),
        other => panic!("{other} has a row in the table but no call"),
    }
}

/// The use cases of the source: public methods that take a principal.
fn use_cases_of_the_source() -> BTreeSet<String> {
    fn collect(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for piece in text.replace("pub async fn ", "pub fn ").split("pub fn ").skip(1) {
                let (signature, _) = piece.split_once('{').unwrap();
                let (name, arguments) = signature.split_once('(').unwrap();
                if arguments.contains("&Principal") {
                    found.insert(name.split('<').next().unwrap_or(name).to_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

#[test]
fn every_use_case_is_in_the_table() {
    let mut table: BTreeSet<String> = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(table.len(), TABLE.len());
    for further in FURTHER_CASES {
        assert!(table.remove(further));
    }
    assert_eq!(use_cases_of_the_source(), table);
}

/// A stack on which acme has an instance, deleted ones, a project and a key of its own.
async fn furnished() -> (Stack, Target) {
    let stack = Stack::start().await;
    let acme = stack.acme();
    let web = stack.create(acme, "web", spec()).await.instance;
    stack.agent().obey().await;
    let project = acme.project.clone();
    stack.control().create_webhook(&acme.principal, &project, hook(), webhook()).await.unwrap();
    let delivery = stack.control().test_webhook(&acme.principal, &project, &hook()).await.unwrap().id;
    let (instance, key, tenant) = (web.id.to_string(), acme.key.record.id, acme.record.id);
    let target = Target { project, instance, key, tenant, delivery };
    (stack, target)
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let (stack, target) = furnished().await;
    let acme = stack.acme();
    let private = stack.control().create_project(&acme.principal, "private".parse().unwrap()).await.unwrap();
    let before = (stack.read(acme, "web").await, crate::events::of(&stack, acme, None, 0).await);
    let blue = stack.blue().with_scopes(ScopeSet::all());
    let unknown = Target {
        project: "nowhere".parse().unwrap(),
        instance: "0190f8a0-0000-7000-8000-000000000001".to_owned(),
        key: "0190f8a0-0000-7000-8000-000000000002".parse().unwrap(),
        tenant: target.tenant,
        delivery: target.delivery,
    };
    for (use_case, _, kind) in TABLE {
        if kind == Kind::Names {
            for name_or_id in [target.instance.clone(), "web".to_owned()] {
                let theirs = Target { instance: name_or_id.clone(), ..target.clone() };
                let refused = ask(stack.control(), &blue, use_case, &theirs).await.unwrap_err();
                assert_eq!(refused.code(), "not_found", "{use_case}");
                // What does not exist at all is answered with the same words.
                let missing = Target { project: target.project.clone(), ..unknown.clone() };
                let missing = ask(stack.control(), &blue, use_case, &missing).await.unwrap_err().to_string();
                let (whole, other) = (format!(" {name_or_id} "), format!(" {} ", unknown.instance));
                let said = refused.to_string().replace(&whole, &other);
                assert_eq!(said.replace(&target.key.to_string(), &unknown.key.to_string()), missing, "{use_case}");
            }
        }
        if kind != Kind::Other
            && !matches!(use_case, "usage" | "create_project" | "projects" | "create_key" | "keys" | "revoke_key")
        {
            let theirs = Target { project: private.name.clone(), ..target.clone() };
            let refused = ask(stack.control(), &blue, use_case, &theirs).await.unwrap_err();
            assert_eq!(refused.code(), "not_found", "{use_case} in another tenant's project");
        }
    }
    assert_eq!((stack.read(acme, "web").await, crate::events::of(&stack, acme, None, 0).await), before);
    assert!(stack.control().key_works(target.key).await.unwrap());
}

#[tokio::test]
async fn a_tenant_sees_and_makes_only_its_own() {
    let (stack, target) = furnished().await;
    let (control, acme, blue) = (stack.control(), &stack.acme().principal, &stack.blue().principal);
    for (use_case, scope, kind) in TABLE {
        if kind == Kind::Own && scope != Scope::Admin {
            ask(control, blue, use_case, &target).await.unwrap_or_else(|error| panic!("{use_case}: {error}"));
        }
    }
    stack.agent().obey().await;
    stack.advance(Duration::from_secs(10));
    stack.agent().heartbeat().await.unwrap();
    let list = |project: &ProjectName| ListInstances {
        project: project.clone(),
        states: InstanceState::ALL.to_vec(),
        labels: BTreeMap::new(),
        cursor: None,
        limit: 200,
    };
    let (from, to) = (Timestamp::from_seconds(1_767_000_000), Timestamp::from_seconds(1_768_000_000));
    for (who, wanted) in [(acme, 1), (blue, 2)] {
        let views = control.list_instances(who, list(&target.project)).await.unwrap().views;
        assert_eq!(views.len(), wanted);
        assert!(views.iter().all(|view| view.instance.tenant == who.tenant));
        let bill = control.usage(who, None, from, to).await.unwrap().bill;
        let billed: BTreeSet<_> = bill.lines.iter().map(|line| line.instance).collect();
        assert_eq!(billed, views.iter().map(|view| view.instance.id).collect());
        assert!(control.keys(who).await.unwrap().iter().all(|key| key.tenant == who.tenant));
        assert!(control.projects(who).await.unwrap().iter().all(|project| project.tenant == who.tenant));
    }
    // A cursor of another tenant is a place in the caller's own list, nothing more.
    let page = control.list_instances(blue, ListInstances { limit: 1, ..list(&target.project) }).await.unwrap();
    let foreign = ListInstances { cursor: page.next, ..list(&target.project) };
    for view in control.list_instances(acme, foreign).await.unwrap().views {
        assert_eq!(view.instance.tenant, acme.tenant);
    }
}

#[tokio::test]
async fn every_use_case_needs_its_scope_and_no_other() {
    let (stack, target) = furnished().await;
    for (use_case, needed, _) in TABLE {
        let without = stack.acme().with_scopes(ScopeSet::all().iter().filter(|scope| *scope != needed).collect());
        let refused = ask(stack.control(), &without, use_case, &target).await.unwrap_err();
        assert!(matches!(refused, Error::InsufficientScope(scope) if scope == needed), "{use_case}: {refused}");
    }
    for (use_case, needed, _) in TABLE {
        if matches!(
            use_case,
            "delete_webhook" | "delete_instance" | "stop_instance" | "revoke_key" | "create_key" | "create_tenant_key"
        ) {
            continue;
        }
        // They refuse a machine that is heard and full, which is tested elsewhere.
        if matches!(use_case, "confirm_node_off" | "remove_node") {
            continue;
        }
        // Who has events sent somewhere must be one who may read them.
        let reads = matches!(use_case, "create_webhook" | "update_webhook").then_some(Scope::InstancesRead);
        let with = stack.acme().with_scopes([needed].into_iter().chain(reads).collect());
        ask(stack.control(), &with, use_case, &target).await.unwrap_or_else(|error| panic!("{use_case}: {error}"));
    }
}
