//! The operator's VM: who may log in there, and how.

use crate::disk::mkdisk::OPERATOR;
use crate::error::{Context, Result, fail};
use crate::manifest::model::System;
use crate::manifest::options;
use crate::net::HOST;
use crate::operator_ports::{IMAGE, LOGIN, WEB};
use crate::service::Vm;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The only user.
pub const USER: &str = "admin";
/// The command that asks for a prompt.
pub const SHELL: &str = "shell";
/// The kind of keys that it knows.
const KIND: &str = "ssh-ed25519";
/// How the Base64 of every such key begins: its kind and its length.
const BEGINS: &str = "AAAAC3NzaC1lZDI1NTE5AAAAI";
/// Characters of that Base64.
const CHARACTERS: usize = 68;

/// Lets the owners of the keys in an OpenSSH file of public keys log in.
///
/// # Errors
/// The file cannot be read, or has a line that is no such key.
pub fn admit(system: &mut System, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).context(|| format!("--key {}: cannot read it", file.display()))?;
    let keys = keys(&text).map_err(|why| format!("--key {}: {why}", file.display()))?;
    keys.iter().for_each(|key| add_argument(system, &format!("key={key}")));
    Ok(())
}

/// Gives the operator's VM the virtual disk on which it keeps what it knows, unless `system.toml` names one.
pub fn give_disk(system: &mut System) {
    for image in system.image.iter_mut().filter(|image| image.name == IMAGE) {
        image.disk.get_or_insert_with(|| OPERATOR.to_owned());
    }
}

/// Has the operator's VM keep the machine's clock right by the server of the time in xtask's own network.
pub fn keep_time(system: &mut System) {
    add_argument(system, &format!("ntp={HOST}"));
}

/// Puts a boot argument behind those of the operator's VM.
fn add_argument(system: &mut System, argument: &str) {
    for image in system.image.iter_mut().filter(|image| image.name == IMAGE) {
        let space = if image.args.is_empty() { "" } else { " " };
        image.args.push_str(&format!("{space}{argument}"));
    }
}

/// The keys in a file, as boot arguments have them.
fn keys(text: &str) -> Result<Vec<&str>> {
    if text.contains("PRIVATE KEY-----") {
        fail!("that is a private key, which nobody else needs: give the file that ends in .pub");
    }
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(KIND), Some(key)) if key.len() == CHARACTERS && key.starts_with(BEGINS) => keys.push(key),
            (Some(kind), _) => {
                fail!(
                    "a line begins with `{kind}`, and only whole {KIND} keys are known: make one with `ssh-keygen -t ed25519`"
                )
            }
            (None, _) => {}
        }
    }
    if keys.is_empty() {
        fail!("there is no key in it: give a file that `ssh-keygen -t ed25519` has written, the one that ends in .pub");
    }
    Ok(keys)
}

/// The fingerprint of the key in a file, as OpenSSH shows it.
///
/// # Errors
/// `ssh-keygen` cannot say.
pub fn fingerprint(file: &Path) -> Result<String> {
    let said = std::process::Command::new("ssh-keygen").arg("-lf").arg(file).output();
    let said = said.context(|| "cannot start ssh-keygen".into())?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.split_whitespace().nth(1).map(str::to_owned).ok_or_else(|| format!("ssh-keygen: {text}").into())
}

/// Boot options that put the operator's VM in front of those that `options` ask for, which stand behind the defaults.
pub fn in_front(system: &System, options: &str) -> String {
    let all = format!("{} {options}", system.defaults);
    let others = options::value(&all, "vms").unwrap_or_default();
    let comma = if others.is_empty() { "" } else { "," };
    format!("{options} vms={IMAGE}{comma}{others}")
}

/// Where the operator's VM is reached among these, for logins and for figures.
pub fn places(vms: &[Vm]) -> Option<(SocketAddr, SocketAddr)> {
    let vm = vms.iter().find(|vm| vm.image == IMAGE)?;
    Some((vm.address(LOGIN)?, vm.address(WEB)?))
}

/// The command that logs in there.
pub fn line(place: SocketAddr) -> String {
    let host = if place.ip().is_loopback() { "localhost".to_owned() } else { place.ip().to_string() };
    format!("ssh -p {} {USER}@{host}", place.port())
}

/// The same for scripts: with the private key beside a file of one public key, and without a question about the host's key, which is another
/// one after each boot where there are no disks.
pub fn script_line(place: SocketAddr, file: &Path) -> String {
    let secret =
        file.to_str().and_then(|name| name.strip_suffix(".pub")).map(PathBuf::from).filter(|file| file.exists());
    let key = secret.map(|file| format!(" -i {}", file.display())).unwrap_or_default();
    format!(
        "ssh -p {}{key} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {USER}@{}",
        place.port(),
        place.ip()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::workspace::root;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ6vnvQSr0kzEjM27BCB2oFmu9vRTHAqRUsHEJYTOoFD";

    #[test]
    fn keys_are_those_of_a_public_file() {
        assert_eq!(keys(&format!("# mine\nssh-ed25519 {KEY} a@b\n\n")).unwrap(), [KEY]);
        for (text, says) in [
            ("", "there is no key in it"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "that is a private key"),
            ("ssh-rsa AAAAB3 a@b", "begins with `ssh-rsa`, and only whole ssh-ed25519 keys are known"),
            ("ssh-ed25519 AAAA", "only whole"),
        ] {
            let error = keys(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_operator_comes_first() {
        let system = manifest::load(&root().join("system.toml")).unwrap();
        assert_eq!(in_front(&system, ""), " vms=supervisor-vm,httpd*8");
        assert_eq!(in_front(&system, "vms=ask*2 log=off"), "vms=ask*2 log=off vms=supervisor-vm,ask*2");
    }

    #[test]
    fn it_is_told_how_to_log_in() {
        let place: SocketAddr = "127.0.0.1:2222".parse().unwrap();
        assert_eq!(line(place), "ssh -p 2222 admin@localhost");
        assert_eq!(line("10.0.2.16:22".parse().unwrap()), "ssh -p 22 admin@10.0.2.16");
        let script = script_line(place, Path::new("/nowhere/key.pub"));
        assert!(script.starts_with("ssh -p 2222 -o BatchMode=yes") && script.ends_with(" admin@127.0.0.1"), "{script}");
    }
}
