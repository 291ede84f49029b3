//! At which address the other machines reach this one.
//!
//! What was given at a start is remembered for those that give nothing; what was found out is found out again at each start,
//! because machines move, and remembered only for a start at which nothing can be found out.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::base::{address_towards, main_address};
use crate::data::{DataFolder, write_private};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    address: Ipv4Addr,
    was_given: bool,
}

/// Chooses it. `given` is the flag's, `setting` that of the settings, `hosts` are where the control plane is.
pub(super) fn choose(
    data: &DataFolder,
    given: Option<Ipv4Addr>,
    setting: Option<Ipv4Addr>,
    hosts: &[IpAddr],
) -> anyhow::Result<Ipv4Addr> {
    let path = data.node().join("underlay.json");
    let kept: Option<Kept> = match std::fs::read(&path) {
        Ok(bytes) => {
            Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: delete it", path.display()))?)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let chosen = decide(given, setting, kept, || found_out(hosts)).context(
        "under which address the other machines reach this one cannot be found out: say it with --underlay ADDRESS, or \
         network.underlay in the settings",
    )?;
    if kept != Some(chosen) {
        write_private(&path, &serde_json::to_vec(&chosen)?)?;
    }
    Ok(chosen.address)
}

fn decide(
    given: Option<Ipv4Addr>,
    setting: Option<Ipv4Addr>,
    kept: Option<Kept>,
    found_out: impl FnOnce() -> Option<Ipv4Addr>,
) -> Option<Kept> {
    let named = given.or(setting);
    if let Some(address) = named {
        return Some(Kept { address, was_given: given.is_some() });
    }
    if kept.is_some_and(|kept| kept.was_given) {
        return kept;
    }
    found_out().map(|address| Kept { address, was_given: false }).or(kept)
}

fn found_out(hosts: &[IpAddr]) -> Option<Ipv4Addr> {
    let towards = hosts.iter().filter_map(|host| match address_towards(*host)? {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    });
    towards.into_iter().next().or_else(main_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn a_given_address_is_remembered_and_a_found_one_is_found_again() {
        let kept = |address, was_given| Some(Kept { address, was_given });
        for (given, setting, before, found, expected) in [
            (Some(A), Some(B), None, Some(B), kept(A, true)),
            (None, Some(B), kept(A, true), None, kept(B, false)),
            (None, None, kept(A, true), Some(B), kept(A, true)),
            (None, None, kept(A, false), Some(B), kept(B, false)),
            (None, None, kept(A, false), None, kept(A, false)),
            (None, None, None, None, None),
        ] {
            assert_eq!(decide(given, setting, before, || found), expected, "{given:?} {setting:?} {before:?}");
        }
    }

    #[test]
    fn it_survives_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        std::fs::create_dir(data.node()).unwrap();
        assert_eq!(choose(&data, Some(A), None, &[]).unwrap(), A);
        assert_eq!(choose(&data, None, None, &[Ipv4Addr::LOCALHOST.into()]).unwrap(), A);
    }
}
