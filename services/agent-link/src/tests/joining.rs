//! A token becomes an identity, whatever is killed when.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use wherry_agent_api::{ControlError, ControlPlane as _};

use super::world::{World, heartbeat, node, token};
use crate::{Authority, Identity, IdentityError, Lives};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_joined_knows_who_it_is_at_the_next_start() {
    let world = World::new();
    let replica = world.replica().await;
    let folder = tempfile::tempdir().unwrap();
    let identity_folder = folder.path().join("data").join("identity");
    assert!(Identity::open(&identity_folder).unwrap().is_none());
    let joined = world.join(&identity_folder, world.order(&replica.url, &token(1))).await.unwrap();
    let opened = Identity::open(&identity_folder).unwrap().unwrap();
    for identity in [&joined, &opened] {
        assert_eq!(identity.node(), node(1), "the certificate names what the control plane says");
        assert_eq!((identity.name(), identity.enrolled().apex.as_str()), ("one", "local.test"));
        assert_eq!(identity.range(), ("10.128.1.0".parse().unwrap(), 24));
        assert_eq!(identity.endpoints(), [replica.url.as_str()]);
        assert_eq!(identity.expires_at(), joined.expires_at());
    }
    for file in fs::read_dir(&identity_folder).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        assert!(!fs::read_to_string(file.path()).unwrap().contains(&token(1)), "the token is on the disk");
    }
    assert_eq!(fs::metadata(&identity_folder).unwrap().permissions().mode() & 0o777, 0o700);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_or_another_authority_makes_no_node() {
    let world = World::new();
    let (replica, other) = (world.replica().await, World::new());
    let folder = tempfile::tempdir().unwrap();
    let guessed = world.join(folder.path(), world.order(&replica.url, "wjt_guess")).await.unwrap_err();
    assert!(matches!(guessed, IdentityError::Refused(ControlError::Forbidden(_))), "{guessed}");
    let mut order = world.order(&replica.url, &token(1));
    order.ca_fingerprint = other.authority.fingerprint();
    let impostor = world.join(folder.path(), order).await.unwrap_err();
    assert!(matches!(impostor, IdentityError::Dial(crate::DialError::Trust { .. })), "{impostor}");
    assert!(world.control.used.lock().unwrap().is_empty(), "the token was shown to somebody else");
    assert!(Identity::open(folder.path()).unwrap().is_none());
    replica.end().await;
}

/// Polls a future so many times, then drops it.
pub(super) async fn killed_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_killed_while_it_joins_is_one_node_all_the_same() {
    let world = World::new();
    let replica = world.replica().await;
    let folder = tempfile::tempdir().unwrap();
    let mut joined = None;
    for polls in 0..200 {
        let order = world.order(&replica.url, &token(1));
        joined = killed_after(polls, world.join(folder.path(), order)).await;
        if joined.is_some() {
            break;
        }
        // Half written, as a process leaves it that is killed then.
        fs::write(folder.path().join("identity.0123456789abcdef.new"), "half").unwrap();
    }
    let joined = match joined {
        Some(joined) => joined.unwrap(),
        None => world.join(folder.path(), world.order(&replica.url, &token(1))).await.unwrap(),
    };
    assert_eq!(joined.node(), node(1));
    assert_eq!(world.control.used.lock().unwrap()[&token(1)].len(), 1, "it was always the same key");
    assert!(!folder.path().join("identity.0123456789abcdef.new").exists());
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_become_another_unless_its_certificate_has_expired() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let folder = machine.folder.path();
    let again = world.join(folder, world.order(&replica.url, &token(1))).await.unwrap();
    assert_eq!(again.node(), node(1), "the same command once more changes nothing");
    let other = world.join(folder, world.order(&replica.url, &token(2))).await.unwrap_err();
    assert!(matches!(&other, IdentityError::Joined { node: present, .. } if *present == node(1)), "{other}");
    assert!(!world.control.used.lock().unwrap().contains_key(&token(2)));

    world.clock.at(Lives::default().node.as_secs() + 1);
    let opened = Identity::open(folder).unwrap().unwrap();
    let expired = opened.check(wherry_model::Clock::now(&*world.clock)).unwrap_err();
    assert!(matches!(&expired, IdentityError::Expired { node: present, .. } if *present == node(1)), "{expired}");
    assert!(expired.to_string().contains("wherry node --join"), "{expired}");
    let now = wherry_model::Clock::now(&*world.clock);
    assert!(opened.would_become_another(&token(2), now) && !opened.would_become_another(&token(1), now));
    let in_time = opened.expires_at();
    assert!(!opened.would_become_another(&token(2), in_time), "it is refused as long as the certificate is taken");
    // The replica has looked at the clock too.
    replica.port.renew_certificate().unwrap();
    let same = world.join(folder, world.order(&replica.url, &token(1))).await.unwrap();
    assert_eq!(same.node(), node(1), "the token is bound to its key");
    same.check(wherry_model::Clock::now(&*world.clock)).unwrap();

    world.clock.at(2 * Lives::default().node.as_secs() + 2);
    replica.port.renew_certificate().unwrap();
    let new = world.join(folder, world.order(&replica.url, &token(2))).await.unwrap();
    assert_eq!(new.node(), node(2));
    assert_eq!(Identity::open(folder).unwrap().unwrap().node(), node(2));
    replica.end().await;
}

#[test]
fn a_damaged_identity_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.json");
    fs::write(&file, "{").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Identity::open(folder.path()), Err(IdentityError::Form { .. })));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Identity::open(folder.path()), Err(IdentityError::File { .. })));
}

/// A root and an intermediate of the operator in `ca.pem`, and the key of the intermediate.
fn bring_authority(keys: &Path, with_root: bool) {
    let ca = |name: &str, depth| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters
    };
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (root_key, own_key) = (key(), key());
    let root = ca("root of the house", 1).self_signed(&root_key).unwrap();
    let issuer = Issuer::new(ca("root of the house", 1), root_key);
    let own = ca("wherry of the house", 0).signed_by(&own_key, &issuer).unwrap();
    let chain = if with_root { format!("{}{}", own.pem(), root.pem()) } else { own.pem() };
    fs::write(keys.join("ca.pem"), chain).unwrap();
    fs::write(keys.join("ca.key"), own_key.serialize_pem()).unwrap();
    fs::set_permissions(keys.join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_brings_an_authority_with_or_without_its_root() {
    for with_root in [true, false] {
        let world = World::with(|keys, clock, entropy| {
            bring_authority(keys, with_root);
            let (certificate, key) = (keys.join("ca.pem"), keys.join("ca.key"));
            Authority::open(&certificate, &key, Lives::default(), clock, entropy).unwrap()
        });
        let replica = world.replica().await;
        let machine = world.machine(&replica, 1).await;
        let link = world.link(&machine);
        link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
        replica.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_open_one_authority() {
    let world = World::new();
    let open = || Authority::open_or_create(world.keys(), Lives::default(), world.clock.clone(), world.entropy.clone());
    assert_eq!(open().unwrap().fingerprint(), world.authority.fingerprint());
    let other = Arc::new(World::new());
    assert_ne!(other.authority.fingerprint(), world.authority.fingerprint());
}
