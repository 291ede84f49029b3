//! `wherry admin explain`: the decision of placement with its reasons.

use wherry_api_types::Explanation;

use super::failure::{Exit, Failure};
use super::session::Session;
use super::text::clean;
use super::{documents, output};
use crate::cli::ExplainArgs;

pub(super) async fn run(session: &Session, args: &ExplainArgs) -> Result<(), Failure> {
    let client = session.client();
    if let Some(path) = &args.instance {
        let (tenant, project, instance) = named(path, session.project())?;
        if tenant.is_some() && args.tenant.is_some() {
            return Err(Failure::new(Exit::Usage, "the tenant is named twice: leave --tenant away"));
        }
        let tenant = tenant.or(args.tenant.as_deref());
        return show(args, &client.explain_instance(tenant, project, instance).await?);
    }
    let Some(file) = &args.file else { return Err(Failure::new(Exit::Usage, "name an instance, or give a file")) };
    for spec in documents::read(file)? {
        show(args, &client.explain_spec(args.tenant.as_deref(), &spec).await?)?;
    }
    Ok(())
}

fn show(args: &ExplainArgs, explanation: &Explanation) -> Result<(), Failure> {
    if args.json { output::json(explanation) } else { output::line(&render(explanation)) }
}

/// Tenant, project and instance.
fn named<'a>(path: &'a str, project: &'a str) -> Result<(Option<&'a str>, &'a str, &'a str), Failure> {
    match path.split('/').collect::<Vec<_>>()[..] {
        [instance] => Ok((None, project, instance)),
        [project, instance] => Ok((None, project, instance)),
        [tenant, project, instance] => Ok((Some(tenant), project, instance)),
        _ => {
            Err(Failure::new(Exit::Usage, "an instance is named INSTANCE, PROJECT/INSTANCE or TENANT/PROJECT/INSTANCE"))
        }
    }
}

fn render(explanation: &Explanation) -> String {
    let Explanation { demand, nodes, fits, refused, best, told, lifetime, state, placed_on } = explanation;
    let mut lines = Vec::new();
    if let Some(state) = state {
        let place =
            placed_on.as_ref().map_or_else(|| "on no machine".to_owned(), |on| format!("on {}", clean(&on.node)));
        lines.push(format!("now        {}, {place}", state.as_str()));
    }
    lines.push(format!("asks for   {} millis of CPU, {} MiB", demand.cpu_millis, demand.memory_mib));
    lines.push(format!("fits       {fits} of {nodes} machines"));
    for rule in refused {
        lines.push(format!("refused    {} {} ({})", rule.nodes, clean(&rule.message), clean(&rule.rule)));
    }
    for (rank, candidate) in best.iter().enumerate() {
        let score: Vec<String> =
            candidate.score.iter().map(|part| format!("{} {}", clean(&part.name), part.value)).collect();
        lines.push(format!("best {}     {}: {}", rank + 1, clean(&candidate.node), score.join(", ")));
    }
    if let Some(lifetime) = lifetime {
        lines.push(format!("lifetime   {}", clean(&lifetime.message)));
    }
    if let Some(told) = told {
        lines.push(format!("told       {}", clean(told)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use wherry_api_types::{Candidate, ExpectedLife, InstanceState, NodeCapacity, PlacedOn, RefusedBy, ScorePart};

    use super::*;

    #[test]
    fn instances_are_named_by_their_path() {
        assert_eq!(named("web", "default"), Ok((None, "default", "web")));
        assert_eq!(named("shop/web", "default"), Ok((None, "shop", "web")));
        assert_eq!(named("acme/shop/web", "default"), Ok((Some("acme"), "shop", "web")));
        assert!(named("a/b/c/d", "default").is_err());
    }

    #[test]
    fn a_decision_with_its_reasons() {
        let explanation = Explanation {
            demand: NodeCapacity { cpu_millis: 500, memory_mib: 512, instances: 1 },
            nodes: 4,
            fits: 1,
            refused: vec![RefusedBy { rule: "memory".into(), nodes: 3, message: "with too little memory left".into() }],
            best: vec![Candidate {
                node_id: "n".into(),
                node: "lyon-1".into(),
                score: vec![
                    ScorePart { name: "wakes_empty_node".into(), value: 0 },
                    ScorePart { name: "residue_mib".into(), value: 96 },
                ],
            }],
            told: None,
            lifetime: Some(ExpectedLife {
                remaining_seconds: 7_200,
                learnt_from: 314,
                message: "expected to run about 2 h more: learnt from 314 of the same image".into(),
            }),
            state: Some(InstanceState::Running),
            placed_on: Some(PlacedOn { node_id: "n".into(), node: "lyon-1".into() }),
        };
        let expected = "\
now        running, on lyon-1
asks for   500 millis of CPU, 512 MiB
fits       1 of 4 machines
refused    3 with too little memory left (memory)
best 1     lyon-1: wakes_empty_node 0, residue_mib 96
lifetime   expected to run about 2 h more: learnt from 314 of the same image";
        assert_eq!(render(&explanation), expected);
    }
}
