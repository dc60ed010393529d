//! Gives the guest its place in memory.

fn main() {
    // On the host there is no guest to link.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ilwaco/guest.ld");
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rerun-if-changed={script}");
    }
}
