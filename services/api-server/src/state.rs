//! What every handler can reach.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wherry_control::Control;
use wherry_model::{Clock, Entropy};

use crate::auth::{Authenticator, OutsideIssuer, SigningKey};
use crate::layers::Places;
use crate::metrics::Metrics;
use crate::settings::ApiSettings;

/// Something that has to work before requests make sense.
#[async_trait]
pub trait ReadinessCheck: Send + Sync {
    /// What it is, in one word.
    fn name(&self) -> &'static str;

    /// Fails with a sentence that says what is missing.
    async fn check(&self) -> Result<(), String>;
}

/// What the API is made of.
pub struct ApiParts {
    /// The application.
    pub control: Control,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where request and token ids come from.
    pub entropy: Arc<dyn Entropy>,
    /// What tokens are signed with.
    pub signing_key: SigningKey,
    /// Who else may vouch for callers.
    pub outside_issuers: Vec<OutsideIssuer>,
    /// What `/readyz` asks, besides the application's store.
    pub readiness: Vec<Arc<dyn ReadinessCheck>>,
    /// Bounds and names.
    pub settings: ApiSettings,
    /// Ends the streams, so that a shutdown does not wait for readers who never leave.
    pub shutdown: CancellationToken,
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) control: Control,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) readiness: Arc<[Arc<dyn ReadinessCheck>]>,
    pub(crate) settings: Arc<ApiSettings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) requests: Arc<Semaphore>,
    /// Token requests: nobody knows who sends them, so they may take only a part of the places.
    pub(crate) logins: Arc<Semaphore>,
    pub(crate) streams: Arc<Places>,
    /// Programs that run in containers; each holds a place among the streams too.
    pub(crate) execs: Arc<Places>,
    pub(crate) shutdown: CancellationToken,
}

impl ApiState {
    /// Puts the parts together.
    pub fn new(parts: ApiParts) -> Self {
        let ApiParts { control, clock, entropy, signing_key, outside_issuers, readiness, settings, shutdown } = parts;
        let authenticator =
            Authenticator::new(control.clone(), Arc::clone(&clock), signing_key, outside_issuers, &settings);
        Self {
            control,
            clock,
            entropy,
            authenticator: Arc::new(authenticator),
            readiness: readiness.into(),
            metrics: Arc::new(Metrics::new()),
            requests: Arc::new(Semaphore::new(settings.max_requests)),
            logins: Arc::new(Semaphore::new(settings.max_logins)),
            streams: Arc::new(Places::new(
                "waits and streams",
                "too_many_streams",
                settings.max_streams,
                settings.max_streams_per_tenant,
            )),
            execs: Arc::new(Places::new(
                "programs in containers",
                "too_many_execs",
                settings.max_execs,
                settings.max_execs_per_tenant,
            )),
            settings: Arc::new(settings),
            shutdown,
        }
    }

    /// Where others register the numbers that `/metrics` shows.
    pub fn registry(&self) -> &prometheus::Registry {
        self.metrics.registry()
    }
}
