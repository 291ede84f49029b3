//! The suite that every store must pass: one case per promise of `wherry-store`.
//!
//! A store joins with one line, `wherry_store_contract::store_contract!(crate::subject);`, where `subject` is an async
//! function that makes a [`Subject`] on an empty database. A new case is a function in one of the modules and a name in
//! the list below; a test of this crate compares the two.
//!
//! [`invariants::check`] is the oracle: it recomputes from all records what the counters and meters must say. Fault tests
//! run it on whatever a crash has left.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

pub mod audits;
pub mod calls;
pub mod changes;
pub mod creates;
pub mod damage;
pub mod deferred;
pub mod drains;
pub mod enrolments;
pub mod events;
pub mod feed;
pub mod fencing;
pub mod invariants;
pub mod leaseless;
pub mod leases;
pub mod lists;
pub mod lives;
pub mod meters;
pub mod nodes;
pub mod offers;
pub mod purges;
pub mod removals;
pub mod renewals;
pub mod replays;
pub mod replicas;
pub mod reports;
pub mod schedules;
pub mod settling;
pub mod tenants;
pub mod updates;
pub mod waits;
pub mod webhooks;
pub mod world;

use std::sync::Arc;

use async_trait::async_trait;
use wherry_store::Store;

pub use world::World;

/// A store under test.
#[async_trait]
pub trait Subject: Send {
    /// The store as it is open now.
    fn store(&self) -> Arc<dyn Store>;

    /// Closes the store and opens the same data again.
    async fn reopen(&mut self);
}

/// Makes a test of every case of the suite. `$make` is the full path of an async function without arguments that returns
/// a [`Subject`] on an empty database.
#[macro_export]
macro_rules! store_contract {
    ($make:path) => {
        $crate::store_contract! { $make;
            tenants: [
                a_tenant_comes_with_its_first_project,
                a_tenant_whose_name_is_taken_leaves_nothing,
                tenants_are_listed_by_name_in_pages,
                project_names_are_unique_in_their_tenant,
                keys_are_kept_as_given,
                keys_are_listed_newest_first,
                only_the_own_tenant_ends_a_key,
            ]
            nodes: [
                a_new_node_is_ready_and_empty,
                registering_again_keeps_what_is_placed,
                registering_goes_above_what_the_agent_holds,
                registering_wakes_a_silent_node_and_leaves_a_cordoned_one,
                proof_of_life_never_goes_back,
                unknown_nodes_are_said_to_be_unknown,
                instances_of_a_node_come_with_its_revision,
            ]
            offers: [
                a_zone_is_kept,
                disk_is_taken_and_given_back,
                gpus_are_taken_and_given_back,
                a_node_that_a_tenant_has_alone_takes_no_other,
                more_than_there_is_is_handed_out_where_the_operator_says_so,
                spot_instances_are_rated_with_a_book_of_their_own,
            ]
            creates: [
                a_create_stores_all_of_it,
                an_acknowledged_create_survives,
                of_racing_creates_of_a_name_one_wins,
                names_are_apart_in_tenants_and_projects,
                a_name_is_free_again_after_deletion,
                a_taken_name_leaves_nothing,
                a_dns_name_is_unique_in_its_scope,
                of_racing_creates_of_a_dns_name_one_wins,
                a_class_is_placed_only_where_it_is_offered,
                a_refusing_node_leaves_nothing,
                a_taken_name_is_told_even_when_the_node_is_full,
                racing_creates_never_oversubscribe_a_node,
            ]
            replays: [
                a_key_replays_what_it_made,
                a_key_replays_after_reopening,
                a_key_for_another_request_is_refused,
                a_key_replays_a_deleted_instance,
                a_key_is_looked_at_first,
                a_key_belongs_to_its_tenant,
                of_racing_creates_with_a_key_one_is_made,
                a_failed_create_does_not_use_its_key,
            ]
            updates: [
                a_change_stores_all_of_it,
                a_late_change_loses,
                of_racing_changes_one_wins,
                changes_of_unknown_instances_lose,
                resources_are_given_back_once,
                a_start_takes_again_or_changes_nothing,
                a_start_elsewhere_tells_both_nodes,
                nodes_are_told_what_they_must_do,
                giving_back_what_is_not_held_is_refused,
            ]
            reports: [
                a_report_is_applied_once,
                changes_of_a_report_build_on_each_other,
                a_report_is_all_or_nothing,
                acknowledgements_survive_reopening,
                journals_are_apart,
                of_racing_reports_one_is_applied,
                a_report_that_changes_nothing_is_acknowledged,
            ]
            deferred: [
                facts_are_deferred_with_their_acknowledgement,
                a_change_ahead_of_deferred_facts_is_refused,
                deferred_facts_are_applied_once,
                no_more_facts_are_deferred_than_may_be,
                deferred_facts_are_purged_with_their_instance,
            ]
            lists: [
                pages_cover_everything_once,
                pages_are_stable_while_instances_come_and_go,
                filters_agree_with_a_plain_search,
                tenants_see_only_their_own,
                addressed_instances_come_in_pages,
            ]
            events: [
                events_are_read_in_order_and_in_pages,
                events_of_one_instance,
                numbers_grow_over_reopening_and_purging,
                readers_miss_no_event_while_writers_write,
                the_newest_events_of_an_instance_are_kept,
                events_of_purged_instances_are_known_to_be_gone,
            ]
            meters: [
                an_interval_opens_and_closes_with_its_change,
                an_interval_of_one_second_or_less_covers_the_grid,
                a_window_finds_what_covers_it,
                intervals_come_in_pages,
                edges_out_of_turn_are_refused,
                price_books_never_change,
                nothing_is_metered_without_a_price_book,
                any_edges_cover_what_a_set_of_seconds_covers,
            ]
            purges: [
                deleted_instances_are_forgotten_after_their_time,
                intervals_outlive_their_instance,
                a_purge_keeps_its_limit,
                keys_are_forgotten_after_their_time,
            ]
            feed: [
                a_commit_wakes_a_waiter,
                a_missed_commit_is_told_at_once,
                proofs_of_life_and_leases_wake_nobody,
                a_waiter_without_news_returns,
                counters_only_grow,
                racing_reservations_are_apart,
            ]
            fencing: [
                every_proof_of_life_is_counted,
                a_proof_of_life_of_another_epoch_is_refused,
                a_doubt_is_told_until_it_is_resolved,
                a_doubt_outlives_the_end_of_an_earlier_one,
                the_last_resolved_doubt_wakes_a_silent_node,
                fencing_stores_all_of_it,
                fencing_without_changes_raises_epoch_and_revision,
                a_node_that_was_heard_is_not_fenced,
                a_fencing_that_loses_a_race_stores_nothing,
                of_a_proof_of_life_and_a_fencing_one_wins,
                of_racing_fencings_one_displaces,
                a_fencing_goes_on_in_epochs_of_its_own,
            ]
            leaseless: [
                an_agent_that_knows_no_leases_is_heard_in_any_epoch,
                what_must_be_fenced_is_not_placed_where_nobody_fences,
                what_an_agent_does_not_understand_is_not_placed_there,
                one_that_fences_is_believed_when_it_knows_what,
                a_rollback_is_heard_before_a_fencing,
            ]
            drains: [
                a_drain_is_kept_until_it_is_ended,
                another_state_ends_a_drain,
                a_draining_node_takes_nothing,
                an_operators_word_outlives_silence,
                draining_without_a_drain_is_refused,
            ]
            removals: [
                only_an_empty_node_is_removed,
                a_removed_node_is_no_node,
                what_ended_on_a_removed_node_goes_on_without_it,
                an_enrolment_ends_with_its_node,
                an_enrolled_node_that_never_came_is_removed,
                of_a_removal_and_a_create_one_wins,
            ]
            renewals: [
                another_amount_is_taken_from_the_same_node,
                an_amount_that_does_not_fit_changes_nothing,
                nodes_are_told_of_restarts_and_updates,
                whose_time_is_over_is_found,
                racing_expiries_delete_once,
            ]
            schedules: [
                an_instance_that_waits_for_its_time_is_nowhere,
                what_is_due_is_found,
                racing_runs_begin_once,
            ]
            waits: [
                who_waits_longest_comes_first,
                a_waiting_instance_is_nowhere,
                of_racing_places_one_is_taken,
                a_refused_place_leaves_it_waiting,
            ]
            changes: [
                every_kind_of_write_is_found,
                what_is_not_stored_is_not_found,
                a_record_comes_as_it_is_now,
                changes_come_in_pages,
                a_cursor_survives_reopening_and_purging,
                followers_miss_nothing_while_writers_write,
                a_cursor_taken_while_writers_write_leaves_no_gap,
            ]
            enrolments: [
                a_token_is_kept_as_given,
                a_token_enrols_one_node,
                an_expired_token_is_refused,
                names_and_ranges_are_used_once,
                a_range_begins_where_its_prefix_says,
                of_racing_uses_of_a_token_one_enrols,
                of_racing_enrolments_of_a_name_or_range_one_wins,
            ]
            leases: [
                a_lease_has_one_holder,
                a_lease_that_ran_out_is_taken_over,
                a_renewed_lease_lasts_from_its_renewal,
                released_leases_are_free,
                of_racing_holders_one_gets_it,
            ]
            replicas: [
                replicas_are_listed_as_they_said_last,
                replicas_are_forgotten,
            ]
            calls: [
                a_call_is_handed_out_once,
                an_expired_call_is_not_handed_out,
                expired_calls_are_forgotten_bit_by_bit,
                of_racing_takers_each_call_has_one,
                called_nodes_are_those_with_calls,
                a_call_wakes_a_waiter,
            ]
            audits: [
                an_entry_is_kept_as_given,
                an_entry_ends_once,
                entries_come_in_pages_to_whom_they_belong,
                entries_are_forgotten_after_their_time,
            ]
            webhooks: [
                a_webhook_is_kept_as_given,
                a_late_change_of_a_webhook_is_refused,
                each_event_becomes_a_delivery_once,
                a_disabled_webhook_rests,
                deliveries_of_an_instance_come_one_after_the_other,
                a_try_is_settled_once_with_all_that_comes_of_it,
                deliveries_come_in_pages_and_go_with_their_webhook,
                every_webhook_is_found,
                ended_deliveries_are_forgotten,
            ]
            settling: [
                the_first_value_stays,
                racing_replicas_hear_one_value,
                what_was_learnt_last_is_kept,
            ]
            lives: [
                random_lives_keep_the_invariants,
                racing_lives_keep_the_invariants,
            ]
        }
    };
    ($make:path; $($module:ident: [$($case:ident),* $(,)?])*) => {
        $(mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut subject = $make().await;
                    $crate::$module::$case(&mut subject).await;
                }
            )*
        })*
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// A case that is written but not listed would never run.
    #[test]
    fn every_case_is_listed() {
        let sources = [
            include_str!("audits.rs"),
            include_str!("calls.rs"),
            include_str!("changes.rs"),
            include_str!("creates.rs"),
            include_str!("deferred.rs"),
            include_str!("drains.rs"),
            include_str!("enrolments.rs"),
            include_str!("events.rs"),
            include_str!("feed.rs"),
            include_str!("fencing.rs"),
            include_str!("leaseless.rs"),
            include_str!("leases.rs"),
            include_str!("lists.rs"),
            include_str!("lives.rs"),
            include_str!("meters.rs"),
            include_str!("nodes.rs"),
            include_str!("offers.rs"),
            include_str!("offers.rs"),
            include_str!("purges.rs"),
            include_str!("removals.rs"),
            include_str!("renewals.rs"),
            include_str!("replays.rs"),
            include_str!("replicas.rs"),
            include_str!("reports.rs"),
            include_str!("schedules.rs"),
            include_str!("settling.rs"),
            include_str!("tenants.rs"),
            include_str!("updates.rs"),
            include_str!("waits.rs"),
            include_str!("webhooks.rs"),
        ];
        let written: BTreeSet<&str> = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
            .collect();
        let listed: BTreeSet<&str> = include_str!("lib.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("                ")?.strip_suffix(','))
            .filter(|line| line.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        assert_eq!(written, listed);
    }
}
