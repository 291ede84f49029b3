//! `docs/agent-protocol.md` says what is.

use wherry_agent_api::{Call, ControlError, ExecOutcome, PROTOCOL, Report};

use crate::authority::BACKDATED;
use crate::client::MAX_ANSWERS;
use crate::frames::MAX_FRAME_BYTES;
use crate::wire::{GENERATION_HEADER, INSTANCE_HEADER, LEAVING_HEADER, PROTOCOL_HEADER, PROTOCOL_HIGHEST_HEADER, path};
use crate::{Endpoint, Limits, LinkSettings, Lives};

const PAGE: &str = include_str!("../../../../docs/agent-protocol.md");

#[test]
fn the_page_names_every_route_and_header() {
    let routes = [
        format!("GET {}`", path::PING),
        format!("POST {}`", path::ENROL),
        format!("POST {}`", path::RENEW),
        format!("POST {}`", path::HELLO),
        format!("GET {}?have=", path::DESIRED),
        format!("POST {}`", path::REPORT),
        format!("POST {}`", path::HEARTBEAT),
        format!("GET {}?have=", path::SURROUNDINGS),
        format!("GET {}`", path::CALLS),
        format!("POST {}<ticket>`", path::ANSWER),
    ];
    for route in routes {
        assert!(PAGE.contains(&route), "{route}");
    }
    let headers = [PROTOCOL_HEADER, PROTOCOL_HIGHEST_HEADER, LEAVING_HEADER, INSTANCE_HEADER, GENERATION_HEADER];
    for header in headers {
        assert!(PAGE.contains(&format!("`{header}: ")), "{header}");
    }
    assert!(PAGE.starts_with(&format!("# Agent protocol, version {PROTOCOL}\n")));
}

#[test]
fn the_page_names_every_error_and_its_status() {
    let text = String::new;
    for error in [
        ControlError::Unavailable(text()),
        ControlError::UnknownNode,
        ControlError::Fenced { epoch: 1 },
        ControlError::Removed,
        ControlError::Forbidden(text()),
        ControlError::Refused(text()),
    ] {
        let code = serde_json::to_value(&error).unwrap()["error"].as_str().unwrap().to_owned();
        let row = format!("| `{code}` | {}", crate::refusal::status_of(&error).as_u16());
        assert!(PAGE.contains(&row), "{row}");
    }
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at(digits.len().saturating_sub(3));
    if head.is_empty() { tail.to_owned() } else { format!("{head},{tail}") }
}

#[test]
fn the_page_gives_the_bounds_that_hold() {
    let limits = Limits::default();
    let Limits { connections, strangers, strangers_of_an_address, connections_of_a_node, .. } = limits;
    let Limits { requests_of_a_node, answers_of_a_node, .. } = limits;
    let link = LinkSettings::default();
    let port: Endpoint = "https://host".parse().unwrap();
    let sentences = [
        format!("| Port | {} unless", port.to_string().rsplit(':').next().unwrap()),
        format!("| connections of nodes | {}; {connections_of_a_node} of one node |", thousands(connections)),
        format!("| connections without a certificate | {strangers}; {strangers_of_an_address} of one address"),
        format!("each for {} s |", limits.stranger_stay.as_secs()),
        format!("| answers at once of an agent | {MAX_ANSWERS};"),
        format!("| requests at once of one node | {requests_of_a_node}; answers {answers_of_a_node} |"),
        {
            let times = [limits.handshake, limits.first_request, limits.head, limits.body];
            format!("| {} |", times.map(|time| format!("{} s", time.as_secs())).join(", "))
        },
        format!("| {} s; of a long poll {} s |", limits.message.as_secs(), limits.long_poll.as_secs()),
        format!("at most {}), then so many bytes", thousands(MAX_FRAME_BYTES)),
        format!("at most {} MiB of each", ExecOutcome::MAX_OUTPUT_BYTES / 1024 / 1024),
        format!("works once, for {} s", Call::LIFETIME.as_secs()),
        format!("up to {} observations", Report::MAX_OBSERVATIONS),
        format!("lives {} hours", Lives::default().node.as_secs() / 3_600),
        format!(
            "{} minutes before it was made",
            ["no", "one", "two", "three", "four", "five"][usize::try_from(BACKDATED.as_secs() / 60).unwrap()]
        ),
        format!("pings every {} s and gives a connection up {} s later", link.ping.as_secs(), link.pong.as_secs()),
        format!("no answer within {} s", link.message.as_secs()),
    ];
    for sentence in sentences {
        assert!(PAGE.contains(&sentence), "{sentence}");
    }
}
