//! F01: a replica is killed between any two statements of a create.
//!
//! The failpoints are triggers in the database: the statement in question waits there, and the test sees it wait and kills.
//! So the binary under test is the one that is shipped.

use std::fmt::Write as _;
use std::time::Instant;

use wherry_api_client::Client;
use wherry_fleet_lab::Plan;

use crate::support::{LOOK_EVERY, Lab, is_retryable, server, told, until};

/// Where a create can be cut off, in order. Beside the table: when the trigger fires, and for which rows (heartbeats and
/// reports write the same tables).
const POINTS: [(&str, &str, &str); 8] = [
    ("nothing_written", "BEFORE INSERT ON instances", ""),
    ("record_written", "AFTER INSERT ON instances", ""),
    ("key_about_to_be_written", "BEFORE INSERT ON idempotency", ""),
    ("key_written", "AFTER INSERT ON idempotency", ""),
    ("room_about_to_be_taken", "BEFORE UPDATE ON nodes", "WHEN (NEW.used_instances > OLD.used_instances)"),
    ("room_taken", "AFTER UPDATE ON nodes", "WHEN (NEW.used_instances > OLD.used_instances)"),
    ("event_about_to_be_written", "BEFORE INSERT ON events", "WHEN (NEW.kind = 'created')"),
    ("event_written", "AFTER INSERT ON events", "WHEN (NEW.kind = 'created')"),
];

/// In the COMMIT itself, after all checks: what waits here commits, whoever is still there to hear of it.
const COMMIT: &str = "commit_under_way";

/// A statement waits for this long at most, which the database takes for slow and not for dead.
const STALL_SECONDS: f64 = 2.0;

/// A stall that the test did not see in time was none: then another create is cut off.
const TRIES: usize = 5;

/// One statement of ours waits at a failpoint.
const STALLED: &str =
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'wherry' AND wait_event = 'PgSleep'";

fn install(lab: &Lab) {
    let mut statements = format!(
        "CREATE TABLE armed (point text);
         CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF EXISTS (SELECT 1 FROM armed WHERE point = TG_ARGV[0]) THEN PERFORM pg_sleep({STALL_SECONDS}); END IF;
             RETURN NEW;
         END $$;
         CREATE CONSTRAINT TRIGGER {COMMIT} AFTER INSERT ON instances DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION stall('{COMMIT}');"
    );
    for (name, when, which) in POINTS {
        // Writing to a string does not fail.
        let _ =
            write!(statements, "CREATE TRIGGER {name} {when} FOR EACH ROW {which} EXECUTE FUNCTION stall('{name}');");
    }
    lab.stored(&statements);
}

fn arm(lab: &Lab, point: &str) {
    lab.stored(&format!("INSERT INTO armed VALUES ('{point}')"));
}

fn disarm(lab: &Lab) {
    lab.stored("DELETE FROM armed");
}

/// Sends a create to the client's replica and waits until it is stalled; none when it was answered without that.
async fn stalled(lab: &Lab, client: &Client, plan: &Plan) -> Option<tokio::task::JoinHandle<bool>> {
    let (client, plan, history) = (client.clone(), plan.clone(), lab.history.clone());
    // Whether it was answered after all: a commit that is under way when its replica is killed may be.
    let asked = tokio::spawn(async move {
        match history.create(&client, &plan).await {
            Ok(_) => true,
            Err(error) => {
                assert!(is_retryable(&error), "{error:?}");
                false
            }
        }
    });
    while !asked.is_finished() {
        if lab.stored(STALLED) == "t" {
            return Some(asked);
        }
        tokio::time::sleep(LOOK_EVERY / 5).await;
    }
    None
}

/// Cuts a create off at the point. Gives what was asked, to be asked again elsewhere.
async fn cut_off(lab: &mut Lab, client: &Client, victim: usize, point: &str) -> Plan {
    for attempt in 0..TRIES {
        let name = format!("{}-{attempt}", point.replace('_', "-"));
        let plan = lab.history.plan(server(&lab.image, &name));
        arm(lab, point);
        let Some(asked) = stalled(lab, client, &plan).await else { continue };
        if point == COMMIT {
            // It will commit; its replica will neither hear nor say so.
            lab.fleet.replicas[victim].program.freeze().unwrap();
            let stored = format!("SELECT count(*) FROM instances WHERE name = '{name}'");
            until("the commit ends", async || (lab.stored(&stored) == "1").then_some(())).await;
        }
        lab.fleet.replicas[victim].kill();
        disarm(lab);
        if !asked.await.unwrap() {
            return plan;
        }
        assert_ne!(point, COMMIT, "a replica that was frozen has answered");
        lab.fleet.replicas[victim].start().await.unwrap();
    }
    panic!("in {TRIES} tries no create was cut off at {point}");
}

/// Asked again with its key, elsewhere, it is the same one or the first; and there is one of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_a_create_that_was_cut_off_anywhere_is_made_once() {
    let mut lab = Lab::start(2, 1).await;
    let clients = lab.clients();
    install(&lab);
    let points = POINTS.iter().map(|(name, ..)| *name).chain([COMMIT]);
    for (number, point) in points.enumerate() {
        let (victim, other) = (number % 2, 1 - number % 2);
        lab.fleet.replicas[victim].ready().await.unwrap();
        let begun = Instant::now();
        let plan = cut_off(&mut lab, &clients[victim], victim, point).await;
        lab.fleet.replicas[victim].begin().unwrap();
        let elsewhere = [clients[other].clone()];
        let made = told(&elsewhere, 0, async |client| lab.history.create(client, &plan).await).await;
        let again = told(&clients, 0, async |client| lab.history.create(client, &plan).await).await;
        assert_eq!(again.id, made.id, "{point}");
        let name = plan.body.name.clone().unwrap();
        let of_name = format!("SELECT count(*), min(id::text) FROM instances WHERE name = '{name}'");
        assert_eq!(lab.stored(&of_name), format!("1|{}", made.id), "{point}");
        let created = format!("SELECT count(*) FROM events WHERE instance = '{}' AND kind = 'created'", made.id);
        assert_eq!(lab.stored(&created), "1", "{point}");
        println!("F01: cut off at {point}, made {:?} later", begun.elapsed());
        // Room for the next ones, and a bill that has an end.
        told(&elsewhere, 0, async |client| lab.history.delete(client, &made.id).await).await;
    }
    lab.ready().await;
    lab.finish().await;
}
