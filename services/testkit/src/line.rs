//! The line between agents and the control plane: it outlives restarts of the control plane, can be cut, and can lose
//! answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;
use wherry_agent_api::{Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, Report, Surroundings, Welcome};
use wherry_control::Control;
use wherry_model::NodeId;

/// A [`ControlPlane`] that passes everything on to the application that is plugged in, if one is.
///
/// Cutting the line drops the calls that are under way, wherever they are: what they had not committed is not done.
#[derive(Debug)]
pub struct Line {
    far_end: watch::Sender<FarEnd>,
    lost_answers: AtomicU32,
    reports_refused: AtomicBool,
}

#[derive(Clone, Default)]
struct FarEnd(Option<Control>);

impl std::fmt::Debug for FarEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "connected" } else { "cut" })
    }
}

impl Default for Line {
    fn default() -> Self {
        let far_end = watch::channel(FarEnd(None)).0;
        Self { far_end, lost_answers: AtomicU32::new(0), reports_refused: AtomicBool::new(false) }
    }
}

impl Line {
    /// Connects the agents to this application.
    pub fn plug(&self, control: Control) {
        self.far_end.send_replace(FarEnd(Some(control)));
    }

    /// Cuts the line; every call fails until it is plugged again.
    pub fn cut(&self) {
        self.far_end.send_replace(FarEnd(None));
    }

    /// The answers to the next `count` reports are lost: they arrive and are stored, but the agent does not learn it.
    pub fn lose_answers(&self, count: u32) {
        self.lost_answers.store(count, Ordering::SeqCst);
    }

    /// Lets reports fail, and only them.
    pub fn refuse_reports(&self, refuse: bool) {
        self.reports_refused.store(refuse, Ordering::SeqCst);
    }

    async fn call<T, F>(&self, call: impl FnOnce(Control) -> F + Send) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>> + Send,
    {
        let away = || ControlError::Unavailable("the line is cut".to_owned());
        let mut changes = self.far_end.subscribe();
        let control = changes.borrow_and_update().0.clone().ok_or_else(away)?;
        tokio::select! {
            biased;
            _ = changes.changed() => Err(away()),
            answer = call(control) => answer,
        }
    }
}

#[async_trait]
impl ControlPlane for Line {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        self.call(|control| async move { control.hello(hello).await }).await
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        self.call(|control| async move { control.desired(node, have).await }).await
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        if self.reports_refused.load(Ordering::SeqCst) {
            return Err(ControlError::Unavailable("reports are not taken now".to_owned()));
        }
        let ack = self.call(|control| async move { control.report(report).await }).await?;
        let lost = self.lost_answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if lost.is_ok() {
            return Err(ControlError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(ack)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        self.call(|control| async move { control.heartbeat(heartbeat).await }).await
    }

    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        self.call(|control| async move { control.surroundings(node, have).await }).await
    }
}
