// The build script of every package that has components; `build.rs` includes it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../component/component.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
    }
}
