//! Machines join with a token, and are emptied and taken out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use wherry_agent_api::{Applicant, ControlError, Enrolled, Enrolment};
use wherry_control::{DrainRequest, JoinTokenRequest};
use wherry_model::{DrainThen, NodeId};
use wherry_store::EnrolmentStore;

use super::users::Users;
use super::world::World;

/// Most machines that a world ever has.
const MOST: usize = 7;

/// How often an ask without an answer is repeated.
const TRIES: u32 = 8;

/// Machines that have joined since the world took note of them last.
#[derive(Debug, Default)]
pub(super) struct Joined(Mutex<Vec<(String, Enrolled)>>);

impl Joined {
    fn tell(&self, name: String, enrolled: Enrolled) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, enrolled));
    }

    fn take(&self) -> Vec<(String, Enrolled)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A machine joins, or one is taken out.
pub(super) fn changes(world: &mut World) {
    let (users, joined) = (Arc::clone(&world.users), Arc::clone(&world.joined));
    if world.dice.happens(500) && world.machines.len() + world.joining < MOST {
        // Sometimes under a name that is taken.
        let number = world.machines.len() + world.joining - usize::from(world.dice.happens(100));
        world.joining += 1;
        let name = format!("machine-{number}");
        world.oracle.note(format!("{name} is to join"));
        world.users.begin(async move {
            if let Some(enrolled) = users.join(&name).await {
                joined.tell(name, enrolled);
            }
        });
        return;
    }
    let here: Vec<(String, NodeId, bool)> = world
        .machines
        .iter()
        .filter(|machine| !machine.removed)
        .map(|machine| (machine.name().to_owned(), machine.node(), machine.power))
        .collect();
    // Two are always left.
    if here.len() < 3 {
        return;
    }
    let Some((name, node, power)) = world.dice.pick(&here).cloned() else { return };
    world.oracle.note(format!("{name} is to be taken out"));
    if !power {
        world.oracle.blur(node);
    }
    world.users.begin(async move { users.take_out(&name, power).await });
}

/// Takes note of what has become of the fleet.
pub(super) async fn adopt(world: &mut World) {
    for (name, enrolled) in world.joined.take() {
        world.oracle.note(format!("{name} has joined as {}", enrolled.node));
        world.add_machine(name, enrolled.node, enrolled.range).await;
    }
    for machine in world.machines.iter_mut().filter(|machine| !machine.removed) {
        // Whatever answer the operator got.
        let enrolment = world.store.enrolment(machine.node()).await.expect("the world's own handle has no trouble");
        if enrolment.is_none_or(|enrolment| enrolment.removed_at.is_some()) {
            world.oracle.note(format!("{} is taken out", machine.name()));
            machine.removed = true;
        }
    }
}

impl Users {
    /// An operator makes a token, and somebody shows it on the new machine, until it works or is refused.
    async fn join(&self, name: &str) -> Option<Enrolled> {
        let mut token = None;
        for _ in 0..TRIES {
            let operator = self.operator.clone();
            let made = self.ask(move |control| {
                Box::pin(async move { control.create_join_token(&operator, JoinTokenRequest::default()).await })
            });
            match made.await {
                Some(Ok(made)) => {
                    token = Some(made.token);
                    break;
                }
                _ => sleep(self.dice.millis(100..2_500)).await,
            }
        }
        let applicant = Applicant { token: token?, public_key: self.key(), name: name.to_owned() };
        let mut made: Option<Enrolled> = None;
        // Asked once more than needed at times: the same token with the same key makes the same node.
        let again = self.dice.happens(200);
        for _ in 0..TRIES {
            match self.enrol(applicant.clone()).await {
                Some(Ok(enrolled)) => {
                    if made.as_ref().is_some_and(|made| made.node != enrolled.node) {
                        self.oracle.violated(format!("I10: one token made {} and another node", enrolled.node));
                    }
                    let first = made.is_none();
                    made = Some(enrolled);
                    if !(again && first) {
                        break;
                    }
                }
                Some(Err(ControlError::Unavailable(_))) | None => sleep(self.dice.millis(100..2_500)).await,
                Some(Err(_)) => break,
            }
        }
        if made.is_some() && self.dice.happens(200) {
            let thief = Applicant { public_key: self.key(), name: format!("{name}-too"), ..applicant };
            if let Some(Ok(enrolled)) = self.enrol(thief).await {
                self.oracle.violated(format!("I10: a used token made {} for another key", enrolled.node));
            }
        }
        made
    }

    /// One application at one replica; none when no answer came.
    async fn enrol(&self, applicant: Applicant) -> Option<Result<Enrolled, ControlError>> {
        let replica = self.dice.index(self.network.replicas.len());
        let (control, mut dies) = self.network.replicas.get(replica)?.control()?;
        let answer = tokio::select! {
            biased;
            _ = dies.wait_for(|dead| *dead) => return None,
            answer = control.enrol(applicant) => answer,
        };
        (!self.dice.happens(100)).then_some(answer)
    }

    fn key(&self) -> [u8; 32] {
        std::array::from_fn(|_| u8::try_from(self.dice.below(256)).unwrap_or(0))
    }

    /// An operator empties the machine, or has seen that it is off, and takes it out of the fleet; gives up after a while.
    async fn take_out(&self, name: &str, power: bool) {
        for attempt in 0..TRIES * 2 {
            let (operator, node) = (self.operator.clone(), name.to_owned());
            let then = if attempt < TRIES { DrainThen::Move } else { DrainThen::Stop };
            let done = self.ask(move |control| {
                Box::pin(async move {
                    if power {
                        control.drain_node(&operator, &node, DrainRequest { grace: Duration::ZERO, then }).await?;
                    } else {
                        control.confirm_node_off(&operator, &node).await?;
                    }
                    control.remove_node(&operator, &node).await
                })
            });
            match done.await {
                Some(Ok(())) => return,
                _ => sleep(self.dice.millis(500..4_000)).await,
            }
        }
    }
}
