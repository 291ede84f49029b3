//! The use cases on the real store, with a played clock and played nodes. One file per kind of use case.

mod life;
