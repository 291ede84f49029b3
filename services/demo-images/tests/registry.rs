//! Against Debian's real `docker-registry` (`cargo xtask setup --for test` installs it).

use wherry_demo_images::{FileTree, OciImage, Registry, SlowPath, recipes};

#[tokio::test]
async fn pushed_images_are_served_by_their_digest_and_survive_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(scratch.path()).await.unwrap();
    let web = recipes::web().unwrap();
    assert_eq!(web.digest(), recipes::web().unwrap().digest(), "a recipe must repeat");

    let reference = web.push(&registry.address(), "demo/web", "1").await.unwrap();
    assert_eq!(reference, format!("{}/demo/web:1", registry.address()));
    web.push(&registry.address(), "demo/web", "1").await.unwrap();
    assert_eq!(served_digest(&registry, "demo/web", "1").await.as_deref(), Some(web.digest()));

    registry.stop();
    assert!(served_digest(&registry, "demo/web", "1").await.is_none(), "a stopped registry must not answer");
    registry.resume().await.unwrap();
    assert_eq!(served_digest(&registry, "demo/web", "1").await.as_deref(), Some(web.digest()));
}

#[tokio::test]
async fn a_push_to_nobody_says_where() {
    let image = OciImage::builder().layer(FileTree::new().file("/a", 0o644, "a")).build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(scratch.path()).await.unwrap();
    registry.stop();
    let error = format!("{:#}", image.push(&registry.address(), "demo/a", "1").await.unwrap_err());
    assert!(error.contains(&registry.address()), "{error}");
}

#[tokio::test]
async fn a_dropped_registry_leaves_no_process() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = Registry::start(scratch.path()).await.unwrap();
    let process = format!("/proc/{}", registry.pid().unwrap());
    assert!(std::path::Path::new(&process).exists());
    drop(registry);
    assert!(!std::path::Path::new(&process).exists());
}

#[test]
fn nginx_holds_its_loader_and_libraries() {
    let nginx = recipes::nginx().unwrap();
    assert!(nginx.size_bytes() > 2_000_000, "only {} bytes: the libraries are missing", nginx.size_bytes());
}

async fn served_digest(registry: &Registry, name: &str, tag: &str) -> Option<String> {
    let url = format!("http://{}/v2/{name}/manifests/{tag}", registry.address());
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain HTTP client");
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let answer = client.head(url).header("Accept", accept).send().await.ok()?;
    answer.headers().get("Docker-Content-Digest")?.to_str().ok().map(str::to_owned)
}

#[tokio::test]
async fn a_slow_path_is_slow_and_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = Registry::start(scratch.path()).await.unwrap();
    let content = "wherry".repeat(20_000);
    let tree = FileTree::new().file("/noise", 0o644, content.clone().into_bytes());
    let image = OciImage::builder().layer(tree).build().unwrap();
    image.push(&registry.address(), "demo/noise", "1").await.unwrap();

    let path = SlowPath::start(&registry.address(), 20_000).await.unwrap();
    let started = std::time::Instant::now();
    let url = format!("http://{}/v2/demo/noise/manifests/1", path.address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let text = client.get(&url).header("Accept", accept).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("diff") || text.contains("layers"), "{text}");
    // About 1 KB of head and manifest at 20 KB/s.
    assert!(started.elapsed() > std::time::Duration::from_millis(30), "{:?}", started.elapsed());
}
