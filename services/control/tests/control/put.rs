use wherry_control::{Error, Put};
use wherry_model::{Generation, InstanceName, InstanceSpec, InstanceState};
use wherry_testkit::{Node, Stack, sized, spec};

use crate::support::{delete, keyed, used};

async fn put(stack: &Stack, spec: InstanceSpec, if_match: Option<u64>, key: Option<&str>) -> Result<Put, Error> {
    let acme = stack.acme();
    let name = InstanceName::new("web").unwrap();
    let (if_match, key) = (if_match.map(Generation), key.map(str::to_owned));
    stack.control().put_instance(&acme.principal, &acme.project, name, spec, if_match, key).await
}

#[tokio::test]
async fn putting_the_same_twice_gives_the_same() {
    let stack = Stack::start().await;
    let first = put(&stack, spec(), None, None).await.unwrap();
    let second = put(&stack, spec(), None, None).await.unwrap();
    assert_eq!((first.created, second.created), (true, false));
    assert_eq!(first.view.instance, second.view.instance);
    let changed = put(&stack, sized(10, 4), None, None).await.unwrap();
    assert_eq!((changed.created, changed.view.instance.version()), (false, Generation(2)));
    assert_eq!(used(&stack, stack.agent().node()).await.instances, 1);
}

#[tokio::test]
async fn if_match_guards() {
    let stack = Stack::start().await;
    assert!(matches!(put(&stack, spec(), Some(1), None).await, Err(Error::NotFound(_))));
    put(&stack, spec(), None, None).await.unwrap();
    assert!(!put(&stack, spec(), Some(1), None).await.unwrap().created);
    assert!(matches!(put(&stack, spec(), Some(2), None).await, Err(Error::GenerationMismatch(1))));
}

#[tokio::test]
async fn a_key_holds_for_puts_too() {
    let stack = Stack::start().await;
    put(&stack, spec(), None, Some("k")).await.unwrap();
    assert!(matches!(put(&stack, sized(10, 4), None, Some("k")).await, Err(Error::IdempotencyMismatch)));
    delete(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    // The request was carried out once; repeating it does not do it again, and does not pretend that there is an instance.
    let repeated = put(&stack, spec(), None, Some("k")).await.unwrap_err();
    assert_eq!(repeated.field(), Some("Idempotency-Key"));
    assert!(put(&stack, spec(), None, None).await.unwrap().created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_puts_of_the_same_all_succeed() {
    let stack = Stack::start().await;
    let replicas = [stack.control().clone(), stack.replica().await];
    for round in 0..5 {
        let racing: Vec<_> = (0..8)
            .map(|number| {
                let (control, acme) = (replicas[number % 2].clone(), stack.acme().clone());
                let name = InstanceName::new(format!("web-{round}")).unwrap();
                let put = async move {
                    control.put_instance(&acme.principal, &acme.project, name, sized(10, 4), None, None).await
                };
                tokio::spawn(put)
            })
            .collect();
        let mut created = 0;
        for racer in racing {
            created += u32::from(racer.await.unwrap().expect("asking twice for the same gives the same").created);
        }
        assert_eq!(created, 1);
    }
}

#[tokio::test]
async fn a_dry_run_prices_and_reserves_nothing() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let (control, acme) = (stack.control(), stack.acme());
    let dry = async |name: Option<&str>, spec: InstanceSpec| {
        let name = name.map(|name| InstanceName::new(name).unwrap());
        control.dry_run(&acme.principal, &acme.project, name.as_ref(), &spec).await
    };
    for _ in 0..3 {
        let answer = dry(Some("web"), sized(1_000, 1_024)).await.unwrap();
        assert!(answer.fits, "{answer:?}");
        assert_eq!((answer.price_per_hour.to_string().as_str(), answer.currency.as_str()), ("0.0396864", "USD"));
    }
    assert_eq!(used(&stack, stack.agent().node()).await.instances, 0);
    let too_large = dry(None, sized(1_001, 64)).await.unwrap();
    let why_not = too_large.why_not.unwrap_or_default();
    assert!(!too_large.fits && why_not.contains("more than any machine has"), "{why_not}");
    assert_eq!(dry(None, sized(1, 64)).await.unwrap_err().code(), "invalid_field");
    control.create_instance(&acme.principal, keyed(Some("web"), spec(), "k")).await.unwrap();
    let taken = dry(Some("web"), spec()).await.unwrap();
    assert!(!taken.fits && taken.why_not.unwrap().contains("in use"));
    assert_eq!(stack.read(acme, "web").await.instance.state, InstanceState::Scheduled);
}
