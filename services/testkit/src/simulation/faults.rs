//! The time of troubles: what happens at one step of a world.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wherry_runtime::RuntimeError;
use wherry_runtime::fake::Fault;
use wherry_store::NodeStore;

use super::dice::Dice;
use super::fleet;
use super::network::Way;
use super::weather::Chances;
use super::world::World;

/// What a world is like. Not every world has every trouble: what comes rarely is found where nothing else happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Character {
    pub(super) store: Chances,
    /// Messages of a thousand that are lost or doubled.
    pub(super) lossy: u32,
    /// How far a clock may be off at the start.
    pub(super) clock_skew_ms: u64,
    clocks_jump: bool,
    replicas_die: bool,
    replicas_freeze: bool,
    agents_die: bool,
    machines_die: bool,
    agents_freeze: bool,
    /// Agents are rolled back to the version before, and upgraded again.
    agents_are_exchanged: bool,
    engines_fail: bool,
    /// Calls of engines take their time.
    pub(super) slow_engines: bool,
    lines_are_cut: bool,
    /// Machines come back just after they were lost, and what they have to say comes later.
    machines_return: bool,
    store_is_out: bool,
    operators: bool,
    /// Machines join, and are taken out.
    pub(super) fleet_changes: bool,
    /// Small machines: what is displaced waits for a place.
    pub(super) crowded: bool,
    /// Instances of a thousand that may run elsewhere when their machine is lost.
    pub(super) replaceable: u32,
    /// Instances of a thousand that have several containers.
    pub(super) several: u32,
}

/// The farthest that one clock is turned at once.
const LONGEST_JUMP_MS: u64 = 20_000;

/// For so long a machine is cut off at most until it is lost, and how often that is looked at.
const LONGEST_LOSS: Duration = Duration::from_mins(1);
const LOOK_DISTANCE: Duration = Duration::from_millis(250);
/// The time in which what waits has found its way back.
const LATE: Duration = Duration::from_secs(15);

impl Character {
    pub(super) fn draw(dice: &Dice) -> Self {
        let some = |in_thousand: u32, most: u64| {
            if dice.happens(in_thousand) { u32::try_from(dice.below(most)).unwrap_or(0) } else { 0 }
        };
        let machines_return = dice.happens(200);
        // What is not replaced is not lost.
        let least_replaceable = usize::from(machines_return);
        let drawn = Self {
            store: Chances {
                slow: some(700, 200),
                fails: some(400, 40),
                ambiguous: some(400, 30),
                deaf: some(300, 200),
            },
            lossy: some(500, 120),
            clock_skew_ms: if dice.happens(300) { 5_000 } else { 0 },
            clocks_jump: dice.happens(200),
            replicas_die: dice.happens(500),
            replicas_freeze: dice.happens(250),
            agents_die: dice.happens(500),
            machines_die: dice.happens(350),
            agents_freeze: dice.happens(250),
            agents_are_exchanged: dice.happens(200),
            engines_fail: dice.happens(350),
            slow_engines: dice.happens(400),
            lines_are_cut: dice.happens(500),
            machines_return,
            store_is_out: dice.happens(300),
            operators: dice.happens(400),
            fleet_changes: dice.happens(300),
            crowded: dice.happens(400),
            replaceable: [0, 500, 1_000].get(dice.index(3).max(least_replaceable)).copied().unwrap_or(0),
            several: [0, 300, 700].get(dice.index(3)).copied().unwrap_or(0),
        };
        // The way there and back is long, and whatever else goes wrong ends it.
        if machines_return && dice.happens(700) { drawn.with_nothing_else() } else { drawn }
    }

    /// Of all that goes wrong only that machines return.
    fn with_nothing_else(self) -> Self {
        Self {
            store: Chances::default(),
            lossy: 0,
            clock_skew_ms: 0,
            clocks_jump: false,
            replicas_die: false,
            replicas_freeze: false,
            agents_die: false,
            machines_die: false,
            agents_freeze: false,
            agents_are_exchanged: false,
            engines_fail: false,
            slow_engines: false,
            lines_are_cut: false,
            store_is_out: false,
            operators: false,
            fleet_changes: false,
            crowded: false,
            replaceable: 1_000,
            ..self
        }
    }

    /// How far what a machine says of a moment may be from the truth.
    pub(super) fn clock_tolerance(&self) -> Duration {
        let jumps = if self.clocks_jump { 10 * LONGEST_JUMP_MS } else { 0 };
        Duration::from_millis(self.clock_skew_ms * 2 + jumps)
    }
}

/// What an engine may get wrong.
const CALLS: [&str; 7] = [
    "PullImage",
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// One step: somebody asks, or something goes wrong.
pub(super) async fn step(world: &mut World) {
    let dice = world.dice.clone();
    fleet::adopt(world).await;
    if world.character.agents_are_exchanged && dice.happens(40) {
        let index = dice.index(world.machines.len());
        if let Some(machine) = world.machines.get_mut(index) {
            machine.exchange_agent().await;
        }
    }
    if world.character.machines_return && dice.happens(80) {
        is_lost_and_comes_back(world);
    }
    match dice.below(104) {
        0..16 => world.users.begin(Arc::clone(&world.users).create()),
        16..22 => {
            // Many at once, at all replicas.
            for _ in 0..2 + dice.below(5) {
                world.users.begin(Arc::clone(&world.users).create());
            }
        }
        22..50 => {
            if let Some(instance) = dice.pick(&world.oracle.records()) {
                world.users.begin(Arc::clone(&world.users).change(instance.clone()));
            }
        }
        50..56 => container_ends(world),
        56..60 if world.character.operators => {
            if let Some(machine) = dice.pick(&world.machines) {
                world.users.begin(Arc::clone(&world.users).operate(machine.name().to_owned()));
            }
        }
        60..66 if world.character.replicas_die => replica_dies(world),
        66..73 if world.character.agents_die => agent_dies(world).await,
        73..78 if world.character.machines_die => machine_dies(world).await,
        78..82 if world.character.agents_freeze => agent_freezes(world),
        82..87 if world.character.engines_fail => engine_fails(world),
        87..94 if world.character.lines_are_cut => line_is_cut(world),
        94..96 if world.character.store_is_out => store_is_out(world),
        96..98 if world.character.clocks_jump => clock_jumps(world),
        98..101 if world.character.replicas_freeze => replica_freezes(world),
        101..104 if world.character.fleet_changes => fleet::changes(world),
        _ => {}
    }
}

fn container_ends(world: &World) {
    let Some(machine) = world.dice.pick(&world.machines) else { return };
    let running = machine.running_now();
    let Some((container, _)) = world.dice.pick(&running) else { return };
    if world.dice.happens(300) {
        machine.engine.kill_out_of_memory(container);
    } else {
        machine.engine.exit_container(container, i32::from(world.dice.happens(600)));
    }
}

fn replica_dies(world: &mut World) {
    let index = world.dice.index(world.network.replicas.len());
    let Some(replica) = world.network.replicas.get(index).cloned() else { return };
    world.oracle.note(format!("replica {index} dies, or comes back"));
    let (delay, back) = (world.dice.millis(0..1_000), world.dice.millis(500..25_000));
    let awaits = u32::try_from(world.dice.below(300)).unwrap_or(0);
    if world.dice.happens(300) {
        replica.start();
    } else if world.dice.happens(600)
        && let Some(mut dies) = replica.seal(awaits)
    {
        // Also while it starts.
        tokio::spawn(async move {
            drop(dies.wait_for(|dead| *dead).await);
            tokio::time::sleep(back).await;
            replica.start();
        });
    } else {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            replica.crash();
            tokio::time::sleep(back).await;
            replica.start();
        });
    }
}

/// SIGSTOP, and SIGCONT after a while.
fn replica_freezes(world: &mut World) {
    let index = world.dice.index(world.network.replicas.len());
    let Some(replica) = world.network.replicas.get(index).cloned() else { return };
    let time = world.dice.millis(500..40_000);
    world.oracle.note(format!("replica {index} is stopped for {time:?}"));
    replica.freeze(true);
    blind(world, index, time);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        replica.freeze(false);
    });
}

/// For so long, and a moment more, the replica cannot know what is in the store.
fn blind(world: &mut World, replica: usize, time: Duration) {
    if let Some(until) = world.blind_until.get_mut(replica) {
        *until = (*until).max(Instant::now() + time + Duration::from_secs(8));
    }
}

async fn agent_dies(world: &mut World) {
    let index = world.dice.index(world.machines.len());
    let back = world.dice.happens(600);
    let (sealed, awaits) = (world.dice.happens(600), u32::try_from(world.dice.below(80)).unwrap_or(0));
    let Some(machine) = world.machines.get_mut(index) else { return };
    if !machine.grip.holds_agent() {
        machine.start().await;
    } else if sealed {
        machine.grip.seal(awaits);
    } else {
        world.oracle.note(format!("machine {index}: its agent dies{}", if back { " and comes back" } else { "" }));
        machine.crash().await;
        if back {
            machine.start().await;
        }
    }
}

async fn machine_dies(world: &mut World) {
    let (index, back) = (world.dice.index(world.machines.len()), world.dice.happens(400));
    let Some(machine) = world.machines.get_mut(index) else { return };
    if machine.power {
        world.oracle.note(format!("machine {index} loses power"));
        world.oracle.blur(machine.node());
        machine.power_off().await;
        if back {
            machine.power_on().await;
        }
        return;
    }
    if machine.removed {
        // It is scrapped.
        return;
    }
    if world.dice.happens(400) {
        let name = machine.name().to_owned();
        let users = Arc::clone(&world.users);
        // The operator stands before the machine: it does not come back while the answer is awaited.
        world.oracle.blur(machine.node());
        world.oracle.machine_is_said_off(index);
        users.confirm_off(&name).await;
    } else {
        world.oracle.note(format!("machine {index} has power again"));
        machine.power_on().await;
    }
}

fn agent_freezes(world: &mut World) {
    let (index, frozen) = (world.dice.index(world.machines.len()), world.dice.happens(400));
    let Some(machine) = world.machines.get_mut(index) else { return };
    world.oracle.note(format!("machine {index}: its agent {}", if frozen { "is stopped" } else { "goes on" }));
    machine.freeze(frozen && machine.power);
}

fn engine_fails(world: &mut World) {
    let index = world.dice.index(world.machines.len());
    let (kind, call) = (world.dice.below(5), CALLS.get(world.dice.index(CALLS.len())).copied().unwrap_or("PullImage"));
    let Some(machine) = world.machines.get_mut(index) else { return };
    world.oracle.note(format!("machine {index}: its engine fails ({kind}, {call})"));
    match kind {
        0 => machine.set_engine_down(true),
        1 => machine.set_engine_down(false),
        2 => machine.engine.inject(call, Fault::HangBefore, 1),
        3 => machine.engine.inject(call, Fault::HangAfter, 1),
        _ => {
            let message = "the engine is being restarted".to_owned();
            machine.engine.inject(call, Fault::Fail(RuntimeError::Unavailable { message }), 1);
        }
    }
}

fn line_is_cut(world: &World) {
    let dice = &world.dice;
    if dice.happens(250) {
        reports_come_late(world);
        return;
    }
    let time = dice.millis(500..40_000);
    let machine = dice.index(world.machines.len());
    let ways: &[Way] = match dice.below(3) {
        0 => &[Way::Up],
        1 => &[Way::Down],
        _ => &[Way::Up, Way::Down],
    };
    // From one replica, or from all.
    let only = dice.happens(400).then(|| dice.index(world.network.replicas.len()));
    world.oracle.note(format!("machine {machine} is cut off {ways:?} from {only:?} for {time:?}"));
    for replica in 0..world.network.replicas.len() {
        if only.is_none_or(|only| only == replica) {
            for way in ways {
                world.network.cut(machine, replica, *way, time);
            }
        }
    }
}

/// A machine is away for so long that it may be fenced, and what it has to say comes long after its life is proved again: about
/// instances that may have gone and come back meanwhile.
fn reports_come_late(world: &World) {
    let dice = &world.dice;
    let machine = dice.index(world.machines.len());
    let (away, later) = (dice.millis(26_000..36_000), dice.millis(3_000..25_000));
    let mut soon = Duration::ZERO;
    if dice.happens(500) {
        soon = dice.millis(0..400);
        fill(world, machine, 3);
    }
    world.oracle.note(format!("in {soon:?} machine {machine} is cut off for {away:?}, its reports for {later:?} more"));
    let network = Arc::clone(&world.network);
    tokio::spawn(async move {
        tokio::time::sleep(soon).await;
        for replica in 0..network.replicas.len() {
            network.cut(machine, replica, Way::Up, away);
        }
        network.stall_reports(machine, away + later);
    });
}

/// What is lost on the machine has nowhere to go but there, once its life is proved again: all others are closed, and some ask for
/// something at once.
fn fill(world: &World, machine: usize, asks: u32) {
    for (_, other) in world.machines.iter().enumerate().filter(|(index, _)| *index != machine) {
        world.users.begin(Arc::clone(&world.users).close(other.name().to_owned()));
    }
    for _ in 0..asks {
        let (users, moment) = (Arc::clone(&world.users), world.dice.millis(0..400));
        world.users.begin(async move {
            tokio::time::sleep(moment).await;
            users.create().await;
        });
    }
}

/// A machine on which something has begun that nobody has heard of is cut off until it is lost, and hears again right after that: what
/// it says then of what it had is about instances that are there again.
fn is_lost_and_comes_back(world: &World) {
    let dice = &world.dice;
    let machine = dice.index(world.machines.len());
    let Some((node, name)) = world.machines.get(machine).map(|machine| (machine.node(), machine.name().to_owned()))
    else {
        return;
    };
    if world.network.keeps_away.swap(true, Ordering::SeqCst) {
        return;
    }
    let (soon, back, later) = (dice.millis(500..6_000), dice.millis(0..2_000), dice.millis(6_000..25_000));
    world.network.stall_reports(machine, soon + LONGEST_LOSS);
    fill(world, machine, 6);
    let message = format!("in {soon:?} machine {machine} is cut off until it is lost, its reports for {later:?} more");
    world.oracle.note(message);
    let (network, users, store) = (Arc::clone(&world.network), Arc::clone(&world.users), world.store.clone());
    tokio::spawn(async move {
        users.open(&name).await;
        tokio::time::sleep(soon).await;
        let lines = |time: Duration| {
            for replica in 0..network.replicas.len() {
                network.cut(machine, replica, Way::Up, time);
            }
        };
        lines(LONGEST_LOSS);
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_LOSS {
            tokio::time::sleep(LOOK_DISTANCE).await;
            if store.node(node).await.is_ok_and(|row| row.is_none_or(|row| row.fenced)) {
                break;
            }
        }
        tokio::time::sleep(back).await;
        lines(Duration::ZERO);
        network.stall_reports(machine, later);
        users.open(&name).await;
        // What waits for a place is not tried again every second.
        tokio::time::sleep(later + LATE).await;
        network.keeps_away.store(false, Ordering::SeqCst);
    });
}

fn store_is_out(world: &mut World) {
    let time = world.dice.millis(500..25_000);
    let only = world.dice.happens(400).then(|| world.dice.index(world.network.replicas.len()));
    world.oracle.note(format!("the store is out of reach of {only:?} for {time:?}"));
    let replicas = world.network.replicas.clone();
    for (index, replica) in replicas.iter().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index)) {
        replica.out_for(time);
        blind(world, index, time);
    }
}

fn clock_jumps(world: &World) {
    let by = world.dice.millis(0..LONGEST_JUMP_MS);
    let clocks = world.machines.iter().map(|machine| &machine.clock);
    let clocks: Vec<_> = clocks.chain(world.network.replicas.iter().map(|replica| &replica.clock)).collect();
    let Some(clock) = world.dice.pick(&clocks) else { return };
    let forward = world.dice.happens(500);
    world.oracle.note(format!("a clock jumps by {by:?}, forward: {forward}"));
    if forward {
        clock.advance(by);
    } else {
        clock.turn_back(by);
    }
}
