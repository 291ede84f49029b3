use std::time::Duration;

use wherry_control::Usage;
use wherry_metering::Resource;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Clock, Fact, PicoAmount, Timestamp};
use wherry_testkit::{Stack, Tenant, digest, main_container, spec};

use crate::support::{delete, stop};

async fn of(stack: &Stack, tenant: &Tenant, name: &str) -> Usage {
    stack.control().instance_usage(&tenant.principal, &tenant.project, name).await.unwrap()
}

fn seconds(usage: &Usage, kind: MeterKind) -> i128 {
    usage.bill.quantity(kind, Resource::Cpu) / 250
}

fn after(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_open_interval_ends_at_the_last_proof() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "web", spec()).await;
    stack.agent().obey().await;
    stack.advance(after(100));
    assert_eq!(seconds(&of(&stack, acme, "web").await, MeterKind::Run), 0, "what is not proved is not billed");
    stack.agent().heartbeat().await.unwrap();
    stack.advance(after(50));
    let usage = of(&stack, acme, "web").await;
    assert_eq!(seconds(&usage, MeterKind::Run), 100);
    assert!(usage.bill.lines.iter().all(|line| line.open == (line.kind == MeterKind::Run)));
    let view = stack.read(acme, "web").await;
    assert_eq!(view.cost.so_far, usage.bill.total);
    assert_eq!(usage.bill.total, usage.bill.lines.iter().map(|line| line.amount).sum::<PicoAmount>());
}

#[tokio::test]
async fn pulls_are_a_line_of_their_own_that_costs_nothing() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    agent.say(web.id, web.generation, Fact::PullStarted { container: main_container() });
    agent.report().await.unwrap();
    stack.advance(after(30));
    agent.heartbeat().await.unwrap();
    assert_eq!(seconds(&of(&stack, acme, "web").await, MeterKind::Pull), 30, "it grows while it is pulled");
    agent.say(web.id, web.generation, Fact::Pulled { container: main_container(), digest: digest(), cached: false });
    agent.report().await.unwrap();
    stack.advance(after(30));
    let usage = of(&stack, acme, "web").await;
    assert_eq!((seconds(&usage, MeterKind::Pull), usage.bill.total), (30, PicoAmount(0)));
}

#[tokio::test]
async fn gaps_between_runs_are_not_billed() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    agent.obey().await;
    stack.advance(after(10));
    agent.exit(web.id, 1, Some(agent.now().plus(after(7))));
    stack.advance(after(7));
    agent.start_again(web.id);
    stack.advance(after(5));
    agent.report().await.unwrap();
    stop(&stack, acme, "web").await.unwrap();
    agent.obey().await;
    stack.advance(after(1_000));
    let usage = of(&stack, acme, "web").await;
    assert_eq!(seconds(&usage, MeterKind::Run), 15);
    let second = usage.bill.lines.iter().find(|line| line.kind == MeterKind::Run && line.number == 2).unwrap();
    assert_eq!(second.seconds, 5);
}

#[tokio::test]
async fn windows_clip_and_add_up() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    let begin = stack.clock().now();
    stack.create(acme, "web", spec()).await;
    stack.create(stack.blue(), "web", spec()).await;
    stack.agent().obey().await;
    stack.advance(after(100));
    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    let ask = async |from: Timestamp, to: Timestamp| {
        stack.control().usage(&acme.principal, None, from, to).await.map(|usage| usage.bill.total.0)
    };
    let per_second = 250 * 10_000 + 64 * 1_000;
    assert_eq!(ask(begin, begin.plus(after(1_000))).await.unwrap(), 100 * per_second);
    let (mut total, mut from) = (0, begin);
    for step in [1, 29, 40, 30, 60] {
        total += ask(from, from.plus(after(step))).await.unwrap();
        from = from.plus(after(step));
    }
    assert_eq!(total, 100 * per_second);
    assert_eq!(ask(begin, begin).await.unwrap_err().field(), Some("to"));
    assert_eq!(ask(begin, begin.plus(after(367 * 86_400))).await.unwrap_err().field(), Some("from"));

    let elsewhere = stack.control().create_project(&acme.principal, "other".parse().unwrap()).await.unwrap();
    let of_project = stack.control().usage(&acme.principal, Some(&elsewhere.name), begin, begin.plus(after(9))).await;
    assert_eq!(of_project.unwrap().bill.lines, []);
}

#[tokio::test]
async fn what_was_used_is_billed_after_the_instance_is_forgotten() {
    let mut stack = Stack::start().await;
    let begin = stack.clock().now();
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.advance(after(60));
    delete(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    stack.advance(stack.control().config().retention + after(1));
    stack.background().await;
    stack.reopen().await;
    let principal = &stack.acme().principal;
    let usage = stack.control().usage(principal, None, begin, begin.plus(after(3_600))).await.unwrap();
    assert_eq!(seconds(&usage, MeterKind::Run), 60);
    assert_eq!(usage.bill.lines[0].name.as_str(), "web");
}
