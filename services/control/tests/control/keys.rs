use std::time::Duration;

use wherry_control::TenantKeyRequest;
use wherry_model::{Clock, Scope, ScopeSet, Subject};
use wherry_testkit::Stack;

fn request(scopes: impl IntoIterator<Item = Scope>) -> TenantKeyRequest {
    TenantKeyRequest { name: "ci".to_owned(), scopes: scopes.into_iter().collect(), expires_at: None }
}

#[tokio::test]
async fn a_key_is_recognised_by_its_secret_only() {
    let mut stack = Stack::start().await;
    stack.reopen().await;
    let (control, key) = (stack.control(), stack.acme().key.clone());
    let principal = control.authenticate_key(key.record.id, &key.secret).await.unwrap();
    assert_eq!(principal, stack.acme().principal);
    for wrong in ["", "wsk_", &key.secret[1..], &format!("{}x", key.secret), stack.blue().key.secret.as_str()] {
        let refused = control.authenticate_key(key.record.id, wrong).await.unwrap_err();
        assert_eq!(refused.code(), "unauthenticated");
    }
    let unknown = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(control.authenticate_key(unknown, &key.secret).await.unwrap_err().code(), "unauthenticated");
    assert!(!format!("{key:?}").contains(&key.secret), "a secret is never printed by accident");
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_here_and_soon_elsewhere() {
    let stack = Stack::start().await;
    let (control, elsewhere) = (stack.control(), stack.replica().await);
    let (acme, key) = (&stack.acme().principal, stack.acme().key.clone());
    assert!(control.key_works(key.record.id).await.unwrap());
    assert!(elsewhere.key_works(key.record.id).await.unwrap());
    control.revoke_key(acme, key.record.id).await.unwrap();
    assert!(!control.key_works(key.record.id).await.unwrap());
    assert!(control.authenticate_key(key.record.id, &key.secret).await.is_err());
    stack.let_pass(Duration::from_secs(4)).await;
    assert!(!elsewhere.key_works(key.record.id).await.unwrap());
    control.revoke_key(acme, key.record.id).await.expect("revoking again is right");
}

#[tokio::test]
async fn an_expired_key_ends() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), &stack.acme().principal);
    let expires_at = Some(stack.clock().now().plus(Duration::from_mins(1)));
    let key = control.create_key(acme, TenantKeyRequest { expires_at, ..request([Scope::LogsRead]) }).await.unwrap();
    let known = control.authenticate_key(key.record.id, &key.secret).await.unwrap();
    assert_eq!((known.subject, known.scopes), (Subject::Key(key.record.id), [Scope::LogsRead].into_iter().collect()));
    stack.let_pass(Duration::from_mins(1)).await;
    assert!(control.authenticate_key(key.record.id, &key.secret).await.is_err());
    assert!(!control.key_works(key.record.id).await.unwrap());
    let past = TenantKeyRequest { expires_at, ..request([Scope::LogsRead]) };
    assert_eq!(control.create_key(acme, past).await.unwrap_err().field(), Some("expires_at"));
}

#[tokio::test]
async fn a_key_can_do_no_more_than_who_made_it() {
    let stack = Stack::start().await;
    let control = stack.control();
    let small = stack.acme().with_scopes([Scope::KeysWrite, Scope::LogsRead].into_iter().collect());
    assert_eq!(control.create_key(&small, request([Scope::Admin])).await.unwrap_err().code(), "insufficient_scope");
    assert_eq!(control.create_key(&small, request([Scope::UsageRead])).await.unwrap_err().code(), "insufficient_scope");
    control.create_key(&small, request([Scope::LogsRead])).await.unwrap();
    assert_eq!(control.create_key(&small, request([])).await.unwrap_err().field(), Some("scopes"));
    for name in [String::new(), "a\nb".to_owned(), "x".repeat(101)] {
        let wrong = TenantKeyRequest { name, ..request([Scope::LogsRead]) };
        assert_eq!(control.create_key(&small, wrong).await.unwrap_err().field(), Some("name"));
    }
    assert_eq!(control.keys(&small).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_operator_makes_tenants_and_their_keys() {
    let stack = Stack::start().await;
    let (control, operator) = (stack.control(), stack.operator());
    let green = control.create_tenant(operator, "green".parse().unwrap()).await.unwrap();
    let request = request(ScopeSet::tenant().iter());
    let key = control.create_tenant_key(operator, green.id, request.clone()).await.unwrap();
    let principal = control.authenticate_key(key.record.id, &key.secret).await.unwrap();
    assert_eq!(principal.tenant, green.id);
    assert_eq!(control.projects(&principal).await.unwrap()[0].name.as_str(), "default");
    let unknown = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(control.create_tenant_key(operator, unknown, request).await.unwrap_err().code(), "not_found");
    let names: Vec<String> =
        control.tenants(operator, None, 10).await.unwrap().iter().map(|tenant| tenant.name.to_string()).collect();
    assert_eq!(names, ["acme", "blue", "green", "operator"]);
}
