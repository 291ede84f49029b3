//! Where an instance may be placed.

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

use super::parse;

pub(super) fn placement_to_model(placement: wire::Placement) -> Result<model::PlacementRules, SpecError> {
    let labels = |list: &str, given: Vec<String>| -> Result<Vec<model::LabelMatch>, SpecError> {
        let given = given.iter().enumerate();
        given.map(|(index, label)| parse(format!("placement.{list}[{index}]"), label)).collect()
    };
    let spread = placement.spread.into_iter().map(|wire::Spread { label, max_skew, over }| model::SpreadRule {
        label,
        max_skew: max_skew.unwrap_or(1),
        over: match over.unwrap_or_default() {
            wire::SpreadOver::Node => model::SpreadOver::Nodes,
            wire::SpreadOver::Zone => model::SpreadOver::Zones,
        },
    });
    Ok(model::PlacementRules {
        spread: spread.collect(),
        near: labels("near", placement.near)?,
        apart: labels("apart", placement.apart)?,
    })
}

pub(super) fn placement_to_wire(placement: &model::PlacementRules) -> Option<wire::Placement> {
    let labels = |given: &[model::LabelMatch]| given.iter().map(ToString::to_string).collect();
    let spread = placement.spread.iter().map(|rule| wire::Spread {
        label: rule.label.clone(),
        max_skew: Some(rule.max_skew),
        over: Some(match rule.over {
            model::SpreadOver::Nodes => wire::SpreadOver::Node,
            model::SpreadOver::Zones => wire::SpreadOver::Zone,
        }),
    });
    (!placement.is_empty()).then(|| wire::Placement {
        spread: spread.collect(),
        near: labels(&placement.near),
        apart: labels(&placement.apart),
    })
}

pub(super) const fn priority_to_model(priority: wire::Priority) -> model::Priority {
    match priority {
        wire::Priority::Regular => model::Priority::Regular,
        wire::Priority::Spot => model::Priority::Spot,
    }
}

pub(super) const fn priority_to_wire(priority: model::Priority) -> wire::Priority {
    match priority {
        model::Priority::Regular => wire::Priority::Regular,
        model::Priority::Spot => wire::Priority::Spot,
    }
}
