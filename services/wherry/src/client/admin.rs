//! `wherry admin`: machines that join, are closed, opened, given up and removed. Lists are `fleet`'s, drains `drain`'s.

use std::time::Duration;

use wherry_api_types::{JoinTokenCreate, JoinTokenCreated, Node};

use super::failure::{Exit, Failure};
use super::session::Session;
use super::text::{clean, short_time};
use super::{drain, explain, fleet, output, tenancy};
use crate::cli::{AdminCommand, LostArgs, NodeCommand, NodeTokenArgs, ResealArgs, SecretsCommand};

pub(super) async fn run(session: &Session, command: &AdminCommand) -> Result<(), Failure> {
    let client = session.client();
    match command {
        AdminCommand::Tenant { command } => tenancy::tenant(session, command).await,
        AdminCommand::Node { command: NodeCommand::Token(args) } => token(session, args).await,
        AdminCommand::Nodes(args) => fleet::nodes(session, args).await,
        AdminCommand::Fleet(args) => fleet::summary(session, args).await,
        AdminCommand::Explain(args) => explain::run(session, args).await,
        AdminCommand::Events(args) => fleet::events(session, args).await,
        AdminCommand::Replicas(args) => fleet::replicas(session, args).await,
        AdminCommand::Secrets { command: SecretsCommand::Reseal(args) } => reseal(session, args).await,
        AdminCommand::Cordon(args) => {
            let node = client.cordon_node(&args.node).await?;
            output::line(&format!("{} takes no new instances", clean(&node.name)))
        }
        AdminCommand::Uncordon(args) => output::line(&render_open(&client.uncordon_node(&args.node).await?)),
        AdminCommand::Drain(args) => drain::run(session, args).await,
        AdminCommand::Lost(args) => lost(session, args).await,
        AdminCommand::Remove(args) => {
            client.remove_node(&args.node).await?;
            output::line(&format!("{} is removed; to come back it has to join anew", clean(&args.node)))
        }
    }
}

/// Goes through everything, batch by batch. Whatever ends it early, it says how to go on.
async fn reseal(session: &Session, args: &ResealArgs) -> Result<(), Failure> {
    let (mut examined, mut resealed, mut unopened) = (0_u64, 0_u64, 0_u64);
    let mut after = args.after.clone();
    loop {
        let done = match session.client().reseal_secrets(after.as_deref()).await {
            Ok(done) => done,
            Err(error) => {
                if let Some(after) = &after {
                    eprintln!("cut off; to go on: wherry admin secrets reseal --after {}", clean(after));
                }
                return Err(error.into());
            }
        };
        examined += u64::from(done.examined);
        resealed += u64::from(done.resealed);
        unopened += u64::from(done.unopened);
        if done.next.is_some() && done.next != after {
            after = done.next;
            continue;
        }
        let key = clean(&done.key);
        output::line(&format!(
            "{examined} instances and webhooks looked at; secrets of {resealed} sealed anew, with the key {key}"
        ))?;
        if unopened > 0 {
            return Err(Failure::failed(format!(
                "{unopened} secrets cannot be opened by the replica that answered: keep the older keys, and see its log for whose they are"
            )));
        }
        return Ok(());
    }
}

/// A machine that is open for new instances.
pub(super) fn render_open(node: &Node) -> String {
    let name = clean(&node.name);
    match node.silent_seconds {
        None => format!("{name} takes new instances"),
        Some(seconds) => format!("{name} takes new instances once it is heard again; it is silent for {seconds} s"),
    }
}

async fn lost(session: &Session, args: &LostArgs) -> Result<(), Failure> {
    let node = session.client().confirm_node_off(&args.node).await?;
    let name = clean(&node.name);
    output::line(&format!("nothing is placed on {name} any more; if it is gone for good: wherry admin remove {name}"))
}

async fn token(session: &Session, args: &NodeTokenArgs) -> Result<(), Failure> {
    let body = JoinTokenCreate { ttl_seconds: Some(ttl_seconds(args.ttl)?), address_range: args.range.clone() };
    let made = session.client().create_join_token(&body).await?;
    if args.json {
        return output::json(&made);
    }
    let command = render_join(&made)?;
    // The command alone is on standard output, so that it can be handed on.
    eprintln!(
        "Run this in a root shell on the new machine before {} UTC; it works once. With sudo: put \
         `sudo --preserve-env=WHERRY_JOIN_TOKEN` before `wherry`. For the packaged unit: add `--data /var/lib/wherry-node`.",
        short_time(&made.expires_at)
    );
    output::line(&command)
}

fn ttl_seconds(ttl: Duration) -> Result<u32, Failure> {
    let seconds = u32::try_from(ttl.as_secs()).ok().filter(|_| ttl.subsec_nanos() == 0);
    seconds.ok_or_else(|| Failure::new(Exit::Usage, "--ttl counts whole seconds, 1m to 168h"))
}

/// The one command. It goes into a root shell elsewhere, so nothing in it may mean anything to a shell. The token stands in its
/// environment: everybody on that machine can read its arguments.
fn render_join(made: &JoinTokenCreated) -> Result<String, Failure> {
    let JoinTokenCreated { join_url, token, ca_fingerprint, .. } = made;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/[]".contains(&byte);
    for part in [join_url, token, ca_fingerprint] {
        if part.is_empty() || !part.bytes().all(is_plain) {
            let part = clean(part);
            return Err(Failure::failed(format!("the service answered {part:?}, which no shell should be given")));
        }
    }
    Ok(format!("WHERRY_JOIN_TOKEN={token} wherry node --join {join_url} --ca-fingerprint {ca_fingerprint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> JoinTokenCreated {
        JoinTokenCreated {
            id: "0193573e-7a00-7000-8000-0000000000a1".into(),
            token: "wjt_0193573e-7a00-7000-8000-0000000000a1_J2uX-_".into(),
            expires_at: "2026-03-01T00:00:00Z".into(),
            address_range: None,
            join_url: "https://192.0.2.1:7443".into(),
            ca_fingerprint: "sha256:0a0a".into(),
        }
    }

    #[test]
    fn the_one_command() {
        let expected = "WHERRY_JOIN_TOKEN=wjt_0193573e-7a00-7000-8000-0000000000a1_J2uX-_ wherry node \
                        --join https://192.0.2.1:7443 --ca-fingerprint sha256:0a0a";
        assert_eq!(render_join(&made()).unwrap(), expected);
    }

    #[test]
    fn a_service_cannot_make_it_another_command() {
        for wrong in ["", "https://x; reboot", "$(reboot)", "a b", "a\nb", "`x`", "a&b"] {
            assert!(render_join(&JoinTokenCreated { join_url: wrong.into(), ..made() }).is_err(), "{wrong}");
            assert!(render_join(&JoinTokenCreated { token: wrong.into(), ..made() }).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lives_are_whole_seconds() {
        assert_eq!(ttl_seconds(Duration::from_hours(1)), Ok(3_600));
        assert!(ttl_seconds(Duration::from_millis(1_500)).is_err());
        assert!(ttl_seconds(Duration::MAX).is_err());
    }
}
