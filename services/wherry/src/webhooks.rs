//! Carries what webhooks tell from the application to whoever sends it: as a CloudEvent of this installation.

use async_trait::async_trait;
use wherry_control::{Outgoing, SendOutcome, WebhookSender};
use wherry_webhook_sender::{Message, Policy, Sender};

use crate::settings::Webhooks;

/// Sends by HTTP.
pub(crate) struct Bridge {
    sender: Sender,
    /// Names the installation.
    apex: String,
}

impl Bridge {
    /// `own` are ranges of the fleet: nothing is sent there unless the operator allows it.
    pub(crate) fn new(settings: &Webhooks, own: &[&str], apex: String) -> anyhow::Result<Self> {
        let own = own.iter().map(|range| range.parse()).collect::<Result<Vec<_>, _>>()?;
        let policy = Policy::new(settings.allow_http, settings.allowed()?, own);
        let sender = Sender::new(policy, settings.timeout())?;
        Ok(Self { sender, apex })
    }
}

#[async_trait]
impl WebhookSender for Bridge {
    fn check_url(&self, url: &str) -> Result<(), String> {
        self.sender.check_url(url)
    }

    async fn send(&self, outgoing: Outgoing) -> SendOutcome {
        let Outgoing { url, webhook, project, delivery, at, secrets } = outgoing;
        let event = wherry_api_server::cloud_event(&self.apex, &project, &webhook, &delivery);
        let body = match serde_json::to_string(&event) {
            Ok(body) => body,
            Err(error) => return SendOutcome { status: None, error: Some(error.to_string()) },
        };
        match self.sender.send(Message { url: &url, id: &event.id, at, body, secrets: &secrets }).await {
            Ok(status) if (200..300).contains(&status) => SendOutcome { status: Some(status), error: None },
            Ok(status) => SendOutcome { status: Some(status), error: Some(format!("the receiver answered {status}")) },
            Err(error) => SendOutcome { status: None, error: Some(error.to_string()) },
        }
    }
}
