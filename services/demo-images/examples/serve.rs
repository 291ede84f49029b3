//! Serves the demo images from a registry until Ctrl-C: `cargo run -p wherry-demo-images --example serve`.

use anyhow::Result;
use wherry_demo_images::{Registry, recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("wherry-registry-{}", std::process::id()));
    let registry = Registry::start(&scratch).await?;
    for (name, image) in [("web", recipes::web()?), ("tool", recipes::tool()?), ("nginx", recipes::nginx()?)] {
        let reference = image.push(&registry.address(), &format!("demo/{name}"), "1").await?;
        println!("{reference}  {} bytes  {}", image.size_bytes(), image.digest());
    }
    println!("Ctrl-C ends it");
    tokio::signal::ctrl_c().await?;
    drop(registry);
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}
