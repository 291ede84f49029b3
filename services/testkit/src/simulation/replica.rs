//! A replica: the real application with its background work, over a handle of the store.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use wherry_control::{Background, Control, ControlConfig, ZoneContents, ZonePublisher};
use wherry_store_memory::MemoryStore;

use super::dice::Dice;
use super::oracle::{Named, Oracle};
use super::weather::{Chances, Weather};
use crate::{ManualClock, SeededEntropy};

/// Where one replica runs; processes come and go in it.
pub(super) struct Replica {
    index: usize,
    oracle: Arc<Oracle>,
    store: MemoryStore,
    pub(super) clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    config: ControlConfig,
    dice: Dice,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    process: Option<Process>,
    /// Counts processes.
    life: u64,
    chances: Chances,
}

/// One life of a replica.
#[derive(Clone)]
pub(super) struct Process {
    weather: Arc<Weather>,
    /// None while it starts.
    open: Option<(Control, Arc<Background>)>,
    zone: Arc<Served>,
}

/// What the replica's DNS server answers from.
pub(super) struct Served {
    oracle: Arc<Oracle>,
    replica: usize,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    zone: Option<ZoneContents>,
    /// How far this server has come with the answers of each name.
    reached: BTreeMap<Named, usize>,
}

impl Served {
    fn new(oracle: Arc<Oracle>, replica: usize) -> Self {
        Self { oracle, replica, latest: Mutex::default() }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ZonePublisher for Served {
    fn publish(&self, zone: ZoneContents) {
        let mut latest = self.latest();
        let answers: BTreeMap<String, Ipv4Addr> = zone.records.iter().cloned().collect();
        self.oracle.check_order(self.replica, &answers, &mut latest.reached);
        if latest.zone.as_ref().is_some_and(|before| before.serial >= zone.serial) {
            self.oracle.violated(format!("I7: the serial of replica {} does not grow: {}", self.replica, zone.serial));
        }
        latest.zone = Some(zone);
    }
}

impl Replica {
    pub(super) fn new(
        index: usize,
        oracle: Arc<Oracle>,
        store: MemoryStore,
        clock: Arc<ManualClock>,
        entropy: Arc<SeededEntropy>,
        config: ControlConfig,
        dice: Dice,
    ) -> Self {
        Self { index, oracle, store, clock, entropy, config, dice, state: Arc::default() }
    }

    /// Begins a process unless there is one. It answers once it is open, which takes its time and may need several tries.
    pub(super) fn start(&self) {
        let mut state = self.state();
        if state.process.as_ref().is_some_and(|process| !process.weather.is_dead()) {
            return;
        }
        state.life += 1;
        let life = state.life;
        let weather = Arc::new(Weather::new(self.dice.clone(), state.chances));
        let zone = Arc::new(Served::new(Arc::clone(&self.oracle), self.index));
        state.process = Some(Process { weather: Arc::clone(&weather), open: None, zone: Arc::clone(&zone) });
        drop(state);
        let store = Arc::new(self.store.handle(Arc::clone(&weather) as _));
        let (clock, entropy, config) = (Arc::clone(&self.clock), Arc::clone(&self.entropy), self.config.clone());
        let slot = Arc::clone(&self.state);
        tokio::spawn(async move {
            loop {
                let (store, clock, entropy) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&entropy));
                let opened = Control::open(store, clock, entropy, Arc::clone(&zone) as _, config.clone()).await;
                if take_over(&slot, life, opened.ok()) {
                    return;
                }
                // A supervisor begins it again.
                sleep(Duration::from_secs(1)).await;
            }
        });
    }

    /// Ends the process as `kill -9` does.
    pub(super) fn crash(&self) {
        let mut state = self.state();
        state.life += 1;
        if let Some(process) = state.process.take() {
            process.weather.kill();
        }
    }

    /// Its process ends at this await from now; what tells when it has.
    pub(super) fn seal(&self, awaits: u32) -> Option<watch::Receiver<bool>> {
        let state = self.state();
        let weather = &state.process.as_ref()?.weather;
        weather.seal(awaits);
        Some(weather.dies())
    }

    /// SIGSTOP and SIGCONT of its process.
    pub(super) fn freeze(&self, frozen: bool) {
        if let Some(process) = &self.state().process {
            process.weather.freeze(frozen);
        }
    }

    /// While its process is stopped it neither hears nor answers.
    pub(super) async fn thawed(&self) {
        let weather = self.state().process.as_ref().map(|process| Arc::clone(&process.weather));
        if let Some(weather) = weather {
            weather.thawed().await;
        }
    }

    /// The application and what tells when it dies, while it answers.
    pub(super) fn control(&self) -> Option<(Control, watch::Receiver<bool>)> {
        let state = self.state();
        let process = state.process.as_ref()?;
        let (control, _) = process.open.as_ref()?;
        Some((control.clone(), process.weather.dies()))
    }

    /// What its DNS server answers, and how long it has been serving, while it answers.
    pub(super) fn zone(&self) -> Vec<(String, Ipv4Addr)> {
        let state = self.state();
        let answers = |process: &&Process| process.open.is_some() && !process.weather.is_dead();
        let Some(process) = state.process.as_ref().filter(answers) else { return Vec::new() };
        process.zone.latest().zone.as_ref().map(|zone| zone.records.clone()).unwrap_or_default()
    }

    pub(super) fn out_for(&self, time: Duration) {
        if let Some(process) = &self.state().process {
            process.weather.out_for(time);
        }
    }

    /// How often what goes wrong from now on, also in later lives.
    pub(super) fn set(&self, chances: Chances) {
        let mut state = self.state();
        state.chances = chances;
        if let Some(process) = &state.process {
            process.weather.set(chances);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the start is over: the application is open, or its process was killed meanwhile.
fn take_over(slot: &Mutex<State>, life: u64, opened: Option<Control>) -> bool {
    let mut state = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if state.life != life {
        return true;
    }
    let (Some(control), Some(process)) = (opened, &mut state.process) else { return false };
    let background = Arc::new(Background::start(&control));
    process.open = Some((control, background));
    true
}
