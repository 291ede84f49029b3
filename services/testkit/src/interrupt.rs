//! Cutting a call off in the middle.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Lets `call` be polled `polls` times and drops it then, wherever it is: what a caller that goes away, or a killed
/// process, leaves. Its result if it was done before.
///
/// It is polled without being woken, so that the number is a measure of time, too fine to miss a point at which it waits.
pub async fn interrupted<T>(polls: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}
