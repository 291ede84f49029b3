//! Work that blocks on the disk, on threads that may block.

/// Runs the work and returns what it gives. A panic of the work goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        // The process is ending; nobody will look at the result.
        Err(_) => std::future::pending().await,
    }
}
