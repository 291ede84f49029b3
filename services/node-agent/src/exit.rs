//! How a run ended, from what the engine shows of it. Pure.

use serde::{Deserialize, Serialize};
use wherry_agent_api::DesiredInstance;
use wherry_model::sequence::runs_once;
use wherry_model::{ContainerExit, ContainerName, EndReason, RestartPolicy, Timestamp};
use wherry_runtime::{ContainerState, ContainerStatus};

use crate::backoff::{Backoff, next_in_a_row};
use crate::journal::{ContainerMemory, counts_as_restart};
use crate::plan::SeenContainer;
use crate::verdict::Verdict;

/// Exit code of a run whose end nobody saw.
const UNSEEN: i32 = 255;

/// The last proof that a run was alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastProof {
    /// When it was seen running.
    pub(crate) at: Timestamp,
    /// Whether that was before the machine's present boot.
    pub(crate) in_earlier_boot: bool,
}

/// What is known beside the engine's status.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) started_at: Timestamp,
    pub(crate) proof: Option<LastProof>,
    /// It ran when this agent stopped it.
    pub(crate) stopped_by_us: bool,
    pub(crate) memory_mib: u32,
    /// It was ended because the node's lease was over.
    pub(crate) fenced: bool,
    /// Why the agent ended it, where it noted that.
    pub(crate) verdict: Option<Verdict>,
    /// When the time of its instance was over, and what is then said.
    pub(crate) deadline: Option<(Timestamp, Verdict)>,
}

/// The end of a run that is over. An end that the engine did not see counts as the last proof of life, never later.
pub(crate) fn exit_of(status: &ContainerStatus, known: &Circumstances) -> ContainerExit {
    let finished_at = status.finished_at.unwrap_or(known.started_at).max(known.started_at);
    let unseen = status.state == ContainerState::Unknown || status.reason == "Unknown" || status.exit_code.is_none();
    let across_boots = known.proof.is_some_and(|proof| proof.in_earlier_boot && finished_at > proof.at);
    if unseen || across_boots {
        return lost(known);
    }
    let exit_code = status.exit_code.unwrap_or(UNSEEN);
    if known.fenced {
        let signal = exit_code.checked_sub(128).and_then(|signal| u8::try_from(signal).ok());
        let message = "its machine had no word from the service for so long that it may run elsewhere; it was ended";
        let (reason, message) = (EndReason::NodeLost, Some(message.to_owned()));
        return ContainerExit { finished_at, exit_code, signal, reason, message };
    }
    let out_of_memory = status.reason == "OOMKilled";
    // CRI tells an end by signal 9 and `exit(137)` apart only by who else has a reason to send one: we, or the kernel.
    let named =
        exit_code.checked_sub(128).and_then(|signal| u8::try_from(signal).ok()).filter(|s| (1..=64).contains(s));
    let is_late = |(deadline, _): &&(Timestamp, Verdict)| finished_at >= *deadline;
    let late = known.deadline.as_ref().filter(is_late).map(|(_, verdict)| verdict);
    if let Some(verdict) = known.verdict.as_ref().or(late).filter(|_| !out_of_memory) {
        let Verdict { reason, message } = verdict.clone();
        return ContainerExit { finished_at, exit_code, signal: named, reason, message };
    }
    let signal = named.filter(|_| out_of_memory || known.stopped_by_us);
    let reason = match (out_of_memory, known.stopped_by_us) {
        (true, _) => EndReason::OomKilled,
        (false, true) => EndReason::StoppedByUser,
        (false, false) => EndReason::Exited,
    };
    let message = if out_of_memory {
        Some(format!("it was allowed {} MiB; ask for more memory", known.memory_mib))
    } else if let (Some(number), None) = (named, signal) {
        Some(format!("either signal {number} ended it or the program chose this code"))
    } else {
        None
    };
    ContainerExit { finished_at, exit_code, signal, reason, message }
}

/// The end of a run that vanished.
pub(crate) fn lost(known: &Circumstances) -> ContainerExit {
    ContainerExit {
        finished_at: known.proof.map_or(known.started_at, |proof| proof.at.max(known.started_at)),
        exit_code: UNSEEN,
        signal: None,
        reason: EndReason::NodeLost,
        message: Some("its end was not seen; it is dated at the last proof that it ran".to_owned()),
    }
}

/// What decides whether a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) policy: RestartPolicy,
    /// Restarts in a generation.
    pub(crate) most: Option<u32>,
    /// It is there to come to its end.
    pub(crate) once: bool,
}

impl Rule {
    pub(crate) fn of(desired: &DesiredInstance, name: &ContainerName) -> Self {
        let once = desired.container(name).is_some_and(|container| runs_once(desired.specs(), &container.spec));
        Self { policy: desired.restart_policy, most: desired.more.max_restarts, once }
    }
}

/// When a run that ended is followed by another; never when absent.
pub(crate) fn restart_at(
    rule: Rule,
    exit: &ContainerExit,
    started_at: Timestamp,
    memory: &ContainerMemory,
    now: Timestamp,
) -> Option<Timestamp> {
    if exit.reason == EndReason::Restarted {
        return Some(now);
    }
    let by_policy = match rule.policy {
        RestartPolicy::Always => exit.is_failure() || !rule.once,
        RestartPolicy::OnFailure => exit.is_failure(),
        RestartPolicy::Never => false,
    };
    let wanted = by_policy && (!counts_as_restart(exit) || rule.most.is_none_or(|most| memory.restarts < most));
    let in_a_row = next_in_a_row(memory.restarts_in_a_row, exit.finished_at.since(started_at));
    wanted.then(|| now.plus(Backoff::RESTART.delay(in_a_row)))
}

/// The key under which proofs of life of a run are kept.
pub(crate) type RunKey = (ContainerName, u32);

/// The key of a container that was seen.
pub(crate) fn run_key(container: &SeenContainer) -> RunKey {
    (container.name.clone(), container.run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wherry_runtime::{ContainerId, Labels};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn status(exit_code: i32, reason: &str) -> ContainerStatus {
        ContainerStatus {
            id: ContainerId::new("c"),
            name: "main".into(),
            attempt: 1,
            state: ContainerState::Exited,
            created_at: at(9),
            started_at: Some(at(10)),
            finished_at: Some(at(50)),
            exit_code: Some(exit_code),
            reason: reason.into(),
            message: String::new(),
            pid: None,
            log_path: "x".into(),
            image: String::new(),
            labels: Labels::new(),
        }
    }

    fn known() -> Circumstances {
        let proof = Some(LastProof { at: at(40), in_earlier_boot: false });
        let (verdict, deadline) = (None, None);
        let (stopped_by_us, memory_mib, fenced) = (false, 64, false);
        Circumstances { started_at: at(10), proof, stopped_by_us, memory_mib, fenced, verdict, deadline }
    }

    #[test]
    fn codes_signals_and_reasons() {
        let case = |code, reason, stopped_by_us| {
            let exit = exit_of(&status(code, reason), &Circumstances { stopped_by_us, ..known() });
            (exit.exit_code, exit.signal, exit.reason)
        };
        assert_eq!(case(0, "Completed", false), (0, None, EndReason::Exited));
        assert_eq!(case(128, "Error", false), (128, None, EndReason::Exited));
        assert_eq!(case(137, "Error", false), (137, None, EndReason::Exited), "the program may have chosen it");
        assert_eq!(
            exit_of(&status(137, "Error"), &known()).message.unwrap(),
            "either signal 9 ended it or the program chose this code"
        );
        assert_eq!(case(137, "OOMKilled", true), (137, Some(9), EndReason::OomKilled));
        assert_eq!(case(143, "Error", true), (143, Some(15), EndReason::StoppedByUser));
        assert_eq!(case(255, "Error", false), (255, None, EndReason::Exited));
    }

    #[test]
    fn an_unseen_end_is_dated_at_the_last_proof() {
        let exit = exit_of(&status(255, "Unknown"), &known());
        assert_eq!((exit.finished_at, exit.reason), (at(40), EndReason::NodeLost));
        let unproved = Circumstances { proof: None, ..known() };
        assert_eq!(exit_of(&status(255, "Unknown"), &unproved).finished_at, at(10));
    }

    #[test]
    fn after_a_reboot_only_an_end_before_the_last_proof_is_believed() {
        let proof = |seconds| Some(LastProof { at: at(seconds), in_earlier_boot: true });
        let late = exit_of(&status(0, "Completed"), &Circumstances { proof: proof(40), ..known() });
        assert_eq!((late.finished_at, late.reason), (at(40), EndReason::NodeLost));
        let early = exit_of(&status(3, "Error"), &Circumstances { proof: proof(60), ..known() });
        assert_eq!((early.finished_at, early.exit_code), (at(50), 3));
    }

    #[test]
    fn what_the_agent_ended_says_why_and_a_late_end_is_the_deadlines() {
        let verdict = Verdict::new(EndReason::ProbeFailed, "HTTP 503");
        let late = Some((at(50), Verdict::new(EndReason::DeadlineExceeded, "late")));
        let case = |verdict: Option<&Verdict>, deadline: &Option<(Timestamp, Verdict)>, reason| {
            let (verdict, deadline) = (verdict.cloned(), deadline.clone());
            let exit = exit_of(&status(143, reason), &Circumstances { verdict, deadline, ..known() });
            (exit.reason, exit.signal)
        };
        assert_eq!(case(Some(&verdict), &None, "Error"), (EndReason::ProbeFailed, Some(15)));
        assert_eq!(case(Some(&verdict), &None, "OOMKilled"), (EndReason::OomKilled, Some(15)));
        assert_eq!(case(None, &late, "Error"), (EndReason::DeadlineExceeded, Some(15)));
        assert_eq!(case(Some(&verdict), &late, "Error").0, EndReason::ProbeFailed);
        let later = Some((at(51), Verdict::new(EndReason::DeadlineExceeded, "late")));
        assert_eq!(case(None, &later, "Error"), (EndReason::Exited, None));
    }

    #[test]
    fn policies_decide_and_the_wait_grows() {
        let exit = |code| exit_of(&status(code, "Error"), &known());
        let memory = |restarts_in_a_row| ContainerMemory { restarts_in_a_row, ..ContainerMemory::default() };
        let rule = |policy| Rule { policy, most: None, once: false };
        let decide = |policy, code, so_far| restart_at(rule(policy), &exit(code), at(10), &memory(so_far), at(100));
        assert_eq!(decide(RestartPolicy::Never, 1, 0), None);
        assert_eq!(decide(RestartPolicy::OnFailure, 0, 0), None);
        assert_eq!(decide(RestartPolicy::OnFailure, 1, 0), Some(at(101)));
        assert_eq!(decide(RestartPolicy::Always, 0, 3), Some(at(108)));
    }

    #[test]
    fn what_runs_once_and_what_has_restarted_enough_stays_ended() {
        let exit = |code, reason| ContainerExit { reason, ..exit_of(&status(code, "Error"), &known()) };
        let memory = |restarts| ContainerMemory { restarts, ..ContainerMemory::default() };
        let once = Rule { policy: RestartPolicy::Always, most: None, once: true };
        let twice = Rule { policy: RestartPolicy::Always, most: Some(2), once: false };
        let never = Rule { policy: RestartPolicy::Never, most: Some(0), once: true };
        let decide = |rule, code, reason, restarts| {
            restart_at(rule, &exit(code, reason), at(10), &memory(restarts), at(100)).map(Timestamp::grid_second)
        };
        assert_eq!(decide(once, 0, EndReason::Exited, 0), None);
        assert_eq!(decide(once, 1, EndReason::Exited, 9), Some(101));
        assert_eq!(decide(once, 0, EndReason::ProbeFailed, 0), Some(101), "it did not come to its end");
        assert_eq!(decide(twice, 0, EndReason::Exited, 1), Some(101));
        assert_eq!(decide(twice, 0, EndReason::Exited, 2), None);
        assert_eq!(decide(twice, 255, EndReason::NodeLost, 2), Some(101), "that was not the program's doing");
        assert_eq!(decide(never, 143, EndReason::Restarted, 7), Some(100), "somebody asked for it");
    }
}
