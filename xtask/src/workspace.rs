//! Where things lie, and running other programs.

use crate::error::{Context, Result, fail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target of everything that runs on the bare machine.
pub const BARE: &str = "x86_64-unknown-none";

/// The root of the repository.
pub fn root() -> PathBuf {
    // Cargo sets it at run time, too: the tree may have moved since xtask was built.
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map(Path::to_owned).unwrap_or(own)
}

/// `target/` and, below it, `name`. Created when missing.
pub fn out(name: &str) -> Result<PathBuf> {
    let path = root().join("target").join(name);
    std::fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// `cargo`, the one that started us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    at_root(&mut command);
    command
}

/// The `cargo` of another toolchain. The one that started us is a certain toolchain's own; rustup knows the others.
pub fn cargo_of(toolchain: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo"]);
    at_root(&mut command);
    for ours in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(ours);
    }
    command
}

/// Lets `command` run at the root of the repository.
fn at_root(command: &mut Command) {
    command.current_dir(root());
    // What `cargo xtask` sets for this package must not reach the packages that we build, or they are built again.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Runs `command` with its output captured. Returns standard output; a failure shows both outputs.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let out = command.stdin(Stdio::null()).output().context(|| format!("cannot start `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        fail!("`{shown}` failed ({}):\n{stdout}{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(stdout)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains([' ', '*', '$', '\'']) {
            text.push_str(&format!("'{arg}'"));
        } else {
            text.push_str(&arg);
        }
    }
    text
}

/// True when `program` is in the PATH, or in the directories that only root has there.
pub fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}

/// One package of the workspace.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Names of its programs.
    pub bins: Vec<String>,
    /// Whether it has a library.
    pub lib: bool,
}

/// The packages of the workspace by name.
pub fn packages() -> Result<BTreeMap<String, Package>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let json: serde_json::Value = serde_json::from_str(&text).context(|| "cargo metadata makes no sense".into())?;
    let mut packages = BTreeMap::new();
    for package in json["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
        let mut found = Package {
            name: name.clone(),
            dir: manifest.parent().map(Path::to_owned).unwrap_or_default(),
            bins: Vec::new(),
            lib: false,
        };
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds: Vec<&str> =
                target["kind"].as_array().into_iter().flatten().filter_map(|kind| kind.as_str()).collect();
            if kinds.contains(&"bin") {
                found.bins.push(target["name"].as_str().unwrap_or_default().to_owned());
            }
            found.lib |= kinds.contains(&"lib");
        }
        packages.insert(name, found);
    }
    Ok(packages)
}

/// A folder that is removed when dropped.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Left-overs under target/ do no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A new folder below `target/tmp`, for `purpose`.
pub fn scratch(purpose: &str) -> Result<Temporary> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    out(&format!("tmp/{purpose}-{}-{number}", std::process::id())).map(Temporary)
}
