//! A short run of each target: its seeds, what once did harm, and changed ones, the same in every run.

use fuzz::mutate::{Random, changed};
use fuzz::{Target, target};
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Runs one input; a failure leaves it where libFuzzer can take it up.
fn run(target: &Target, input: &[u8]) -> bool {
    catch_unwind(|| (target.run)(input)).unwrap_or_else(|_| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
        let file = folder.join(format!("{}.failed", target.name));
        let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
        panic!("{} fails on \"{}\" (in {}: {saved:?})", target.name, input.escape_ascii(), file.display());
    })
}

fn smoke(name: &str) {
    let target = target(name).expect("a target");
    let mut inputs = (target.seeds)();
    for seed in &inputs {
        run(target, seed);
    }
    assert!(
        inputs.iter().any(|seed| run(target, seed)),
        "no seed is good: they do not reach what is behind the first check"
    );
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    for file in fs::read_dir(kept).into_iter().flatten() {
        let input = fs::read(file.expect("the folder can be read").path()).expect("the file can be read");
        run(target, &input);
        inputs.push(input);
    }
    let mut random = Random::new(1);
    let content = (0..target.smoke_runs).filter(|_| run(target, &changed(&inputs, &mut random))).count();
    let all = target.smoke_runs as usize;
    assert!(content > all / 1000, "only {content} of {all} changed inputs were good enough to go deep");
    assert!(content < all, "no input was refused");
}

macro_rules! targets {
    ($($test:ident: $name:literal)*) => {
        $(
            #[test]
            fn $test() {
                smoke($name);
            }
        )*

        #[test]
        fn every_target_is_here() {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    manifest: "manifest"
    elf: "elf"
    options: "options"
    multiboot: "multiboot"
    frame_table: "frame-table"
    peer: "peer"
    frames: "frames"
    segments: "segments"
    dhcp: "dhcp"
    http: "http"
    operator: "operator"
    disks: "disks"
    bundle: "bundle"
    store: "store"
    ssh: "ssh"
}
