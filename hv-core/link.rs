// The build script of the two programs that the core becomes; `build.rs` includes it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hv-core/core.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
    }
}
