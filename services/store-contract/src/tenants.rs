//! Tenants, projects, keys.

use wherry_model::{ApiKeyId, ProjectId, ProjectName, Scope, ScopeSet, TenantId, TenantName, Timestamp};
use wherry_store::{ApiKeyRecord, NameOutcome, ProjectRecord, TenantRecord};

use crate::world::at;
use crate::{Subject, World};

fn records(world: &World, name: &str) -> (TenantRecord, ProjectRecord) {
    let tenant = TenantRecord {
        id: TenantId::from_uuid(world.uuid()),
        name: TenantName::new(name).expect("cases use valid names"),
        created_at: Timestamp::from_micros(1_234_567),
    };
    let project = ProjectRecord {
        id: ProjectId::from_uuid(world.uuid()),
        tenant: tenant.id,
        name: ProjectName::default_project(),
        created_at: Timestamp::from_micros(1_234_568),
    };
    (tenant, project)
}

fn key(world: &World, second: i64) -> ApiKeyRecord {
    ApiKeyRecord {
        id: ApiKeyId::from_uuid(world.uuid()),
        tenant: world.tenant,
        name: "build server".to_owned(),
        secret_hash: [0xA7; 32],
        scopes: [Scope::InstancesRead, Scope::LogsRead].into_iter().collect(),
        created_at: at(second),
        expires_at: Some(at(second + 100)),
        revoked_at: None,
    }
}

/// Both are found, by id and by name, as they were given.
pub async fn a_tenant_comes_with_its_first_project(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (tenant, project) = records(&world, "umbrella");
    assert_eq!(world.store.create_tenant(&tenant, &project).await.unwrap(), NameOutcome::Created);
    assert_eq!(world.store.tenant(tenant.id).await.unwrap(), Some(tenant.clone()));
    assert_eq!(world.store.tenant_by_name(&tenant.name).await.unwrap(), Some(tenant.clone()));
    assert_eq!(world.store.project(tenant.id, &project.name).await.unwrap(), Some(project.clone()));
    assert_eq!(world.store.projects(tenant.id, 10).await.unwrap(), [project]);
    subject.reopen().await;
    assert_eq!(subject.store().tenant(tenant.id).await.unwrap(), Some(tenant));
}

/// Neither the tenant nor its project is there.
pub async fn a_tenant_whose_name_is_taken_leaves_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (tenant, project) = records(&world, "acme");
    assert_eq!(world.store.create_tenant(&tenant, &project).await.unwrap(), NameOutcome::NameTaken);
    assert_eq!(world.store.tenant(tenant.id).await.unwrap(), None);
    assert_eq!(world.store.projects(tenant.id, 10).await.unwrap(), []);
    let first = world.store.tenant_by_name(&tenant.name).await.unwrap().unwrap();
    assert_eq!(first.id, world.tenant);
}

/// Names ascend, a page ends at its limit, the next begins after the last name.
pub async fn tenants_are_listed_by_name_in_pages(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    for name in ["c", "b", "e", "d"] {
        let (tenant, project) = records(&world, name);
        world.store.create_tenant(&tenant, &project).await.unwrap();
    }
    let names = |page: Vec<TenantRecord>| page.into_iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
    let first = world.store.tenants(None, 2).await.unwrap();
    assert_eq!(names(first.clone()), ["acme", "b"]);
    let rest = world.store.tenants(Some(&first[1].name), 10).await.unwrap();
    assert_eq!(names(rest), ["c", "d", "e"]);
}

/// A name can be used once in a tenant, and again in another one.
pub async fn project_names_are_unique_in_their_tenant(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let project = |world: &World| ProjectRecord {
        id: ProjectId::from_uuid(world.uuid()),
        tenant: world.tenant,
        name: ProjectName::new("billing").expect("a fixed name"),
        created_at: at(1),
    };
    let (first, second, others) = (project(&world), project(&world), project(&other));
    assert_eq!(world.store.create_project(&first).await.unwrap(), NameOutcome::Created);
    assert_eq!(world.store.create_project(&second).await.unwrap(), NameOutcome::NameTaken);
    assert_eq!(world.store.create_project(&others).await.unwrap(), NameOutcome::Created);
    assert_eq!(world.store.project(world.tenant, &first.name).await.unwrap(), Some(first.clone()));
    assert_eq!(world.store.project(other.tenant, &first.name).await.unwrap(), Some(others));
    let names: Vec<_> = world.store.projects(world.tenant, 10).await.unwrap();
    assert_eq!(names.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["billing", "default"]);
    assert_eq!(world.store.projects(world.tenant, 1).await.unwrap(), [first]);
}

/// Every field comes back, also the absent ones, also after reopening.
pub async fn keys_are_kept_as_given(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let full = key(&world, 1);
    let bare = ApiKeyRecord { scopes: ScopeSet::default(), expires_at: None, ..key(&world, 2) };
    for key in [&full, &bare] {
        world.store.create_key(key).await.unwrap();
    }
    subject.reopen().await;
    assert_eq!(subject.store().key(full.id).await.unwrap(), Some(full));
    assert_eq!(subject.store().key(bare.id).await.unwrap(), Some(bare));
    assert_eq!(subject.store().key(ApiKeyId::from_uuid(world.uuid())).await.unwrap(), None);
}

/// Newest first, at most as many as asked, only of the tenant.
pub async fn keys_are_listed_newest_first(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let keys = [key(&world, 1), key(&world, 3), key(&world, 2)];
    for key in keys.iter().chain(&[key(&other, 4)]) {
        world.store.create_key(key).await.unwrap();
    }
    let [oldest, newest, middle] = keys;
    assert_eq!(world.store.keys(world.tenant, 10).await.unwrap(), [newest.clone(), middle.clone(), oldest]);
    assert_eq!(world.store.keys(world.tenant, 2).await.unwrap(), [newest, middle]);
}

/// Another tenant gets "no such key" and the key goes on; ending twice keeps the first time.
pub async fn only_the_own_tenant_ends_a_key(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let key = key(&world, 1);
    world.store.create_key(&key).await.unwrap();
    assert!(!world.store.revoke_key(other.tenant, key.id, at(5)).await.unwrap());
    assert_eq!(world.store.key(key.id).await.unwrap().unwrap().revoked_at, None);
    assert!(world.store.revoke_key(world.tenant, key.id, at(6)).await.unwrap());
    assert!(world.store.revoke_key(world.tenant, key.id, at(7)).await.unwrap());
    assert_eq!(world.store.key(key.id).await.unwrap().unwrap().revoked_at, Some(at(6)));
    let unknown = ApiKeyId::from_uuid(world.uuid());
    assert!(!world.store.revoke_key(world.tenant, unknown, at(8)).await.unwrap());
}
