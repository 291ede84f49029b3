//! The fake passes the suite that containerd passes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wherry_model::{Clock, Timestamp};
use wherry_runtime::conformance::{self, Fixture};
use wherry_runtime::fake::{FakeImage, FakeRuntime, Fault};
use wherry_runtime::{ContainerRuntime, PullProgress, PullRequest, RegistryAuth, RuntimeError};

/// Moments that only tokio's clock moves.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000_000).plus(self.0.elapsed())
    }
}

fn login() -> RegistryAuth {
    RegistryAuth { username: "robot".to_owned(), password: "kept".to_owned() }
}

fn fake() -> FakeRuntime {
    let runtime = FakeRuntime::new(Arc::new(TokioClock(tokio::time::Instant::now())));
    let image = FakeImage { size_bytes: 1000, pull_delay: Duration::from_secs(2), ..FakeImage::default() };
    runtime.publish("registry.test/busybox:1", image);
    let labels = BTreeMap::from([("containerd.io/restart.status".to_owned(), "running".to_owned())]);
    runtime.publish("registry.test/restart:1", FakeImage { labels, ..FakeImage::default() });
    runtime.publish("registry.test/private:1", FakeImage { auth: Some(login()), ..FakeImage::default() });
    runtime
}

#[tokio::test(start_paused = true)]
async fn fake_conforms() {
    let logs = tempfile::tempdir().unwrap();
    let fixture = Fixture {
        image: "registry.test/busybox:1".into(),
        missing_image: "registry.test/missing:1".into(),
        refused_image: "registry.test/restart:1".into(),
        private_image: "registry.test/private:1".into(),
        private_auth: login(),
        log_root: logs.path().to_owned(),
    };
    conformance::all(&fake(), &fixture).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn scripted_faults_end() {
    let runtime = fake();
    let error = RuntimeError::Internal { message: "scripted".into() };
    runtime.inject("Version", Fault::Fail(error.clone()), 2);
    assert_eq!(runtime.version().await, Err(error.clone()));
    assert_eq!(runtime.version().await, Err(error));
    assert!(runtime.version().await.is_ok());
    runtime.inject("Version", Fault::HangBefore, 1);
    assert!(matches!(runtime.version().await, Err(RuntimeError::Timeout { .. })));
    runtime.set_engine_down(true);
    assert!(matches!(runtime.version().await, Err(RuntimeError::Unavailable { .. })));
    runtime.set_engine_down(false);
    assert_eq!(runtime.calls("Version"), 5);
}

#[tokio::test(start_paused = true)]
async fn pulls_show_progress_and_forget_it_when_dropped() {
    let runtime = fake();
    let request =
        PullRequest { reference: "registry.test/busybox:1".into(), auth: None, timeout: Duration::from_secs(10) };
    let pull = runtime.pull_image(&request);
    assert!(tokio::time::timeout(Duration::from_secs(1), pull).await.is_err());
    let reference = ["registry.test/busybox:1".to_owned()];
    assert_eq!(runtime.pull_progress(&reference).await.unwrap(), [PullProgress::default()]);
    let puller = runtime.clone();
    let running = tokio::spawn(async move { puller.pull_image(&request).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let half = PullProgress { done_layers: 2, total_layers: 4, done_bytes: 500, total_bytes: 1000 };
    assert_eq!(runtime.pull_progress(&reference).await.unwrap(), [half]);
    running.await.unwrap().unwrap();
    assert_eq!(runtime.pull_progress(&reference).await.unwrap(), [PullProgress::default()]);
}
