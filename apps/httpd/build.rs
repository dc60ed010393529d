//! Gives the guest its place in memory, and the files that it carries, where there are any.

/// The variable with the path of a file system's image (ext4) that goes into the program.
const FILES: &str = "FORAKER_FILES";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(carries_files)");
    println!("cargo:rerun-if-env-changed={FILES}");
    if let Ok(image) = std::env::var(FILES) {
        println!("cargo:rustc-cfg=carries_files");
        println!("cargo:rerun-if-changed={image}");
    }
    // On the host there is no guest to link.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ilwaco/guest.ld");
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rerun-if-changed={script}");
    }
}
