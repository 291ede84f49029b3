//! `wherry admin nodes`, `fleet`, `replicas` and `events`.

use futures_util::StreamExt as _;
use wherry_api_types::{Fleet, FleetEvent, FleetGpus, Node, NodeGpus, NodeState, Overcommit, Replica};
use wherry_model::{Clock as _, Timestamp};

use super::failure::Failure;
use super::output::{self, column, whole};
use super::room;
use super::session::Session;
use super::text::{age_of, clean, short_time};
use crate::cli::{FleetArgs, ListFormat, NodesArgs, StoryArgs, ViewArgs};
use crate::system::SystemClock;

pub(super) async fn nodes(session: &Session, args: &NodesArgs) -> Result<(), Failure> {
    let nodes = session.client().nodes().await?.items;
    match args.output {
        ListFormat::Json => output::json(&nodes),
        ListFormat::Yaml => output::yaml(&nodes),
        ListFormat::Wide => output::raw(render_nodes(&nodes, SystemClock.now(), true, None).as_bytes()),
        ListFormat::Name => nodes.iter().try_for_each(|node| output::line(&clean(&node.name))),
        ListFormat::Table => {
            output::raw(render_nodes(&nodes, SystemClock.now(), false, output::terminal_width()).as_bytes())
        }
    }
}

pub(super) async fn summary(session: &Session, args: &FleetArgs) -> Result<(), Failure> {
    if room::what_if(session, args).await? {
        return Ok(());
    }
    let fleet = session.client().fleet().await?;
    if args.json { output::json(&fleet) } else { output::line(&render_fleet(&fleet)) }
}

pub(super) async fn replicas(session: &Session, args: &ViewArgs) -> Result<(), Failure> {
    let replicas = session.client().replicas().await?.items;
    if args.json {
        return output::json(&replicas);
    }
    output::raw(render_replicas(&replicas, SystemClock.now(), output::terminal_width()).as_bytes())
}

pub(super) async fn events(session: &Session, args: &StoryArgs) -> Result<(), Failure> {
    let mut events = session.client().fleet_events(args.after, args.follow).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        if args.json {
            let text = serde_json::to_string(&event).map_err(|error| Failure::failed(error.to_string()))?;
            output::line(&text)?;
        } else {
            output::line(&render_event(&event))?;
        }
    }
    Ok(())
}

/// Used, all, and how much of it that is.
fn part(used: u64, all: u64) -> String {
    let percent = u128::from(used) * 100 / u128::from(all.max(1));
    format!("{used}/{all} ({percent}%)")
}

/// How much of each is handed out, and their kind.
fn gpus(gpus: &NodeGpus) -> String {
    let used: Vec<String> = gpus.used_percent.iter().map(|percent| format!("{percent}%")).collect();
    let kind = gpus.model.as_deref().map(|model| format!(" {}", clean(model))).unwrap_or_default();
    format!("{}{kind}", used.join(","))
}

/// Of CPU, memory and disk.
fn overcommit(overcommit: Overcommit) -> String {
    let Overcommit { cpu_percent, memory_percent, disk_percent } = overcommit;
    format!("{cpu_percent}%,{memory_percent}%,{disk_percent}%")
}

fn state(node: &Node) -> String {
    let state = match node.state {
        NodeState::Ready => "ready",
        NodeState::Cordoned => "cordoned",
        NodeState::Draining => "draining",
        NodeState::Silent => "silent",
    };
    let mut notes = Vec::new();
    if let Some(drain) = &node.drain {
        notes.push(if drain.left == 0 { "empty".to_owned() } else { format!("{} left", drain.left) });
    }
    if node.silent_seconds.is_some() && node.state != NodeState::Silent {
        notes.push("silent".to_owned());
    }
    if notes.is_empty() { state.to_owned() } else { format!("{state} ({})", notes.join(", ")) }
}

fn render_nodes(nodes: &[Node], now: Timestamp, is_wide: bool, width: Option<u16>) -> String {
    let row = |node: &Node| {
        let mut cells = vec![
            clean(&node.name),
            state(node),
            part(node.used.cpu_millis, node.capacity.cpu_millis),
            part(node.used.memory_mib, node.capacity.memory_mib),
            part(node.used.instances.into(), node.capacity.instances.into()),
            clean(&node.address_range),
            node.underlay.as_deref().map_or_else(|| "-".to_owned(), clean),
            age_of(&node.proof_at, now),
            clean(&node.id),
        ];
        if is_wide {
            let classes = serde_json::to_value(&node.isolation).ok();
            let classes =
                classes.iter().filter_map(|list| list.as_array()).flatten().filter_map(|class| class.as_str());
            cells.push(node.zone.as_deref().map_or_else(|| "-".to_owned(), clean));
            cells.push(node.disk.map_or_else(|| "-".to_owned(), |disk| part(disk.used_mib, disk.total_mib)));
            cells.push(node.gpus.as_ref().map_or_else(|| "-".to_owned(), gpus));
            cells.push(node.overcommit.map_or_else(|| "-".to_owned(), overcommit));
            cells.push(node.sole_tenant_id.as_deref().map_or_else(|| "-".to_owned(), clean));
            cells.push(classes.collect::<Vec<_>>().join(","));
        }
        cells
    };
    let mut columns = vec![
        whole("NAME"),
        column("STATE"),
        column("CPU MILLIS"),
        column("MEMORY MIB"),
        column("INSTANCES"),
        column("ADDRESSES"),
        column("MACHINE"),
        column("HEARD OF"),
        column("ID"),
    ];
    if is_wide {
        columns.extend(["ZONE", "DISK MIB", "GPUS", "OVERCOMMIT", "ALONE WITH", "ISOLATION"].map(column));
    }
    output::table(&columns, nodes.iter().map(row).collect(), width)
}

fn render_fleet(fleet: &Fleet) -> String {
    let Fleet { nodes, capacity, used, packing, gpus, room, pending_instances, brake } = fleet;
    let percent = |permille: u32| format!("{}.{}%", permille / 10, permille % 10);
    let mut lines = vec![
        format!(
            "nodes      {} ready, {} cordoned, {} draining, {} silent",
            nodes.ready, nodes.cordoned, nodes.draining, nodes.silent
        ),
        format!(
            "cpu        {:>6}  {} of {} millis",
            percent(packing.cpu_permille),
            used.cpu_millis,
            capacity.cpu_millis
        ),
        format!(
            "memory     {:>6}  {} of {} MiB",
            percent(packing.memory_permille),
            used.memory_mib,
            capacity.memory_mib
        ),
        format!("instances  {:>6}  {} of {}", percent(packing.instances_permille), used.instances, capacity.instances),
        format!("waiting    {pending_instances} for room"),
    ];
    if let Some(FleetGpus { count, used_percent }) = gpus {
        lines.push(format!("gpus               {}.{:02} of {count}", used_percent / 100, used_percent % 100));
    }
    lines.extend(room::render_room(room));
    if let Some(brake) = brake {
        lines.push(format!("BRAKE      {}", clean(brake)));
    }
    lines.join("\n")
}

fn render_replicas(replicas: &[Replica], now: Timestamp, width: Option<u16>) -> String {
    let row = |replica: &Replica| {
        let agents = replica.agents_url.as_deref().map_or_else(|| "-".to_owned(), clean);
        vec![clean(&replica.id), agents, age_of(&replica.seen_at, now)]
    };
    let columns = [whole("ID"), column("MACHINES CALL"), column("SEEN")];
    output::table(&columns, replicas.iter().map(row).collect(), width)
}

/// One line of fixed columns, as for events of instances.
fn render_event(event: &FleetEvent) -> String {
    let (at, kind) = (short_time(&event.at), event.kind.as_str());
    format!("{:>6}  {at}  {kind:<13}  {}", event.seq, clean(&event.message)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use wherry_api_types::{FleetEventKind, NodeCapacity, NodeCounts, Packing, Room};

    use super::*;
    use crate::client::testing::{drain, node};

    #[test]
    fn a_list_of_machines() {
        let now = "2026-03-01T00:00:03Z".parse().unwrap();
        let mut far = node("lyon-3");
        far.underlay = Some("192.0.2.7".into());
        far.silent_seconds = Some(20);
        far.state = NodeState::Draining;
        far.drain = Some(wherry_api_types::NodeDrain { left: 2, ..drain() });
        let expected = "\
NAME    STATE                      CPU MILLIS      MEMORY MIB       INSTANCES   ADDRESSES     MACHINE    HEARD OF  ID
here    ready                      500/2000 (25%)  1024/4096 (25%)  2/100 (2%)  10.77.0.0/16  -          3s        n-here
lyon-3  draining (2 left, silent)  500/2000 (25%)  1024/4096 (25%)  2/100 (2%)  10.77.0.0/16  192.0.2.7  3s        n-lyon-3
";
        assert_eq!(render_nodes(&[node("here"), far], now, false, None), expected);
        let wide = render_nodes(&[node("here")], now, true, None);
        assert!(wide.ends_with("n-here  -     -         -     -           -           shared\n"), "{wide}");
    }

    #[test]
    fn the_fleet() {
        let mut fleet = Fleet {
            nodes: NodeCounts { ready: 2, cordoned: 0, draining: 1, silent: 0 },
            capacity: NodeCapacity { cpu_millis: 6_000, memory_mib: 8_192, instances: 300 },
            used: NodeCapacity { cpu_millis: 4_890, memory_mib: 1_024, instances: 12 },
            packing: Packing { cpu_permille: 815, memory_permille: 125, instances_permille: 40 },
            gpus: None,
            room: Room {
                used_nodes: 1,
                packing: Packing { cpu_permille: 900, memory_permille: 500, instances_permille: 40 },
                ..Room::default()
            },
            pending_instances: 3,
            brake: None,
        };
        let expected = "\
nodes      2 ready, 0 cordoned, 1 draining, 0 silent
cpu         81.5%  4890 of 6000 millis
memory      12.5%  1024 of 8192 MiB
instances    4.0%  12 of 300
waiting    3 for room
packing    90.0% of the CPU and 50.0% of the memory of 1 nodes in use
stranded   0 millis, 0 MiB";
        assert_eq!(render_fleet(&fleet), expected);
        fleet.brake = Some("3 of 4 nodes are silent".into());
        assert!(render_fleet(&fleet).ends_with("\nBRAKE      3 of 4 nodes are silent"));
    }

    #[test]
    fn an_event() {
        let event = FleetEvent {
            seq: 42,
            at: "2026-03-01T12:00:00.5Z".into(),
            kind: FleetEventKind::NodeSilent,
            node_id: Some("n".into()),
            message: "lyon-3 is silent".into(),
        };
        assert_eq!(render_event(&event), "    42  2026-03-01 12:00:00  node_silent    lyon-3 is silent");
    }
}
