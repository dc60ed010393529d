//! The core for processors with AMD SVM: `hv_core` with that backend, as a program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use abi::note::KIND_CORE_SVM;

    hv_core::main!(hv_core::start_svm, KIND_CORE_SVM);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the core runs on the bare machine only: cargo xtask run");
}
