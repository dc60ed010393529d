//! The guest from which an operator manages the machine: it has the control ring, and with it lists, creates, starts, stops and destroys VMs.
//! The operator logs in by SSH with a key that the machine was given; figures are to be had over HTTP.
//!
//! Boot arguments: `key=KEY`, as often as there are keys: the second word of an OpenSSH file with an Ed25519 public key. Without one nobody
//! may log in. `ntp=ADDRESS`, as often as there are servers of the time. `docs/supervisor.md` explains the commands.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod act;
pub mod anew;
pub mod api;
pub mod apply;
pub mod audit;
pub mod chain;
pub mod charges;
pub mod clock;
pub mod com1;
pub mod command;
pub mod complete;
pub mod console;
pub mod console_io;
pub mod disk_file;
pub mod disk_wanted;
pub mod disks;
pub mod editor;
pub mod exposition;
pub mod fleet;
pub mod follow_log;
pub mod grammar;
pub mod heard;
pub mod help;
pub mod http;
pub mod image_core;
pub mod image_order;
pub mod image_query;
pub mod images;
pub mod input;
pub mod keep;
pub mod keys;
pub mod library;
pub mod limits;
pub mod lines;
pub mod link;
pub mod list;
pub mod log_query;
pub mod log_text;
pub mod machine_log;
pub mod manifest_quotas;
pub mod medium;
pub mod medium_fleet;
pub mod medium_script;
pub mod metrics;
pub mod names;
pub mod node;
pub mod ntp;
pub mod owners;
pub mod parse;
pub mod peer;
pub mod policies;
pub mod power;
pub mod put;
pub mod query;
pub mod random;
pub mod reconcile;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod restore;
pub mod room;
pub mod run;
pub mod said;
pub mod save;
pub mod session;
pub mod sftp;
pub mod shelf;
pub mod shell;
pub mod show;
pub mod shown;
pub mod shutdown;
pub mod sntp;
pub mod ssh;
pub mod state;
pub mod store;
pub mod tenants;
pub mod tokens;
pub mod top;
pub mod walk;
pub mod wanted;
pub mod width;

use crate::keys::Keys;
use crate::node::Node;
use crate::peer::Server;
use alloc::format;
use alloc::rc::Rc;
use ilwaco::args::Args;
use ilwaco::control::Control;
use ilwaco::net::TcpListener;
use ilwaco::println;
use ilwaco::task::{Either, race, shutdown_requested, spawn};

/// Lets the VMs run that are to.
async fn begin(node: Rc<Node>) {
    restore::resume(node.clone()).await;
    medium_fleet::apply(node.clone()).await;
    medium_script::run(node).await;
}

/// Serves for ever, or until the VM is asked to end itself. The code that the VM ends with: 0 when it was asked, 1 without a network, 2 where
/// it does not control the machine.
pub async fn run() -> u64 {
    let args = Args::of_this_vm();
    let Some(control) = Control::open() else {
        println!("supervisor: this VM does not control the machine; its image needs control = true in system.toml");
        return 2;
    };
    let node = match Node::new(control).await {
        Ok(node) => Rc::new(node),
        Err(error) => {
            println!("supervisor: {error}");
            return 2;
        }
    };
    restore::open(&node).await;
    manifest_quotas::take(&node);
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            println!("supervisor: {error}");
            return 1;
        }
    };
    let (web, login) = match (TcpListener::bind(http::PORT), TcpListener::bind(ssh::PORT)) {
        (Ok(web), Ok(login)) => (web, login),
        (Err(error), _) | (_, Err(error)) => {
            println!("supervisor: {error}");
            return 1;
        }
    };
    let (keys, bad) = Keys::of(&args);
    for word in bad {
        log::error!(
            "key={word} is no Ed25519 key: give the second word of the line in the file that ssh-keygen -t ed25519 wrote"
        );
    }
    for key in keys.fingerprints() {
        log::info!("ssh: the key {key} may log in");
    }
    if keys.fingerprints().next().is_none() {
        log::warn!("ssh: nobody may log in: give a key with key=, or with `cargo xtask run --key FILE`");
    }
    let (key, was_kept) = restore::host_key(&node).await;
    let server = Rc::new(Server::new(node.clone(), keys, &key));
    let fingerprint = server.fingerprint();
    match node.keep.why_not() {
        Some(why) if node.keep.disk.borrow().is_none() => {
            log::info!("ssh: the host key is {fingerprint}, made for this start: {why}");
        }
        Some(_) => log::info!("ssh: the host key is {fingerprint}, made for this start, since its disk is not used"),
        None if was_kept => log::info!("ssh: the host key is {fingerprint}, as it was kept"),
        None => log::info!("ssh: the host key is {fingerprint}, made now and kept from now on"),
    }
    let what = format!("starts as {} with the host key {fingerprint}", ilwaco::vm_id());
    // Whether it is kept is said above.
    audit::done(&node, audit::SUPERVISOR, &what, audit::DONE).await;
    if spawn(audit::watch(node.clone())).is_err() {
        println!("supervisor: no task for the audit log");
        return 1;
    }
    let servers = ntp::servers(&args);
    if !servers.is_empty() && spawn(ntp::keep(node.clone(), servers)).is_err() {
        println!("supervisor: no task for the clock");
        return 1;
    }
    if spawn(begin(node.clone())).is_err() {
        println!("supervisor: no task that starts VMs");
        return 1;
    }
    if spawn(shutdown::watch(node.clone())).is_err() {
        println!("supervisor: no task that powers the machine off");
        return 1;
    }
    println!("supervisor: serving http://{address}/ and ssh admin@{address}");
    let served = race(http::serve(web, node), ssh::serve(login, server));
    match race(shutdown_requested(), served).await {
        Either::Left(()) => {
            println!("supervisor: asked to end");
            0
        }
        Either::Right(Either::Left(error) | Either::Right(error)) => {
            println!("supervisor: {error}");
            1
        }
    }
}
