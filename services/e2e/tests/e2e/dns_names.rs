//! DNS names of instances: their label, and who may have a name when it is free.

use std::time::Duration;

use wherry_api_types::{DnsReuseScope, Instance, InstanceCreate};

use crate::support::{PROJECT, World, dns, eventually};

fn named(world: &World, name: &str, label: &str, scope: DnsReuseScope) -> InstanceCreate {
    let create = world.script(name, "sleep 999 & wait");
    InstanceCreate { dns_label: Some(label.to_owned()), dns_reuse_scope: Some(scope), ..create }
}

async fn answers(world: &World, instance: &Instance) {
    let address: std::net::Ipv4Addr = instance.address.as_deref().unwrap().parse().unwrap();
    let what = format!("{} answers", instance.fqdn);
    let told = eventually(&what, Duration::from_secs(20), async || {
        Some(dns::over_udp(world.wherry.dns, &instance.fqdn)).filter(|answer| !answer.addresses.is_empty())
    });
    assert_eq!(told.await.addresses, [address]);
}

#[tokio::test]
async fn a_label_is_unique_in_its_scope_and_free_to_the_scope_alone() {
    let world = World::start().await;
    let web = world.run(&world.script("web", "sleep 999 & wait")).await;
    // Its name is the label of the first already, in the scope that both have.
    let taken = named(&world, "other", "web", DnsReuseScope::Project);
    let refused = world.client.create_instance(PROJECT, &taken, None).await.unwrap_err().to_string();
    assert!(refused.contains("web") && refused.contains("dns_reuse_scope"), "{refused}");

    let (tenant, alone) =
        (named(&world, "of-tenant", "web", DnsReuseScope::Tenant), named(&world, "alone", "web", DnsReuseScope::None));
    let (tenant, alone) = tokio::join!(world.run(&tenant), world.run(&alone));
    for instance in [&web, &tenant, &alone] {
        assert!(instance.fqdn.starts_with("web."), "{}", instance.fqdn);
        answers(&world, instance).await;
    }
    assert!(web.fqdn != tenant.fqdn && tenant.fqdn != alone.fqdn && web.fqdn != alone.fqdn);

    // A name stays as long as its instance.
    let moved = InstanceCreate { dns_label: Some("shop".to_owned()), ..web.spec.clone() };
    let refused = world.client.update_instance(PROJECT, "web", web.generation, &moved).await.unwrap_err().to_string();
    assert!(refused.contains("dns_label") && refused.contains("delete"), "{refused}");

    // Free again: the same name for who is in its scope, another one for who shares it with nobody.
    tokio::join!(world.delete("web"), world.delete("of-tenant"), world.delete("alone"));
    for gone in [&web, &tenant, &alone] {
        assert_eq!(dns::over_udp(world.wherry.dns, &gone.fqdn).code, dns::NAME_ERROR, "{}", gone.fqdn);
    }
    let again = named(&world, "alone", "web", DnsReuseScope::None);
    let (again, heir) = tokio::join!(world.run(&again), world.run(&taken));
    assert_ne!(again.fqdn, alone.fqdn);
    assert_eq!(heir.fqdn, web.fqdn);
    answers(&world, &heir).await;
    world.finish().await;
}
