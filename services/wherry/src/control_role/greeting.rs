//! What `wherry control` says.

use std::time::Duration;

use super::listeners::Addresses;
use crate::base::Base;
use crate::settings::without_password;

/// Says where everything is and what to type next.
pub(super) fn print(addresses: &Addresses, agents: Option<&str>, base: &Base, took: Duration) {
    let Addresses { api, operator, dns } = addresses;
    let names = &base.settings.names;
    println!("This replica of the control plane is up after {:.1} s.", took.as_secs_f64());
    println!();
    println!("  API       http://{api}        documentation: http://{api}/docs");
    if let Some(url) = agents {
        println!("  agents    {url}");
    }
    println!("  names     *.{}.{}  answered by {dns} (UDP and TCP)", names.region, names.zone);
    println!("  operator  http://{operator}/metrics");
    match &base.settings.store.url {
        Some(url) => println!("  store     {}", without_password(url)),
        None => println!("  store     {}", base.data.database().display()),
    }
    println!("  data      {}", base.data.root().display());
    println!();
    let data = base.data.root().display();
    println!("Next, in another terminal:");
    println!();
    println!("  wherry --data {data} admin node token    the command with which a machine joins");
    println!("  wherry --data {data} admin nodes");
    if base.settings.store.url.is_some() {
        println!();
        println!("A further replica needs the same database and a copy of {}.", base.data.keys().display());
    }
}
