//! What all processes on one store agree on: the first word stays. What they learn: the last one does.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::Subject;

/// Under each name by itself, also after reopening.
pub async fn the_first_value_stays(subject: &mut impl Subject) {
    let store = subject.store();
    assert_eq!(store.settle("naming key", "sha256:1").await.unwrap(), "sha256:1");
    assert_eq!(store.settle("naming key", "sha256:2").await.unwrap(), "sha256:1");
    assert_eq!(store.settle("authority", "sha256:2").await.unwrap(), "sha256:2");
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.settle("naming key", "sha256:3").await.unwrap(), "sha256:1");
    assert_eq!(store.settle("authority", "sha256:2").await.unwrap(), "sha256:2");
}

/// Replicas that start at once on an empty database hear the same.
pub async fn racing_replicas_hear_one_value(subject: &mut impl Subject) {
    let store = subject.store();
    for round in 0..4 {
        let mut tasks = JoinSet::new();
        for number in 0..12 {
            let store = store.clone();
            tasks.spawn(async move {
                let value = number.to_string();
                (store.settle(&format!("key {round}"), &value).await.unwrap(), value)
            });
        }
        let outcomes = tasks.join_all().await;
        let heard: BTreeSet<&String> = outcomes.iter().map(|(heard, _)| heard).collect();
        assert_eq!(heard.len(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|(heard, said)| heard == said).count(), 1);
    }
}

/// Under each name by itself, also after reopening; what is large is kept whole.
pub async fn what_was_learnt_last_is_kept(subject: &mut impl Subject) {
    let store = subject.store();
    assert_eq!(store.learnt("lifetimes").await.unwrap(), None);
    store.keep_learnt("lifetimes", "early").await.unwrap();
    let late = "läte ".repeat(400_000);
    store.keep_learnt("lifetimes", &late).await.unwrap();
    store.keep_learnt("other", "{}").await.unwrap();
    subject.reopen().await;
    let store = subject.store();
    assert!(store.learnt("lifetimes").await.unwrap().is_some_and(|kept| kept == late));
    assert_eq!(store.learnt("other").await.unwrap().as_deref(), Some("{}"));
}
