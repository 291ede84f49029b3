//! How many files this process may have open.
//!
//! Each connection, each stream of logs and each piece of the journal is one. A shell gives 1,024, so that the thousandth
//! agent would be the last; the kernel lets a process raise that by itself, up to a hard limit.
//!
//! Not beyond [`ENOUGH`]: containerd and the containers inherit the limit, and programs that close every number there could be
//! take minutes where it is a thousand million.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What all bounds of a process add up to is less.
pub(crate) const COMFORTABLE: u64 = 65_536;
/// More is never of use.
const ENOUGH: u64 = 1_048_576;

/// Raises the limit as far as it goes without privileges, and warns when that is not far.
pub(crate) fn raise() {
    let present = getrlimit(Resource::Nofile);
    if let Some(current) = raised(present)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: present.maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    if let Some(most) = most().filter(|most| *most < COMFORTABLE) {
        tracing::warn!(most, "few files may be open: raise the hard limit (LimitNOFILE= of the unit, or ulimit -Hn)");
    }
}

/// The hard limit; none when there is none.
pub(crate) fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// The soft limit to ask for; none when it is well as it is.
fn raised(present: Rlimit) -> Option<u64> {
    let wanted = present.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    present.current.is_some_and(|current| current < wanted).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_up_to_what_is_allowed_and_useful_and_never_down() {
        let raised = |current, maximum| raised(Rlimit { current, maximum });
        assert_eq!(raised(Some(1_024), Some(4_096)), Some(4_096));
        assert_eq!(raised(Some(1_024), Some(1 << 30)), Some(ENOUGH));
        assert_eq!(raised(Some(1_024), None), Some(ENOUGH));
        assert_eq!(raised(Some(4_096), Some(4_096)), None);
        assert_eq!(raised(Some(1 << 24), Some(1 << 30)), None);
        assert_eq!(raised(None, None), None);
    }
}
