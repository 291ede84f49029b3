//! `wherry inspect`.

use wherry_api_types::{Instance, InstanceSpec};

use super::failure::Failure;
use super::output;
use super::session::Session;
use super::text::clean;
use crate::cli::{InspectArgs, InspectFormat};

pub(super) async fn run(session: &Session, args: &InspectArgs) -> Result<(), Failure> {
    let instance = session.get(&args.name).await?;
    match args.output {
        InspectFormat::Json => output::json(&instance),
        InspectFormat::Yaml => output::yaml(&instance),
        InspectFormat::Spec => output::yaml(&spec(instance)),
        InspectFormat::Name => output::line(&clean(&instance.name)),
    }
}

/// What was asked for, with the name by which it is found again.
fn spec(instance: Instance) -> InstanceSpec {
    InstanceSpec { name: Some(instance.name), ..instance.spec }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::instance;

    #[test]
    fn a_spec_that_was_printed_is_read_again() {
        let printed = serde_saphyr::to_string(&spec(instance("web"))).unwrap();
        let read: InstanceSpec = serde_saphyr::from_str(&printed).unwrap();
        assert_eq!(read, spec(instance("web")));
    }
}
