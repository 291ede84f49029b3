//! What `wherry up` says.

use std::path::Path;
use std::time::Duration;

use crate::base::Base;
use crate::cli::DEFAULT_DATA;
use crate::control_role::listeners::Addresses;

/// Says where everything is and what to type next.
pub(super) fn print(addresses: &Addresses, agents: Option<&str>, base: &Base, took: Duration) {
    let Addresses { api, operator, dns } = addresses;
    let names = &base.settings.names;
    println!("Wherry is up after {:.1} s.", took.as_secs_f64());
    println!();
    println!("  API       http://{api}        documentation: http://{api}/docs");
    if let Some(url) = agents {
        println!("  agents    {url}        `wherry admin node token` says how a machine joins");
    }
    println!("  names     *.{}.{}  answered by {dns} (UDP and TCP)", names.region, names.zone);
    println!("  operator  http://{operator}/metrics");
    println!("  data      {}", base.data.root().display());
    println!();
    println!("Next, in another terminal:");
    println!();
    let root = base.data.root();
    let data = if root == Path::new(DEFAULT_DATA) { String::new() } else { format!(" --data {}", root.display()) };
    println!("  wherry{data} run IMAGE --name web --cpu 0.25 --memory 64Mi --port 80");
    println!("  wherry{data} ps");
    println!();
    println!("Ctrl-C stops the service and leaves the instances running; `wherry down` ends them too.");
}

/// Says what runs on.
pub(super) fn print_farewell(kept: usize) {
    match kept {
        0 => println!("Wherry is down, nothing runs."),
        1 => println!("Wherry is down. One instance runs on: `wherry up` finds it again, `wherry down` ends it."),
        more => {
            println!("Wherry is down. {more} instances run on: `wherry up` finds them again, `wherry down` ends them.");
        }
    }
}
