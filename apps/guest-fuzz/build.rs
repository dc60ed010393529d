//! Links the guest at its place in a VM's memory.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ilwaco/guest.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
    }
}
