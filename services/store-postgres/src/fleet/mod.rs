//! What makes several processes one service.

mod call;
mod enrolment;
mod installation;
mod lease;
mod replica;
