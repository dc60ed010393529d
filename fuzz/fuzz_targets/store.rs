//! libFuzzer around one target.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!("store");
