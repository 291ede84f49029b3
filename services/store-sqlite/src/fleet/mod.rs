//! What makes several processes one service. On SQLite there is one process, which still enrols nodes, and talks to
//! itself through the same rows as several would: one code path above.

mod call;
mod enrolment;
mod installation;
mod lease;
mod replica;
