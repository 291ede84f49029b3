//! `wherry webhook`.

use std::time::Duration;

use wherry_api_types::{
    Delivery, DeliveryState, Webhook, WebhookCreate, WebhookDisabledReason, WebhookPatch, WebhookWithSecret,
};

use super::failure::Failure;
use super::output::{self, column, whole};
use super::session::Session;
use super::text::{clean, short_time};
use crate::cli::WebhookCommand;

/// How often it is looked what became of a ping, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: u32 = 280;

pub(super) async fn run(session: &Session, command: &WebhookCommand) -> Result<(), Failure> {
    let (client, project) = (session.client(), session.project());
    match command {
        WebhookCommand::Create(args) => {
            let body = WebhookCreate {
                name: args.name.clone(),
                url: args.url.clone(),
                events: args.events.clone(),
                instance: args.instance.clone(),
                enabled: true,
                ..WebhookCreate::default()
            };
            show_secret(&client.create_webhook(project, &body).await?)
        }
        WebhookCommand::List(_) => {
            let found = client.webhooks(project).await?.items;
            output::raw(render(&found, output::terminal_width()).as_bytes())
        }
        WebhookCommand::Get(args) => output::json(&client.webhook(project, &args.name).await?),
        WebhookCommand::Disable(args) => enable(session, &args.name, false).await,
        WebhookCommand::Enable(args) => enable(session, &args.name, true).await,
        WebhookCommand::RotateSecret(args) => show_secret(&client.rotate_webhook_secret(project, &args.name).await?),
        WebhookCommand::Delete(args) => {
            client.delete_webhook(project, &args.name).await?;
            output::line(&clean(&args.name))
        }
        WebhookCommand::Deliveries(args) => deliveries(session, &args.name).await,
        WebhookCommand::Test(args) => {
            let ping = client.test_webhook(project, &args.name).await?;
            outcome(session, &args.name, ping).await
        }
        WebhookCommand::Redeliver(args) => {
            let again = client.redeliver(project, &args.name, &args.delivery).await?;
            output::line(&format!("{} waits to be sent again", clean(&again.id)))
        }
    }
}

fn show_secret(made: &WebhookWithSecret) -> Result<(), Failure> {
    output::line(&clean(&made.secret))?;
    eprintln!(
        "{} sends to {}. This is the only time that the secret is shown.",
        clean(&made.webhook.name),
        clean(&made.webhook.spec.url)
    );
    Ok(())
}

async fn enable(session: &Session, name: &str, enabled: bool) -> Result<(), Failure> {
    let patch = WebhookPatch { enabled: Some(enabled), ..WebhookPatch::default() };
    session.client().update_webhook(session.project(), name, &patch).await?;
    output::line(&clean(name))
}

async fn deliveries(session: &Session, name: &str) -> Result<(), Failure> {
    let page = session.client().deliveries(session.project(), name, None).await?;
    output::raw(render_deliveries(&page.items, output::terminal_width()).as_bytes())?;
    if page.next.is_some() {
        eprintln!("There are older ones; the API gives them page by page.");
    }
    Ok(())
}

/// Waits for what becomes of a ping and says it.
async fn outcome(session: &Session, name: &str, ping: Delivery) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        let now = session.client().delivery(session.project(), name, &ping.id).await?;
        let took = now.duration_ms.unwrap_or_default();
        match now.state {
            DeliveryState::Delivered => {
                let status = now.response_status.unwrap_or_default();
                return output::line(&format!("taken: {status} after {took} ms"));
            }
            DeliveryState::GivenUp => {
                let why = now.error.unwrap_or_else(|| "no answer".to_owned());
                return Err(Failure::failed(format!("not taken after {took} ms: {}", clean(&why))));
            }
            DeliveryState::Waiting => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Err(Failure::failed(format!("{} still waits: look with `wherry webhook deliveries {name}`", ping.id)))
}

fn render(webhooks: &[Webhook], width: Option<u16>) -> String {
    let row = |webhook: &Webhook| {
        let state = match (webhook.disabled_reason, &webhook.failing_since) {
            (Some(WebhookDisabledReason::Asked), _) => "disabled".to_owned(),
            (Some(WebhookDisabledReason::Failing), _) => "disabled: it failed for too long".to_owned(),
            (Some(WebhookDisabledReason::Gone), _) => "disabled: the receiver is gone".to_owned(),
            (None, Some(since)) => format!("fails since {}", short_time(since)),
            (None, None) => "works".to_owned(),
        };
        let events = webhook.spec.events.join(" ");
        let events = if events.is_empty() { "all".to_owned() } else { events };
        vec![clean(&webhook.name), clean(&webhook.spec.url), state, clean(&events)]
    };
    let columns = [whole("NAME"), column("URL"), column("STATE"), column("EVENTS")];
    output::table(&columns, webhooks.iter().map(row).collect(), width)
}

fn render_deliveries(deliveries: &[Delivery], width: Option<u16>) -> String {
    let row = |one: &Delivery| {
        let state = match one.state {
            DeliveryState::Waiting => "waiting",
            DeliveryState::Delivered => "delivered",
            DeliveryState::GivenUp => "given up",
        };
        let answer = match (one.response_status, &one.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => clean(error),
            (None, None) => "-".to_owned(),
        };
        vec![
            clean(&one.id),
            clean(&one.kind),
            one.instance.as_deref().map_or_else(|| "-".to_owned(), clean),
            state.to_owned(),
            one.attempts.to_string(),
            answer,
            one.duration_ms.map_or_else(|| "-".to_owned(), |took| format!("{took} ms")),
            one.next_attempt_at.as_deref().map_or_else(|| "-".to_owned(), short_time),
        ]
    };
    let columns = [
        whole("ID"),
        column("TYPE"),
        column("INSTANCE"),
        column("STATE"),
        column("TRIES"),
        column("ANSWER"),
        column("TOOK"),
        column("NEXT TRY"),
    ];
    output::table(&columns, deliveries.iter().map(row).collect(), width)
}
