//! What operators do. All of it needs the scope `admin`, which no other scope implies.

pub(crate) mod nodes_list;
pub(crate) mod tenant_keys_create;
pub(crate) mod tenants_create;
pub(crate) mod tenants_list;
