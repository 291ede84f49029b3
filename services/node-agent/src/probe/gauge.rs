//! What the answers of probes mean, counted as Kubernetes does. Pure; moments are counted from the agent's start.

use std::time::Duration;

use wherry_model::{Probe, Probes};

/// Which probe of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Ready,
    Unready(String),
    /// It must be ended.
    Condemned(String),
}

#[derive(Debug)]
struct Gauge {
    probe: Probe,
    /// When it is asked next; never while an answer is awaited.
    due: Option<Duration>,
    successes: u32,
    failures: u32,
}

impl Gauge {
    /// Counts an answer; whether it says, for good, that all is well or that it is not.
    fn count(&mut self, is_well: bool) -> Option<bool> {
        if is_well {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            (self.successes >= self.probe.success_threshold).then_some(true)
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
            (self.failures >= self.probe.failure_threshold).then_some(false)
        }
    }
}

/// The probes of one run of a container.
#[derive(Debug)]
pub(super) struct Gauges {
    probes: Probes,
    each: [Option<Gauge>; 3],
    /// Whether the startup probe has succeeded, if there is one.
    has_started: bool,
    /// What was said of its readiness; none before the first word, and where nothing delays it.
    ready: Option<bool>,
    is_condemned: bool,
}

impl Gauges {
    /// Of a run that began at `began`. `said`: what was said of its readiness by an earlier agent, which had then found it
    /// started.
    pub(super) fn new(probes: &Probes, began: Duration, said: Option<bool>) -> Self {
        let gauge = |probe: &Option<Probe>| {
            let probe = probe.clone()?;
            let due = Some(began.saturating_add(probe.initial_delay.duration()));
            Some(Gauge { probe, due, successes: 0, failures: 0 })
        };
        let each = [gauge(&probes.startup), gauge(&probes.liveness), gauge(&probes.readiness)];
        let has_started = probes.startup.is_none() || said.is_some();
        Self { probes: probes.clone(), each, has_started, ready: said, is_condemned: false }
    }

    /// Whether these are the probes; another spec has others.
    pub(super) fn is_of(&self, probes: &Probes) -> bool {
        self.probes == *probes
    }

    /// When something is to be asked next; never when it is condemned or all answers are awaited.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.asked().filter_map(|(_, gauge)| gauge.due).min()
    }

    /// What is to be asked now; it is not due again before its answer.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(Kind, Probe)> {
        let due: Vec<Kind> =
            self.asked().filter(|(_, gauge)| gauge.due.is_some_and(|due| due <= now)).map(|(kind, _)| kind).collect();
        let mut taken = Vec::with_capacity(due.len());
        for kind in due {
            if let Some(gauge) = self.gauge(kind) {
                gauge.due = None;
                taken.push((kind, gauge.probe.clone()));
            }
        }
        taken
    }

    /// Takes note of an answer to what was asked at `asked`; none when nothing was learnt. Says what it decides, if it decides
    /// anything new.
    pub(super) fn answered(
        &mut self,
        kind: Kind,
        asked: Duration,
        now: Duration,
        finding: Option<Result<(), String>>,
    ) -> Option<Decision> {
        let has_readiness = self.probes.readiness.is_some();
        let gauge = self.gauge(kind)?;
        gauge.due = Some(asked.saturating_add(gauge.probe.period.duration()).max(now));
        let finding = finding?;
        let verdict = gauge.count(finding.is_ok())?;
        let threshold = gauge.probe.failure_threshold;
        let message = finding.err().unwrap_or_default();
        match (kind, verdict) {
            (Kind::Startup, true) => {
                let is_news = !std::mem::replace(&mut self.has_started, true);
                (is_news && !has_readiness).then(|| self.found(true, String::new())).flatten()
            }
            (Kind::Liveness, true) => None,
            (Kind::Readiness, ready) => self.found(ready, message),
            (Kind::Startup | Kind::Liveness, false) if self.is_condemned => None,
            (Kind::Startup | Kind::Liveness, false) => {
                self.is_condemned = true;
                let times = if threshold == 1 { "once".to_owned() } else { format!("{threshold} times in a row") };
                Some(Decision::Condemned(format!("the {} probe failed {times}: {message}", kind.as_str())))
            }
        }
    }

    fn found(&mut self, ready: bool, message: String) -> Option<Decision> {
        if self.ready.unwrap_or(false) == ready {
            return None;
        }
        self.ready = Some(ready);
        Some(if ready { Decision::Ready } else { Decision::Unready(message) })
    }

    /// What is asked at this stage: while it has not started only that, and from then on the others.
    fn asked(&self) -> impl Iterator<Item = (Kind, &Gauge)> {
        let is_asked = |kind: Kind| !self.is_condemned && (kind == Kind::Startup) != self.has_started;
        let both = Kind::ALL.into_iter().zip(&self.each);
        both.filter(move |(kind, _)| is_asked(*kind)).filter_map(|(kind, gauge)| Some((kind, gauge.as_ref()?)))
    }

    fn gauge(&mut self, kind: Kind) -> Option<&mut Gauge> {
        let index = match kind {
            Kind::Startup => 0,
            Kind::Liveness => 1,
            Kind::Readiness => 2,
        };
        self.each.get_mut(index)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use wherry_model::{Check, Seconds};

    use super::*;

    fn probe(delay: u32, period: u32, successes: u32, failures: u32) -> Probe {
        Probe {
            check: Check::Tcp { port: 80 },
            initial_delay: Seconds(delay),
            period: Seconds(period),
            timeout: Seconds(1),
            success_threshold: successes,
            failure_threshold: failures,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn kinds(gauges: &mut Gauges, now: u64) -> Vec<Kind> {
        gauges.take_due(at(now)).into_iter().map(|(kind, _)| kind).collect()
    }

    fn ill() -> Result<(), String> {
        Err("HTTP status 503".to_owned())
    }

    #[test]
    fn delays_and_periods_are_kept_and_a_slow_answer_holds_up_only_its_own() {
        let probes = Probes { liveness: Some(probe(5, 10, 1, 3)), readiness: Some(probe(0, 2, 1, 1)), startup: None };
        let mut gauges = Gauges::new(&probes, at(100), None);
        assert_eq!(gauges.next_due(), Some(at(100)));
        assert_eq!(kinds(&mut gauges, 99), []);
        assert_eq!(kinds(&mut gauges, 100), [Kind::Readiness]);
        assert_eq!((kinds(&mut gauges, 103), gauges.next_due()), (vec![], Some(at(105))), "it is being asked");
        assert_eq!(gauges.answered(Kind::Readiness, at(100), at(101), Some(Ok(()))), Some(Decision::Ready));
        assert_eq!(gauges.next_due(), Some(at(102)));
        assert_eq!(kinds(&mut gauges, 105), [Kind::Liveness, Kind::Readiness]);
        assert_eq!(gauges.answered(Kind::Liveness, at(105), at(130), None), None, "nothing was learnt");
        assert_eq!(gauges.next_due(), Some(at(130)), "late, and at once");
    }

    #[test]
    fn thresholds_are_of_answers_in_a_row() {
        let probes = Probes { readiness: Some(probe(0, 1, 2, 3)), ..Probes::default() };
        let mut gauges = Gauges::new(&probes, at(0), None);
        let mut answer = |is_well: bool| {
            let finding = if is_well { Ok(()) } else { ill() };
            gauges.answered(Kind::Readiness, at(0), at(0), Some(finding))
        };
        assert_eq!([answer(false), answer(false), answer(false)], [None, None, None], "it never was");
        assert_eq!([answer(true), answer(false), answer(true)], [None, None, None]);
        assert_eq!([answer(true), answer(true)], [Some(Decision::Ready), None]);
        assert_eq!([answer(false), answer(false), answer(true), answer(false), answer(false)], [const { None }; 5]);
        assert_eq!([answer(false), answer(false)], [Some(Decision::Unready("HTTP status 503".to_owned())), None]);
    }

    #[test]
    fn the_others_wait_for_the_start_and_liveness_condemns() {
        let probes = Probes {
            startup: Some(probe(0, 1, 1, 2)),
            liveness: Some(probe(0, 1, 1, 1)),
            readiness: Some(probe(0, 1, 1, 1)),
        };
        let mut gauges = Gauges::new(&probes, at(0), None);
        assert_eq!(kinds(&mut gauges, 0), [Kind::Startup]);
        assert_eq!(gauges.answered(Kind::Startup, at(0), at(0), Some(Ok(()))), None, "readiness decides");
        assert_eq!(kinds(&mut gauges, 5), [Kind::Liveness, Kind::Readiness], "it has started");
        let Some(Decision::Condemned(message)) = gauges.answered(Kind::Liveness, at(5), at(5), Some(ill())) else {
            panic!()
        };
        assert_eq!(message, "the liveness probe failed once: HTTP status 503");
        assert_eq!(gauges.answered(Kind::Liveness, at(5), at(6), Some(ill())), None);
        assert_eq!((gauges.next_due(), kinds(&mut gauges, 99)), (None, vec![]));

        let mut slow = Gauges::new(&probes, at(0), None);
        assert_eq!(slow.answered(Kind::Startup, at(0), at(0), Some(ill())), None);
        let Some(Decision::Condemned(message)) = slow.answered(Kind::Startup, at(1), at(1), Some(ill())) else {
            panic!()
        };
        assert_eq!(message, "the startup probe failed 2 times in a row: HTTP status 503");
    }

    #[test]
    fn a_start_without_readiness_is_readiness_and_is_remembered() {
        let probes = Probes { startup: Some(probe(0, 1, 1, 2)), liveness: Some(probe(0, 1, 1, 1)), readiness: None };
        let mut gauges = Gauges::new(&probes, at(0), None);
        assert_eq!(gauges.answered(Kind::Startup, at(0), at(0), Some(Ok(()))), Some(Decision::Ready));
        let mut again = Gauges::new(&probes, at(0), Some(true));
        assert_eq!(kinds(&mut again, 9), [Kind::Liveness], "an agent that comes back asks for no second start");
    }
}
