//! Tenants and operators: they ask, are not answered, ask again, and remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use wherry_control::{Control, CreateInstance, DrainRequest, Error, InstanceView};
use wherry_model::{
    Check, Condition, ContainerKind, ContainerName, ContainerSpec, Dependency, DrainThen, EnvVar, Hooks, Instance,
    InstanceName, InstanceSpec, OnNodeLoss, Principal, Probe, Probes, ProjectName, RestartPolicy, ScopeSet, Seconds,
    Subject, TenantId,
};

use super::dice::Dice;
use super::machine::IMAGES;
use super::network::Network;
use super::oracle::Oracle;
use crate::sized;

/// How often an ask without an answer is repeated.
const TRIES: u32 = 6;

/// What a container does: serves, ends well, fails, and pays no heed to SIGTERM.
const PROGRAMS: [&str; 6] = ["serve", "serve", "serve", "sleep 9; exit 0", "sleep 6; exit 1", "trap '' TERM; serve"];

/// Everybody who asks.
pub(super) struct Users {
    pub(super) network: Arc<Network>,
    pub(super) oracle: Arc<Oracle>,
    pub(super) dice: Dice,
    tenants: Vec<Principal>,
    pub(super) operator: Principal,
    asks: AtomicU64,
    /// Asks that are under way.
    asking: AtomicUsize,
    /// Specs of a thousand that may be placed elsewhere.
    replaceable: u32,
    /// Specs of a thousand with several containers.
    several: u32,
}

impl Users {
    pub(super) fn new(
        network: Arc<Network>,
        oracle: Arc<Oracle>,
        dice: Dice,
        tenants: &[TenantId],
        (replaceable, several): (u32, u32),
    ) -> Self {
        let caller = |tenant: &TenantId, scopes| Principal {
            tenant: *tenant,
            subject: Subject::External { issuer: "simulation".to_owned(), subject: tenant.to_string() },
            scopes,
        };
        let operator = caller(tenants.first().expect("a world has tenants"), ScopeSet::all());
        let tenants = tenants.iter().map(|tenant| caller(tenant, ScopeSet::tenant())).collect();
        Self {
            network,
            oracle,
            dice,
            tenants,
            operator,
            asks: AtomicU64::new(0),
            asking: AtomicUsize::new(0),
            replaceable,
            several,
        }
    }

    /// Asks some replica; none when no answer came.
    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(Control) -> BoxFuture<'static, Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        let replica = self.dice.index(self.network.replicas.len());
        let replica = self.network.replicas.get(replica)?;
        let (control, mut dies) = replica.control()?;
        let answer = async {
            replica.thawed().await;
            let answer = question(control).await;
            replica.thawed().await;
            answer
        };
        let answer = tokio::select! {
            biased;
            _ = dies.wait_for(|dead| *dead) => return None,
            answer = answer => answer,
        };
        if let Err(error) = &answer
            && error.code() == "internal"
        {
            self.oracle.violated(format!("an ask ends as a bug: {error:?}"));
        }
        (!self.dice.happens(30)).then_some(answer)
    }

    /// Lets somebody do this by the way.
    pub(super) fn begin(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let users = Arc::clone(self);
        users.asking.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            work.await;
            users.asking.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Whether somebody has not got an answer yet and has not given up.
    pub(super) fn are_asking(&self) -> bool {
        self.asking.load(Ordering::SeqCst) > 0
    }

    fn number(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::SeqCst)
    }

    /// Several containers in place of one: something before them, one that others wait for, probes and hooks.
    fn several(&self, one: ContainerSpec) -> Vec<ContainerSpec> {
        let named = |name: &str, program: &str| ContainerSpec {
            name: ContainerName::new(name).expect("it is a name"),
            command: ["/bin/sh", "-c", program].map(str::to_owned).to_vec(),
            ..one.clone()
        };
        let after = |spec: ContainerSpec, condition| {
            let container = one.name.clone();
            ContainerSpec { depends_on: vec![Dependency { container, condition }], ..spec }
        };
        let check = |program: &str| Check::Exec { command: ["sh", "-c", program].map(str::to_owned).to_vec() };
        let probe = |program: &str| Probe {
            check: check(program),
            initial_delay: Seconds(0),
            period: Seconds(2),
            timeout: Seconds(1),
            success_threshold: 1,
            failure_threshold: 2,
        };
        let mut main = one.clone();
        if self.dice.happens(400) {
            main.probes = Probes { readiness: Some(probe("exit 0")), ..Probes::default() };
        }
        if self.dice.happens(200) {
            main.probes.liveness = Some(probe(if self.dice.happens(300) { "exit 1" } else { "exit 0" }));
        }
        if self.dice.happens(300) {
            let pre_stop = self.dice.happens(500).then(|| check("sleep 1"));
            main.hooks = Hooks { post_start: Some(check("sleep 1")), pre_stop };
        }
        let side = self.dice.pick(&PROGRAMS).copied().unwrap_or("serve");
        let mut side = named("side", side);
        if self.dice.happens(500) {
            let condition = if self.dice.happens(500) { Condition::Started } else { Condition::Healthy };
            side = after(side, condition);
        }
        let mut all = vec![main, side];
        if self.dice.happens(600) {
            let program = if self.dice.happens(150) { "sleep 1; exit 1" } else { "sleep 1; exit 0" };
            all.insert(0, ContainerSpec { kind: ContainerKind::Init, ..named("prepare", program) });
        }
        all
    }

    fn spec(&self) -> InstanceSpec {
        let cpu = [100, 250, 500, 1_000].get(self.dice.index(4)).copied().unwrap_or(100);
        let mut spec = sized(cpu, 64);
        if let Some(container) = spec.containers.first_mut() {
            let program = self.dice.pick(&PROGRAMS).copied().unwrap_or("serve");
            container.command = vec!["/bin/sh".to_owned(), "-c".to_owned(), program.to_owned()];
            let (image, _) = self.dice.pick(&IMAGES).copied().unwrap_or(("registry.example/demo/web:1", 0));
            container.image = image.parse().expect("the simulation's images are references");
        }
        if self.dice.happens(self.several)
            && let Some(one) = spec.containers.pop()
        {
            spec.containers = self.several(one);
            spec.max_restarts = self.dice.happens(200).then_some(2);
            spec.deadline_seconds = self.dice.happens(100).then_some(25);
        }
        let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
        spec.restart_policy = self.dice.pick(&policies).copied().unwrap_or(RestartPolicy::Never);
        spec.stop_grace_seconds = 3;
        if self.dice.happens(self.replaceable) {
            spec.on_node_loss = OnNodeLoss::Replace;
            // Longer than the control plane waits before it takes the instance from a machine that is silent.
            if cpu >= 500 {
                spec.stop_grace_seconds = 45;
            }
        }
        spec
    }

    /// One tenant creates something, with a key or by a put, and does not give up at the first silence.
    pub(super) async fn create(self: Arc<Self>) {
        let number = self.number();
        let Some(principal) = self.dice.pick(&self.tenants).cloned() else { return };
        let name = InstanceName::new(format!("web-{}", self.dice.below(7))).expect("it is a name");
        let request = CreateInstance {
            project: ProjectName::default_project(),
            name: Some(name.clone()),
            spec: self.spec(),
            idempotency_key: self.dice.happens(700).then(|| format!("key-{number}")),
        };
        let puts = self.dice.happens(200);
        for _ in 0..TRIES {
            let (principal, request, name) = (principal.clone(), request.clone(), name.clone());
            let key = request.idempotency_key.clone();
            let answer = self
                .ask(move |control| {
                    Box::pin(async move {
                        if puts {
                            let CreateInstance { project, spec, idempotency_key, .. } = request;
                            let put = control.put_instance(&principal, &project, name, spec, None, idempotency_key);
                            put.await.map(|put| (put.view, put.created))
                        } else {
                            let created = control.create_instance(&principal, request).await?;
                            Ok((created.view, true))
                        }
                    })
                })
                .await;
            match answer {
                Some(Ok((view, made))) => {
                    let key = key.as_ref().filter(|_| made);
                    self.oracle.created(&view.instance, &view.fqdn, key);
                    return;
                }
                Some(Err(error)) if error.code() != "unavailable" => return,
                _ => sleep(self.dice.millis(100..2_500)).await,
            }
        }
    }

    /// Somebody asks something of an instance: mostly its owner.
    pub(super) async fn change(self: Arc<Self>, instance: Instance) {
        let owner = self.tenants.iter().position(|principal| principal.tenant == instance.tenant);
        let asks = [
            Ask::Stop,
            Ask::Start,
            Ask::Start,
            Ask::Delete,
            Ask::Delete,
            Ask::Look,
            Ask::Stop,
            Ask::Restart,
            Ask::RestartOne,
            Ask::Update,
        ];
        let (Some(owner), Some(ask)) = (owner, self.dice.pick(&asks).copied()) else { return };
        if self.dice.happens(80) {
            self.intrude(owner, instance, ask).await;
            return;
        }
        for _ in 0..TRIES {
            match self.put(owner, &instance, ask).await {
                Some(Ok(view)) => {
                    self.oracle.note(format!("user: {ask:?} of {} is answered, {}", instance.id, view.instance.state));
                    self.oracle.named(instance.id, &view.fqdn);
                    if ask == Ask::Delete {
                        self.oracle.deleted(instance.id);
                    }
                    return;
                }
                Some(Err(error)) if error.code() != "unavailable" => return,
                _ => sleep(self.dice.millis(100..2_500)).await,
            }
        }
    }

    /// I10: another tenant's instance does not exist.
    async fn intrude(&self, owner: usize, instance: Instance, ask: Ask) {
        let other = (owner + 1) % self.tenants.len();
        match self.put(other, &instance, ask).await {
            Some(Ok(view)) => self.oracle.violated(format!("I10: {} answers another tenant", view.instance.id)),
            Some(Err(error)) if !matches!(error.code(), "not_found" | "unavailable") => {
                self.oracle.violated(format!("I10: another tenant learns of {}: {error}", instance.id));
            }
            _ => {}
        }
    }

    pub(super) async fn put(
        &self,
        caller: usize,
        instance: &Instance,
        ask: Ask,
    ) -> Option<Result<InstanceView, Error>> {
        let (principal, id) = (self.tenants.get(caller)?.clone(), instance.id.to_string());
        let container = self.dice.pick(&instance.spec.containers)?.name.clone();
        let value = self.dice.below(3).to_string();
        self.ask(move |control| {
            Box::pin(async move {
                let project = ProjectName::default_project();
                match ask {
                    Ask::Stop => control.stop_instance(&principal, &project, &id).await,
                    Ask::Start => control.start_instance(&principal, &project, &id).await,
                    Ask::Delete => control.delete_instance(&principal, &project, &id).await,
                    Ask::Look => control.get_instance(&principal, &project, &id).await,
                    Ask::Restart => control.restart_instance(&principal, &project, &id, false).await,
                    Ask::RestartOne => control.restart_container(&principal, &project, &id, &container, false).await,
                    Ask::Update => {
                        let edit = |found: &Instance| {
                            let mut spec = found.spec.clone();
                            spec.labels.insert("changed".to_owned(), value.clone());
                            let changed = spec.containers.iter_mut().find(|one| one.name == container);
                            if let Some(changed) = changed {
                                changed.env = vec![EnvVar::plain("VALUE", value.clone())];
                            }
                            Ok::<_, Error>(spec)
                        };
                        control.update_instance(&principal, &project, &id, None, edit).await
                    }
                }
            })
        })
        .await
    }

    /// An operator closes, opens or empties a machine.
    pub(super) async fn operate(self: Arc<Self>, node: String) {
        let what = self.dice.below(6);
        let (operator, name) = (self.operator.clone(), node.clone());
        let grace = Duration::from_secs(self.dice.below(8));
        let then = if self.dice.happens(600) { DrainThen::Move } else { DrainThen::Stop };
        let done = self
            .ask(move |control| {
                Box::pin(async move {
                    match what {
                        0 => control.cordon_node(&operator, &name).await,
                        1 | 2 => control.drain_node(&operator, &name, DrainRequest { grace, then }).await,
                        3 => control.cancel_drain(&operator, &name).await,
                        _ => control.uncordon_node(&operator, &name).await,
                    }
                })
            })
            .await;
        self.oracle.note(format!("operator: {what} of {node}: {}", done.is_some_and(|done| done.is_ok())));
    }

    /// An operator wants nothing new on a machine.
    pub(super) async fn close(self: Arc<Self>, node: String) {
        let (operator, name) = (self.operator.clone(), node.clone());
        let done = self.ask(move |control| Box::pin(async move { control.cordon_node(&operator, &name).await }));
        let done = done.await.is_some_and(|done| done.is_ok());
        self.oracle.note(format!("operator: {node} is closed: {done}"));
    }

    /// An operator has seen that the machine is off.
    pub(super) async fn confirm_off(&self, node: &str) -> bool {
        let (operator, name) = (self.operator.clone(), node.to_owned());
        let done = self.ask(move |control| Box::pin(async move { control.confirm_node_off(&operator, &name).await }));
        let done = done.await.is_some_and(|done| done.is_ok());
        self.oracle.note(format!("operator: {node} is confirmed off: {done}"));
        done
    }

    /// Machines are open again; false while somebody does not answer.
    pub(super) async fn open(&self, node: &str) -> bool {
        let (operator, name) = (self.operator.clone(), node.to_owned());
        let opened = self.ask(move |control| {
            Box::pin(async move {
                match control.cancel_drain(&operator, &name).await {
                    Ok(_) => Ok(()),
                    // It was taken out.
                    Err(error) if error.code() == "not_found" => Ok(()),
                    Err(error) if error.code() == "node_not_draining" => {
                        control.uncordon_node(&operator, &name).await.map(drop)
                    }
                    Err(error) => Err(error),
                }
            })
        });
        matches!(opened.await, Some(Ok(())))
    }

    pub(super) fn caller_of(&self, instance: &Instance) -> usize {
        self.tenants.iter().position(|principal| principal.tenant == instance.tenant).unwrap_or(0)
    }
}

/// What is asked of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Stop,
    Start,
    Delete,
    Look,
    Restart,
    RestartOne,
    Update,
}
