//! The operations of `/v1`: one file each, named after its verb. A file holds the route and its
//! documentation; `tests/api` asks them all.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod events;
pub(crate) mod instances;
pub(crate) mod keys;
pub(crate) mod projects;
pub(crate) mod stats;
pub(crate) mod streams;
pub(crate) mod usage;
pub(crate) mod webhooks;

pub(crate) use instances::list::LabelSelector;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::layers::action_route;
use crate::state::ApiState;

/// The largest sequence number that is taken from a client: what a JSON number carries exactly.
pub(crate) const MAX_SEQUENCE: u64 = (1 << 53) - 1;

/// Every operation with its documentation.
pub(crate) fn routes(router: OpenApiRouter<ApiState>) -> OpenApiRouter<ApiState> {
    let router = router
        .routes(routes!(projects::list::handle, projects::create::handle))
        .routes(routes!(instances::list::handle, instances::create::handle))
        .routes(routes!(
            instances::get::handle,
            instances::put::handle,
            instances::patch::handle,
            instances::delete::handle
        ))
        .routes(routes!(instances::wait::handle))
        .routes(routes!(instances::logs::handle))
        .routes(routes!(instances::exec::handle, instances::exec_session::handle))
        .routes(routes!(instances::attach::handle))
        .routes(routes!(instances::port_forward::handle))
        .routes(routes!(instances::usage::handle))
        .routes(routes!(instances::stats::handle))
        .routes(routes!(stats::handle))
        .routes(routes!(stats::metrics))
        .routes(routes!(instances::events::handle))
        .routes(routes!(events::handle))
        .routes(routes!(audit::handle))
        .routes(routes!(usage::handle))
        .routes(routes!(webhooks::list::handle, webhooks::create::handle))
        .routes(routes!(webhooks::get::handle, webhooks::patch::handle, webhooks::delete::handle))
        .routes(routes!(webhooks::deliveries::handle))
        .routes(routes!(webhooks::delivery_get::handle))
        .routes(routes!(keys::list::handle, keys::create::handle))
        .routes(routes!(keys::revoke::handle))
        .routes(routes!(admin::tenants_list::handle, admin::tenants_create::handle))
        .routes(routes!(admin::tenant_keys_create::handle))
        .routes(routes!(admin::nodes_list::handle))
        .routes(routes!(admin::node_get::handle, admin::node_remove::handle))
        .routes(routes!(admin::join_tokens_create::handle))
        .routes(routes!(admin::replicas_list::handle))
        .routes(routes!(admin::fleet_get::handle))
        .routes(routes!(admin::what_if::handle))
        .routes(routes!(admin::explain_get::handle, admin::explain_spec::handle))
        .routes(routes!(admin::audit_list::handle))
        .routes(routes!(admin::fleet_events::handle));
    [
        routes!(instances::stop::handle),
        routes!(instances::start::handle),
        routes!(instances::restart::handle),
        routes!(instances::container_restart::handle),
        routes!(webhooks::rotate_secret::handle),
        routes!(webhooks::test::handle),
        routes!(webhooks::redeliver::handle),
        routes!(admin::node_cordon::handle),
        routes!(admin::node_uncordon::handle),
        routes!(admin::node_drain::handle),
        routes!(admin::node_cancel_drain::handle),
        routes!(admin::node_confirm_off::handle),
        routes!(admin::secrets_reseal::handle),
    ]
    .into_iter()
    .fold(router, action_route)
}
