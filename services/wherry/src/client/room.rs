//! `wherry admin fleet`: what still fits, and what would if machines were emptied or joined.

use wherry_api_types::{NodesToAdd, Packing, Room, WhatIf, WhatIfAnswer};

use super::failure::Failure;
use super::output;
use super::session::Session;
use super::text::clean;
use crate::cli::{FleetArgs, NodeLike};

/// Moves that are shown.
const MOVES: usize = 40;

/// Asks what would become of the fleet, if the arguments name a change.
pub(super) async fn what_if(session: &Session, args: &FleetArgs) -> Result<bool, Failure> {
    let Some(change) = change(args) else { return Ok(false) };
    let answer = session.client().what_if(&change).await?;
    if args.json {
        output::json(&answer)?;
    } else {
        output::line(&render_what_if(&change, &answer))?;
    }
    Ok(true)
}

fn change(args: &FleetArgs) -> Option<WhatIf> {
    let add = args.add_nodes.zip(args.like.clone()).map(|(count, like)| match like {
        NodeLike::Node(like) => NodesToAdd { count, like: Some(like), ..NodesToAdd::default() },
        NodeLike::Size { cpu, memory } => {
            NodesToAdd { count, cpu: Some(cpu), memory: Some(memory), ..NodesToAdd::default() }
        }
    });
    let change = WhatIf { drain: args.drain.clone(), add };
    (change != WhatIf::default()).then_some(change)
}

/// Lines of what room there is.
pub(super) fn render_room(room: &Room) -> Vec<String> {
    let Packing { cpu_permille, memory_permille, .. } = room.packing;
    let percent = |permille: u32| format!("{}.{}%", permille / 10, permille % 10);
    let (cpu, memory) = (percent(cpu_permille), percent(memory_permille));
    let mut lines = vec![
        format!("packing    {cpu} of the CPU and {memory} of the memory of {} nodes in use", room.used_nodes),
        format!("stranded   {} millis, {} MiB", room.stranded_cpu_millis, room.stranded_memory_mib),
    ];
    for shape in &room.shapes {
        let of = format!("{} millis, {} MiB", shape.cpu_millis, shape.memory_mib);
        let lost = shape.fits_by_totals.saturating_sub(shape.fits);
        let lost = u128::from(lost) * 100 / u128::from(shape.fits_by_totals.max(1));
        let (fits, totals) = (shape.fits, shape.fits_by_totals);
        lines.push(format!("room for   {fits} more of {of}; {totals} by the totals, {lost}% lost to fragmentation"));
    }
    lines
}

fn render_what_if(change: &WhatIf, answer: &WhatIfAnswer) -> String {
    let section = |title: &str, room: &Room| {
        let lines = render_room(room).into_iter().map(|line| format!("  {line}"));
        [title.to_owned()].into_iter().chain(lines).collect::<Vec<_>>()
    };
    let mut lines = section("now", &answer.before);
    lines.extend(section("then", &answer.after));
    if !change.drain.is_empty() {
        let fit = answer.moved.saturating_sub(answer.stuck);
        lines.push(format!("moves      {fit} of {} would find a place", answer.moved));
        for one in answer.moves.iter().take(MOVES) {
            let to = one.to.as_deref().map_or_else(|| "nowhere".to_owned(), clean);
            let why = one.why_not.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
            lines.push(format!("  {} from {} to {to}{why}", clean(&one.instance), clean(&one.from)));
        }
        let more = answer.moved.saturating_sub(u32::try_from(answer.moves.len().min(MOVES)).unwrap_or(u32::MAX));
        if more > 0 {
            lines.push(format!("  and {more} more; --json tells more of them"));
        }
    }
    lines.push(format!("waiting    {} of {} would get a place", answer.waiting_placed, answer.waiting));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use wherry_api_types::{Move, NodeCapacity, ShapeRoom};

    use super::*;

    fn room(fits: u64) -> Room {
        Room {
            used_nodes: 2,
            packing: Packing { cpu_permille: 815, memory_permille: 125, instances_permille: 40 },
            stranded_cpu_millis: 1_000,
            stranded_memory_mib: 0,
            shapes: vec![ShapeRoom { cpu_millis: 500, memory_mib: 512, instances: 9, fits, fits_by_totals: 4 }],
            sampled_nodes: 2,
        }
    }

    #[test]
    fn before_and_after() {
        let change = WhatIf { drain: vec!["lyon-3".into()], add: None };
        let one = Move {
            instance_id: "i".into(),
            instance: "web".into(),
            tenant_id: "t".into(),
            demand: NodeCapacity { cpu_millis: 500, memory_mib: 512, instances: 1 },
            from: "lyon-3".into(),
            to: Some("lyon-1".into()),
            why_not: None,
        };
        let stuck = Move { instance: "big".into(), to: None, why_not: Some("it is too large".into()), ..one.clone() };
        let answer = WhatIfAnswer {
            before: room(4),
            after: room(3),
            moves: vec![one, stuck],
            moved: 2,
            stuck: 1,
            waiting: 3,
            waiting_placed: 2,
        };
        let expected = "\
now
  packing    81.5% of the CPU and 12.5% of the memory of 2 nodes in use
  stranded   1000 millis, 0 MiB
  room for   4 more of 500 millis, 512 MiB; 4 by the totals, 0% lost to fragmentation
then
  packing    81.5% of the CPU and 12.5% of the memory of 2 nodes in use
  stranded   1000 millis, 0 MiB
  room for   3 more of 500 millis, 512 MiB; 4 by the totals, 25% lost to fragmentation
moves      1 of 2 would find a place
  web from lyon-3 to lyon-1
  big from lyon-3 to nowhere: it is too large
waiting    2 of 3 would get a place";
        assert_eq!(render_what_if(&change, &answer), expected);
    }
}
