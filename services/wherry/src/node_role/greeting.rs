//! What `wherry node` says.

use std::net::SocketAddr;
use std::time::Duration;

use super::part::Place;
use crate::base::Base;

/// Says who this machine is and what to do next. `control` is where the control plane answers, or why it does not.
pub(super) fn print(base: &Base, place: &Place, operator: SocketAddr, control: &str, took: Duration) {
    let data = base.data.root().display();
    println!("This machine is the node {} of its fleet, after {:.1} s.", place.name, took.as_secs_f64());
    println!();
    println!("  id        {}", place.node);
    println!("  control   {control}");
    println!("  addresses {}/{} for instances", place.range.0, place.range.1);
    if let Some(underlay) = place.underlay {
        println!("            {underlay} for the other nodes");
    }
    println!("  operator  http://{operator}/metrics");
    println!("  data      {data}");
    println!();
    println!("From now on `wherry --data {data} node` starts it, or the unit wherry-node.");
    println!("Ctrl-C stops the agent and leaves the instances running; `wherry --data {data} down` ends them too.");
}

/// Says what runs on.
pub(super) fn print_farewell(kept: usize) {
    match kept {
        0 => println!("The agent is down, nothing runs here."),
        1 => println!("The agent is down. One instance runs on, and the next `wherry node` finds it again."),
        more => println!("The agent is down. {more} instances run on, and the next `wherry node` finds them again."),
    }
}
