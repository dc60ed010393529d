//! What changes something over HTTP: requests with JSON, by programs that show a token. They do what commands do, and are written down as those.

use crate::act::act;
use crate::command::Command;
use crate::image_order::ImageOrder;
use crate::names::{is_name, parse_id};
use crate::node::{Node, living};
use crate::reply::{NOTHING, Reply};
use crate::said::Said;
use crate::show::as_json;
use crate::shown::shown;
use crate::tenants;
use crate::wanted::Order;
use crate::{disks, list, policies};
use abi::tenant::Tenant;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use quota_words::{TenantChange, UNLIMITED};
use serde::Deserialize;

/// What somebody wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A VM, which the body describes.
    Create,
    /// This with a VM.
    Vm(String, Verb),
    /// A component to start anew.
    Restart(String),
    /// An image of this name, which is the body.
    PutImage(String),
    /// An image to be forgotten.
    RmImage(String),
    /// What a tenant may have, which the body says.
    SetQuota(Tenant),
    /// A virtual disk, which the body describes.
    CreateDisk,
    /// A snapshot of this virtual disk, whose name the body says.
    SnapshotDisk(String),
    /// A virtual disk that goes.
    RmDisk(String),
    /// The virtual disk of this VM, which the body names.
    AttachDisk(String),
    /// This VM has none any more.
    DetachDisk(String),
    /// The policy of a component, which the body names.
    SetPolicy(String),
    /// Lines of the machine's log.
    Log,
    /// What this VM has said.
    ReadConsole(String),
    /// A line for this VM, which the body says.
    WriteConsole(String),
    /// Nothing runs any more.
    PowerOff,
    /// Only these methods are served there.
    Wrong(&'static str),
}

/// What can be done with a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It runs.
    Start,
    /// It is asked to end itself.
    Stop,
    /// It ends.
    Kill,
    /// It stands still.
    Pause,
    /// It goes on.
    Resume,
    /// It ends, and its name is free.
    Destroy,
}

/// What a VM is to be like, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewVm {
    name: String,
    image: String,
    memory: Option<String>,
    disk: Option<String>,
    weight: Option<u32>,
    tenant: Option<String>,
    args: Option<String>,
}

/// What the VMs of a tenant may take together, as a body says it: without a limit where it says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQuota {
    vms: Option<u32>,
    memory: Option<String>,
    disk: Option<String>,
    pool: Option<String>,
    wakes: Option<u32>,
    rate: Option<String>,
}

/// A virtual disk that is to be, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDisk {
    name: String,
    size: String,
    tenant: Option<String>,
}

/// A snapshot that is to be, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    name: String,
}

/// The virtual disk that a VM is to have, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAttachment {
    disk: String,
}

/// The policy that a component is to have, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPolicy {
    policy: String,
}

/// What is to be done by this method with this path; `None` for one that changes nothing, or that there is not.
pub fn route(method: &str, path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    if let ["images", image] = parts[..] {
        return match method {
            "GET" | "HEAD" => None,
            "PUT" => Some(Route::PutImage(image.to_string())),
            "DELETE" => Some(Route::RmImage(image.to_string())),
            _ => Some(Route::Wrong("GET, HEAD, PUT, DELETE")),
        };
    }
    if let ["vms", vm, "disk"] = parts[..]
        && is_vm(vm)
    {
        return Some(match method {
            "PUT" => Route::AttachDisk(vm.to_string()),
            "DELETE" => Route::DetachDisk(vm.to_string()),
            _ => Route::Wrong("PUT, DELETE"),
        });
    }
    if let ["log" | "log.json"] = parts[..] {
        return Some(if matches!(method, "GET" | "HEAD") { Route::Log } else { Route::Wrong("GET, HEAD") });
    }
    if let ["vms", vm, "console"] = parts[..]
        && is_vm(vm)
    {
        return Some(match method {
            "GET" | "HEAD" => Route::ReadConsole(vm.to_string()),
            "POST" => Route::WriteConsole(vm.to_string()),
            _ => Route::Wrong("GET, HEAD, POST"),
        });
    }
    let (allowed, found) = match parts[..] {
        ["disks"] => ("GET, HEAD, POST", Route::CreateDisk),
        ["disks", name] => ("DELETE", Route::RmDisk(name.to_string())),
        ["disks", name, "snapshot"] => ("POST", Route::SnapshotDisk(name.to_string())),
        ["tenants" | "images"] => ("GET, HEAD", Route::Wrong("GET, HEAD")),
        ["tenants", name] => ("GET, HEAD, PUT", Route::SetQuota(Tenant::new(name)?)),
        ["policies", name] if is_name(name) => ("GET, HEAD, PUT", Route::SetPolicy(name.to_string())),
        ["node", "shutdown"] => ("POST", Route::PowerOff),
        ["vms"] => ("GET, HEAD, POST", Route::Create),
        ["vms", vm] if is_vm(vm) => ("GET, HEAD, DELETE", Route::Vm(vm.to_string(), Verb::Destroy)),
        ["vms", vm, verb] if is_vm(vm) => ("POST", Route::Vm(vm.to_string(), Verb::parse(verb)?)),
        ["components", name, "restart"] if is_name(name) => ("POST", Route::Restart(name.to_string())),
        [
            "" | "metrics" | "vms.json" | "top.json" | "images.json" | "tenants.json" | "policies.json" | "disks.json"
            | "components.json" | "node.json",
        ] => ("GET, HEAD", Route::Wrong("GET, HEAD")),
        _ => return None,
    };
    let mut words = allowed.split(", ");
    match (allowed.rsplit(", ").next(), method) {
        (_, "GET" | "HEAD") if words.any(|word| word == "GET") => None,
        (Some(last), method) if method == last => Some(found),
        _ => Some(Route::Wrong(allowed)),
    }
}

fn is_vm(word: &str) -> bool {
    is_name(word) || parse_id(word).is_some()
}

impl Verb {
    fn parse(word: &str) -> Option<Verb> {
        let all = [Verb::Start, Verb::Stop, Verb::Kill, Verb::Pause, Verb::Resume];
        all.into_iter().find(|verb| verb.word() == word)
    }

    const fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Kill => "kill",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Destroy => "destroy",
        }
    }

    fn command(self, vm: String) -> Command {
        match self {
            Verb::Start => Command::VmStart { name: vm },
            Verb::Stop => Command::VmStop { vm },
            Verb::Kill => Command::VmKill { vm },
            Verb::Pause => Command::VmPause { vm },
            Verb::Resume => Command::VmResume { vm },
            Verb::Destroy => Command::VmDestroy { vm },
        }
    }
}

/// Does it for somebody.
pub async fn serve(node: &Node, who: &str, route: Route, body: &[u8]) -> Reply {
    match route {
        Route::Create => {
            let (name, text, command) = match new_vm(body) {
                Ok(new) => new,
                Err(why) => return Reply::refused("400 Bad Request", &why),
            };
            match act(node, who, &text, command).await {
                Ok(_) => {
                    let headers = format!("Location: /vms/{name}\r\n");
                    Reply { headers, ..vm(node, &name, "201 Created").await }
                }
                Err(why) => Reply::refused("409 Conflict", &why),
            }
        }
        Route::Vm(name, verb) => {
            let text = format!("vm {} {name}", verb.word());
            match act(node, who, &text, verb.command(name.clone())).await {
                Ok(_) => vm(node, &name, "200 OK").await,
                Err(why) if is_there(node, &name).await => Reply::refused("409 Conflict", &why),
                Err(why) => Reply::refused("404 Not Found", &why),
            }
        }
        Route::Restart(name) => {
            let text = format!("component restart {name}");
            match act(node, who, &text, Command::ComponentRestart { name }).await {
                Ok(_) => Reply::text(NOTHING, ""),
                Err(why) => Reply::refused("404 Not Found", &why),
            }
        }
        Route::CreateDisk => {
            let new = as_body::<NewDisk>(body, "disk", r#"{"name":"docs","size":"64M"}"#);
            let parts = new.and_then(|NewDisk { name, size, tenant }| {
                let tenant = tenant.as_deref().map(tenants::parse).transpose()?;
                Ok((disks::size(&size)?, name, size, tenant))
            });
            match parts {
                Ok((blocks, name, size, tenant)) => {
                    let whose = tenant.map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
                    let text = format!("disk create {} {}{whose}", shown(&name), shown(&size));
                    let done = act(node, who, &text, Command::DiskCreate { name: name.clone(), blocks, tenant }).await;
                    new_disk(node, &name, done).await
                }
                Err(why) => Reply::refused("400 Bad Request", &why),
            }
        }
        Route::SnapshotDisk(name) => match as_body::<NewSnapshot>(body, "snapshot", r#"{"name":"kept"}"#) {
            Ok(NewSnapshot { name: new }) => {
                let text = format!("disk snapshot {} {}", shown(&name), shown(&new));
                match act(node, who, &text, Command::DiskSnapshot { name: name.clone(), new: new.clone() }).await {
                    Err(why) => refused(node, &name, &why).await,
                    done => new_disk(node, &new, done).await,
                }
            }
            Err(why) => Reply::refused("400 Bad Request", &why),
        },
        Route::RmDisk(name) => {
            let text = format!("disk rm {}", shown(&name));
            match act(node, who, &text, Command::DiskRm { name: name.clone() }).await {
                Ok(_) => Reply::text(NOTHING, ""),
                Err(why) => refused(node, &name, &why).await,
            }
        }
        Route::AttachDisk(name) => {
            let new = as_body::<NewAttachment>(body, "disk", r#"{"disk":"docs:ro"}"#);
            match new.and_then(|new| disks::parse(&new.disk)) {
                Ok(disk) => {
                    let text = format!("disk attach {name} {disk}");
                    let done = act(node, who, &text, Command::DiskAttach { vm: name.clone(), disk }).await;
                    changed(node, &name, done).await
                }
                Err(why) => Reply::refused("400 Bad Request", &why),
            }
        }
        Route::DetachDisk(name) => {
            let text = format!("disk detach {name}");
            let done = act(node, who, &text, Command::DiskDetach { vm: name.clone() }).await;
            changed(node, &name, done).await
        }
        Route::SetPolicy(component) => {
            let NewPolicy { policy } = match as_body(body, "policy", r#"{"policy":"fair"}"#) {
                Ok(new) => new,
                Err(why) => return Reply::refused("400 Bad Request", &why),
            };
            let text = format!("policy set {component} {}", shown(&policy));
            let command = Command::PolicySet { component: component.clone(), policy };
            let done = act(node, who, &text, command).await;
            match (done, policies::list(node, Some(&component), true).await) {
                (Ok(_), Ok(body)) => Reply::json("200 OK", body),
                (Ok(_), Err(_)) => Reply::text(NOTHING, ""),
                (Err(why), Ok(_)) => Reply::refused("409 Conflict", &why),
                (Err(why), Err(_)) => Reply::refused("404 Not Found", &why),
            }
        }
        Route::PowerOff => match act(node, who, "node shutdown", Command::NodeShutdown).await {
            Ok(_) => Reply::json("202 Accepted", "{\"done\":\"the machine is powered off\"}\n"),
            Err(why) => Reply::refused("409 Conflict", &why),
        },
        Route::SetQuota(tenant) => {
            let (text, change) = match new_quota(tenant, body) {
                Ok(new) => new,
                Err(why) => return Reply::refused("400 Bad Request", &why),
            };
            match act(node, who, &text, Command::TenantSet { tenant, change }).await {
                Ok(_) => tenants::show(node, tenant, true)
                    .await
                    .map_or_else(|_| Reply::text(NOTHING, ""), |body| Reply::json("200 OK", body)),
                Err(why) => Reply::refused("409 Conflict", &why),
            }
        }
        Route::RmImage(name) => {
            let text = format!("image rm {}", shown(&name));
            let command = Command::ImageRm { name: name.clone() };
            match act(node, who, &text, command).await {
                Ok(_) => Reply::text(NOTHING, ""),
                Err(why) if node.knows_image(&name).is_some() => Reply::refused("409 Conflict", &why),
                Err(why) => Reply::refused("404 Not Found", &why),
            }
        }
        // Its body is taken elsewhere: it is larger than others.
        Route::PutImage(_) => Reply::wrong_method("GET, HEAD, DELETE"),
        // Nor do these change anything that is a command's: they are `crate::heard`'s.
        Route::Log | Route::ReadConsole(_) | Route::WriteConsole(_) => Reply::wrong_method("GET, HEAD"),
        Route::Wrong(allowed) => Reply::wrong_method(allowed),
    }
}

/// What is said of an image beside its body: by its path, and by the words behind the `?`.
///
/// # Errors
///
/// The word that is wrong, and what would be right.
pub fn image_order(name: &str, query: &str) -> Result<ImageOrder, String> {
    let mut order = ImageOrder::new(name).map_err(|why| format!("`{}` {why}", shown(name)))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        order.set(key, value).map_err(|takes| format!("{} {}: give {takes}", shown(key), shown(value)))?;
    }
    Ok(order)
}

/// What a body says, as one of these; `such` is an example.
fn as_body<'b, T: Deserialize<'b>>(body: &'b [u8], what: &str, such: &str) -> Result<T, String> {
    let no_such = |error: serde_json::Error| format!("that is no {what}: {}; give {such}", shown(&error.to_string()));
    serde_json::from_slice(body).map_err(no_such)
}

/// A virtual disk that was to come, as it is now.
async fn new_disk(node: &Node, name: &str, done: Result<Said, String>) -> Reply {
    if let Err(why) = done {
        return Reply::refused("409 Conflict", &why);
    }
    let found = disks::find(node, name).await.ok().flatten();
    match found.map(|disk| as_json(&disk)) {
        Some(Ok(body)) => Reply::json("201 Created", body),
        _ => Reply::text(NOTHING, ""),
    }
}

/// Why something was not done with a virtual disk, which there is or not.
async fn refused(node: &Node, name: &str, why: &str) -> Reply {
    let is_missing = matches!(disks::find(node, name).await, Ok(None));
    Reply::refused(if is_missing { "404 Not Found" } else { "409 Conflict" }, why)
}

/// A VM of which something was to be changed, as it is now.
async fn changed(node: &Node, name: &str, done: Result<Said, String>) -> Reply {
    match done {
        Ok(_) => vm(node, name, "200 OK").await,
        Err(why) if is_there(node, name).await => Reply::refused("409 Conflict", &why),
        Err(why) => Reply::refused("404 Not Found", &why),
    }
}

/// A VM as it is after something was done with it; nothing when it is no more.
async fn vm(node: &Node, vm: &str, status: &'static str) -> Reply {
    list::vm(node, vm, true).await.map_or_else(|_| Reply::text(NOTHING, ""), |body| Reply::json(status, body))
}

/// Whether there is a VM of this name or id.
pub async fn is_there(node: &Node, vm: &str) -> bool {
    if let Some(id) = parse_id(vm) {
        return matches!(living(&mut *node.control().await, id).await, Ok(Some(_)));
    }
    node.names.borrow().get(vm).is_some()
}

/// The VM that a body describes: its name, and the command that creates it, in words, too.
fn new_vm(body: &[u8]) -> Result<(String, String, Command), String> {
    let new: NewVm = serde_json::from_slice(body).map_err(|error| {
        format!("that is no VM: {}; give {{\"name\":\"web-17\",\"image\":\"httpd\"}}", shown(&error.to_string()))
    })?;
    let NewVm { name, image, memory, disk, weight, tenant, args } = new;
    let weight = weight.map(|weight| weight.to_string());
    let parts = [memory.as_deref(), disk.as_deref(), weight.as_deref(), tenant.as_deref()];
    let Order { name, image, terms, args, text } =
        Order::of(&name, &image, parts, args.as_deref().unwrap_or_default())?;
    Ok((name.clone(), text, Command::VmCreate { name, image, terms, args }))
}

/// The quota that a body describes: the command that sets it, in words, and what changes.
fn new_quota(tenant: Tenant, body: &[u8]) -> Result<(String, TenantChange), String> {
    let NewQuota { vms, memory, disk, pool, wakes, rate } = serde_json::from_slice(body).map_err(|error| {
        format!("that is no quota: {}; give {{\"vms\":3,\"memory\":\"64M\"}}", shown(&error.to_string()))
    })?;
    let mut change = TenantChange::default();
    let mut text = format!("tenant set {tenant}");
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    for (key, value) in TenantChange::KEYS.into_iter().zip([number(vms), memory, disk, pool, number(wakes), rate]) {
        let value = value.unwrap_or_else(|| UNLIMITED.to_string());
        change.take(key, &value).map_err(|takes| format!("{key} {}: give {takes}", shown(&value)))?;
        text.push_str(&format!(" --{key} {value}"));
    }
    Ok((text, change))
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
