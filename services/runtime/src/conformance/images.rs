//! Pulls.

use super::{Check, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerRuntime, Labels, PullRequest, RegistryAuth, RuntimeError};

/// A pull says the digest, and the pinned reference means the image from then on.
pub async fn pulls_pin_a_digest(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "pin").await?;
    let pulled = stage.pull(&fixture.image).await?;
    let hex = pulled.digest.strip_prefix("sha256:").unwrap_or_default();
    ensure!(hex.len() == 64, "digest is {:?}", pulled.digest);
    ensure!(
        pulled.pinned_reference.ends_with(&format!("@{}", pulled.digest)),
        "pinned reference is {:?}",
        pulled.pinned_reference
    );
    let by_pin = runtime.image(&pulled.pinned_reference).await?;
    ensure!(by_pin.as_ref().is_some_and(|image| image.id == pulled.image.id), "pinned reference means {by_pin:?}");
    ensure!(pulled.image.size_bytes > 0, "image has no size");
    let again = stage.pull(&pulled.pinned_reference).await?;
    ensure!(again.digest == pulled.digest, "pull of the pinned reference gave {:?}", again.digest);
    let listed = runtime.list_images().await?;
    ensure!(listed.iter().any(|image| image.id == pulled.image.id), "image is not listed");
    Ok(())
}

/// Missing images and refused ones are different errors; removing what is not there is fine.
pub async fn bad_images_are_told_apart(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "bad").await?;
    let missing = stage.pull(&fixture.missing_image).await;
    ensure!(matches!(missing, Err(RuntimeError::ImageNotFound { .. })), "pull of a missing image gave {missing:?}");
    let refused = stage.pull(&fixture.refused_image).await;
    ensure!(matches!(refused, Err(RuntimeError::ImageRefused { .. })), "pull of a refused image gave {refused:?}");
    ensure!(runtime.image(&fixture.missing_image).await?.is_none(), "missing image is known");
    runtime.remove_image(&fixture.missing_image).await?;
    runtime.remove_image(&fixture.refused_image).await?;
    runtime.remove_image(&fixture.refused_image).await?;
    Ok(())
}

/// Who has no password or a wrong one is refused as such, also for an image that is here already; no error repeats a password.
pub async fn private_images_need_a_password(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let pull = async |reference: &str, auth: Option<RegistryAuth>| {
        let request = PullRequest { reference: reference.to_owned(), auth, timeout: PATIENCE };
        runtime.pull_image(&request).await
    };
    let right = &fixture.private_auth;
    let wrong = RegistryAuth { password: "guessed".to_owned(), ..right.clone() };
    let mut references = vec![fixture.private_image.clone()];
    for _ in ["not here yet", "here"] {
        for reference in &references {
            for auth in [None, Some(wrong.clone())] {
                let refused = pull(reference, auth).await;
                let is_right =
                    matches!(&refused, Err(RuntimeError::Unauthorized { message, .. }) if !message.contains("guessed"));
                ensure!(is_right, "pull of {reference} without a right password gave {refused:?}");
            }
        }
        let pulled = pull(&fixture.private_image, Some(right.clone())).await?;
        references.push(pulled.pinned_reference);
    }
    Ok(())
}

/// A container says which image it is of, an image that was removed is not there by any name, and a pull brings it back. Not beside
/// other checks: they use the same image.
pub async fn images_are_removed_whole(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "removed").await?;
    let pulled = stage.pull(&fixture.image).await?;
    let (_, container) = stage.container("main", "sleep 600").await?;
    let listed = runtime.list_containers(&Labels::new()).await?;
    let of = listed.iter().find(|one| one.id == container).map(|one| one.image_id.as_str());
    ensure!(of == Some(pulled.image.id.as_str()), "the container is of image {of:?}");
    let disk = runtime.image_disk().await?;
    ensure!(disk.used_bytes > 0 && disk.used_bytes <= disk.total_bytes, "the disk of images is {disk:?}");
    runtime.remove_container(&container).await?;
    runtime.remove_image(&pulled.image.id).await?;
    for name in [&fixture.image, &pulled.pinned_reference, &pulled.image.id] {
        let left = runtime.image(name).await?;
        ensure!(left.is_none(), "{name} is still there: {left:?}");
    }
    ensure!(runtime.list_images().await?.iter().all(|image| image.id != pulled.image.id), "it is still listed");
    let again = stage.pull(&pulled.pinned_reference).await?;
    ensure!(again.image.id == pulled.image.id, "pulled again it is {again:?}");
    // As the cases after this one find it.
    stage.pull(&fixture.image).await?;
    stage.close().await
}
