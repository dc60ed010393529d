//! Links one program as a guest and the others as components.

fn main() {
    let link = |program: &str, script: &str| {
        let script = format!("{}/../../{script}", env!("CARGO_MANIFEST_DIR"));
        println!("cargo:rerun-if-changed={script}");
        if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
            println!("cargo:rustc-link-arg-bin={program}=-T{script}");
        }
    };
    link("bench", "ilwaco/guest.ld");
    link("bench-create", "component/component.ld");
    link("bench-crowd", "component/component.ld");
    link("bench-burst", "component/component.ld");
}
