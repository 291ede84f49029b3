//! GPUs are handed out one by one, and images draw what needs them.

use wherry_agent_api::NodeHello;
use wherry_model::{DeviceSet, GpuAmount, GpuDemand, GpuOffer, Gpus, ImageKey, InstanceSpec, NodeId};
use wherry_testkit::{Node, Stack, sized};

use crate::support::{asked, create, delete, start, stop};

/// Machine `index` has so many GPUs from now on.
async fn has_gpus(stack: &Stack, index: usize, count: u8) {
    let agent = &stack.agents()[index];
    let gpus = GpuOffer { model: Some("demo-gpu".parse().unwrap()), count };
    agent.hello_as(NodeHello { gpus, ..agent.introduction().clone() }).await.unwrap();
}

fn with(amount: GpuAmount) -> InstanceSpec {
    InstanceSpec { gpu: Some(GpuDemand::new(amount)), ..sized(100, 64) }
}

async fn used(stack: &Stack, node: NodeId) -> [u16; Gpus::MOST] {
    stack.store().node(node).await.unwrap().unwrap().offer.gpus.used_permille
}

#[tokio::test]
async fn each_gets_gpus_of_its_own_and_gives_them_back() {
    let mut stack = Stack::builder().nodes([Node::sized(4_000, 4_096); 2]).start().await;
    let acme = stack.acme().clone();
    let none = create(stack.control(), &acme, asked(None, with(GpuAmount::Whole(1)))).await.unwrap_err();
    assert_eq!((none.code(), none.field()), ("invalid_field", Some("gpu")));
    has_gpus(&stack, 1, 2).await;
    let node = stack.agents()[1].node();
    for (name, device) in [("one", 0), ("two", 1)] {
        let made = stack.create(&acme, name, with(GpuAmount::Whole(1))).await.instance;
        assert_eq!((made.node, made.gpus), (Some(node), DeviceSet::from_iter([device])));
    }
    let full = create(stack.control(), &acme, asked(None, with(GpuAmount::Share(10)))).await.unwrap_err();
    assert!(full.to_string().contains("with too little of such GPUs left"), "{full}");
    let other = GpuDemand { model: Some("other".parse().unwrap()), ..GpuDemand::new(GpuAmount::Whole(1)) };
    let other = InstanceSpec { gpu: Some(other), ..sized(100, 64) };
    let wrong = create(stack.control(), &acme, asked(None, other)).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.field()), ("invalid_field", Some("gpu.model")));

    // The agent is told which, and a stop gives it back; a process that starts anew knows all that.
    let told = stack.agents()[1].desired().await.unwrap().instances;
    assert!(told.iter().all(|one| one.more.gpu.is_some_and(|gpu| gpu.devices.iter().count() == 1)), "{told:?}");
    stack.agents()[1].obey().await;
    stop(&stack, &acme, "one").await.unwrap();
    stack.agents()[1].obey().await;
    assert_eq!(used(&stack, node).await[..2], [0, 1_000]);
    stack.reopen().await;
    stack.greet().await;
    has_gpus(&stack, 1, 2).await;
    for name in ["half", "other-half"] {
        let made = stack.create(&acme, name, with(GpuAmount::Share(500))).await.instance;
        assert_eq!(made.gpus, DeviceSet::from_iter([0]));
    }
    assert_eq!(used(&stack, node).await[..2], [1_000, 1_000]);
    assert!(start(&stack, &acme, "one").await.is_err(), "its GPU is another's");
    delete(&stack, &acme, "two").await.unwrap();
    stack.agents()[1].obey().await;
    start(&stack, &acme, "one").await.unwrap();
    let moved = stack.read(&acme, "one").await.instance;
    assert_eq!((moved.gpus, moved.node), (DeviceSet::from_iter([1]), Some(node)));
    let summary = stack.control().fleet_summary().await.unwrap();
    assert_eq!((summary.gpus, summary.gpus_used_permille), (2, 2_000));
}

#[tokio::test]
async fn what_needs_an_image_goes_where_it_lies() {
    let mut stack = Stack::builder().nodes([Node::sized(4_000, 4_096); 3]).start().await;
    let acme = stack.acme().clone();
    let of = |image: &str| {
        let mut spec = sized(1_000, 64);
        spec.containers[0].image = image.parse().unwrap();
        spec
    };
    let place = async |stack: &Stack, name: &str, image: &str| {
        stack.create(&acme, name, of(image)).await.instance.node.unwrap()
    };
    // Every machine is in use, by other images.
    let mut nodes = Vec::new();
    for number in 0..3 {
        let mut spec = of(&format!("registry.example/other:{number}"));
        spec.containers[0].cpu = wherry_model::CpuMillis::new(2_500 - 100 * number);
        nodes.push(stack.create(&acme, &format!("other-{number}"), spec).await.instance.node.unwrap());
        for agent in stack.agents() {
            agent.obey().await;
        }
    }
    nodes.dedup();
    assert_eq!(nodes.len(), 3);
    let cold = place(&stack, "first", "registry.example/a:1").await;
    let work = async |stack: &Stack| {
        for agent in stack.agents() {
            agent.obey().await;
        }
    };
    work(&stack).await;
    delete(&stack, &acme, "first").await.unwrap();
    work(&stack).await;
    let warm: Vec<usize> = (0..3).filter(|number| nodes[*number] != cold).collect();
    for number in &warm {
        let name = format!("warm-{number}");
        let node = place(&stack, &name, &format!("registry.example/other:{number}")).await;
        assert_eq!(node, nodes[*number], "where it lies, and not where it would fit best");
        delete(&stack, &acme, &name).await.unwrap();
        work(&stack).await;
    }
    assert_eq!(place(&stack, "again", "registry.example/a:1").await, cold);
    delete(&stack, &acme, "again").await.unwrap();
    work(&stack).await;

    // A process that starts anew knows it of what runs, and of the rest when the machine introduces itself.
    stack.reopen().await;
    stack.greet().await;
    let [one, other] = [warm[0], warm[1]];
    let agent = stack.agents().iter().find(|agent| agent.node() == nodes[one]).unwrap().clone();
    let images = vec![ImageKey::of("registry.example/b:1")];
    agent.hello_as(NodeHello { images, ..agent.introduction().clone() }).await.unwrap();
    assert_eq!(place(&stack, "told", "registry.example/b:1").await, nodes[one]);
    let known = place(&stack, "known", &format!("registry.example/other:{other}")).await;
    assert_eq!(known, nodes[other]);
}
