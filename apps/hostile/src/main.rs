//! See the library.
#![no_std]
#![cfg_attr(target_os = "none", no_main)]

extern crate hostile as guest;

use guest::table::{Expect, find};
use ilwaco::println;

ilwaco::main!(start);

async fn start() -> u64 {
    let args = ilwaco::args::Args::of_this_vm();
    let Some(name) = args.get("crime") else { return guest::serve().await };
    let Some(crime) = find(name) else {
        println!("hostile: {name}: there is no such crime");
        return 2;
    };
    if matches!(crime.expect, Expect::Ends(_) | Expect::Told(_)) || args.has("bare") {
        // The last words, so that the log shows what the end that follows is the end of.
        println!("hostile: {name}: committing");
    }
    let verdict = guest::commit(crime, args.has("bare"));
    println!("hostile: {name}: {verdict}");
    match verdict {
        guest::Verdict::Contained(_) => 0,
        guest::Verdict::Escaped(_) => 1,
    }
}
