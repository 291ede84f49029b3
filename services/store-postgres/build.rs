//! `migrate!` sees a changed migration by itself, a new one only if told where to look.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/postgres");
}
