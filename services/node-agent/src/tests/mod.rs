//! The agent as a whole, on the fake engine and a control plane that applies facts with the real lifecycle. Time is
//! tokio's, paused: a test of minutes takes milliseconds, and every wait is exact.

mod control;
mod conversing;
mod crash;
mod disturbed;
mod exec;
mod forced;
mod former;
mod images;
mod lease;
mod life;
mod line;
mod output;
mod removed;
mod renewals;
mod several;
mod stats;
mod surroundings;
mod world;
