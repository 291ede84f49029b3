//! Work that blocks on the disk, on threads that may block.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs the work and returns what it gives. A panic of the work goes on here.
///
/// On a runtime of one thread, which only tests have, it runs right here: threads beside a paused clock would make every run
/// of a simulation another one.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        // The process is ending; nobody will look at the result.
        Err(_) => std::future::pending().await,
    }
}
