//! containerd passes the suite that the fake passes, with both OCI runtimes.

use wherry_runtime::RegistryAuth;
use wherry_runtime::conformance::{self, Fixture};
use wherry_runtime_cri::containerd::OciRuntime;

use crate::support::Engine;

async fn conforms(oci_runtime: OciRuntime) {
    let engine = Engine::start_with(oci_runtime).await;
    let fixture = Fixture {
        image: engine.registry.reference("busybox"),
        missing_image: engine.registry.reference("missing"),
        refused_image: engine.registry.reference("restarting"),
        private_image: engine.registry.reference("private"),
        private_auth: RegistryAuth { username: "robot".to_owned(), password: "kept".to_owned() },
        log_root: engine.logs(),
    };
    if let Err(failure) = conformance::all(engine.runtime.as_ref(), &fixture).await {
        panic!("{failure}: {:?}", std::error::Error::source(&failure).map(ToString::to_string));
    }
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_with_crun_conforms() {
    conforms(OciRuntime::Crun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_with_runc_conforms() {
    conforms(OciRuntime::Runc).await;
}
