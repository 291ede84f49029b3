//! Values that tests need and do not care about.

use wherry_model::{ContainerName, ContainerSpec, CpuMillis, Digest, InstanceSpec, MemoryMib, OnNodeLoss};

/// The name of the one container of [`spec`].
pub fn main_container() -> ContainerName {
    ContainerName::new("main").expect("\"main\" is a container name")
}

/// One container of 250m CPU and 64Mi memory, restarted on failure.
pub fn spec() -> InstanceSpec {
    sized(250, 64)
}

/// [`spec`] that is placed elsewhere when its machine is lost.
pub fn replaceable() -> InstanceSpec {
    InstanceSpec { on_node_loss: OnNodeLoss::Replace, ..spec() }
}

/// [`spec`] of another size.
pub fn sized(cpu_millis: u32, memory_mib: u32) -> InstanceSpec {
    let image = "registry.example/demo/web:1".parse().expect("the sample image is a reference");
    let (cpu, memory) = (CpuMillis::new(cpu_millis), MemoryMib::new(memory_mib));
    InstanceSpec::new(vec![ContainerSpec::new(main_container(), image, cpu, memory)])
}

/// The digest that every image of a [`ScriptedAgent`](crate::ScriptedAgent) has.
pub fn digest() -> Digest {
    format!("sha256:{}", "a1".repeat(32)).parse().expect("the sample digest is one")
}
