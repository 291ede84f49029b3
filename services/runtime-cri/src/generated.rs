//! The generated clients, in modules that follow their protobuf packages. `codegen/` writes them; nobody edits them, so
//! they answer to no lint and no formatter.

#[rustfmt::skip]
#[expect(clippy::allow_attributes, reason = "generated code carries its own allows")]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, dead_code, reason = "generated, see codegen/")]
pub(crate) mod runtime {
    pub mod v1 {
        include!("gen/runtime.v1.rs");
    }
}

#[rustfmt::skip]
#[expect(clippy::allow_attributes, reason = "generated code carries its own allows")]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, dead_code, reason = "generated, see codegen/")]
pub(crate) mod containerd {
    pub mod types {
        include!("gen/containerd.types.rs");
    }
    pub mod events {
        include!("gen/containerd.events.rs");
    }
    pub mod services {
        pub mod events {
            pub mod v1 {
                include!("gen/containerd.services.events.v1.rs");
            }
        }
        pub mod content {
            pub mod v1 {
                include!("gen/containerd.services.content.v1.rs");
            }
        }
        pub mod containers {
            pub mod v1 {
                include!("gen/containerd.services.containers.v1.rs");
            }
        }
        pub mod tasks {
            pub mod v1 {
                include!("gen/containerd.services.tasks.v1.rs");
            }
        }
    }
}
