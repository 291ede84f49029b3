//! The whole path over real TLS on loopback.

mod answering;
mod conversing;
mod described;
mod failing_over;
mod joining;
mod renewing;
mod speaking;
mod strangers;
mod tickets;
mod versions;
mod world;
