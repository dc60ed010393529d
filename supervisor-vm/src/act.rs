//! Carrying commands out.

use crate::command::Command;
use crate::help::HELP;
use crate::names::{Named, parse_id};
use crate::node::{Node, living};
use crate::refusal::{running, said};
use crate::said::Said;
use crate::shown::shown;
use crate::state::NO_IMAGE;
use crate::{
    anew, audit, disk_wanted, disks, images, list, machine_log, metrics, policies, save, shelf, show, tenants, tokens,
    top,
};
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::BOOT_ARGS_MAX;
use abi::limits::PAGE_SIZE;
use abi::terms::Terms;
use abi::vm::VmId;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use chacha20::rand_core::Rng;
use core::future::ready;
use core::pin::Pin;
use ilwaco::control::{Control, Error};
use ilwaco::time::{Duration, Instant, sleep, unix_millis};

/// How long a VM may take to come to where it can be paused, or to be taken apart.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often an image that is kept is given to the core before a VM starts: others that start may want its place.
const IMAGE_TRIES: usize = 3;

/// Carries a command out for somebody, who has said it in these words. What is to be shown. What changes something is written down, whether it
/// succeeds or not.
///
/// # Errors
///
/// What is wrong, and what to do about it.
pub async fn act(node: &Node, who: &str, what: &str, command: Command) -> Result<Said, String> {
    let changes = command.changes();
    let mut said = carry_out(node, command).await;
    if changes {
        let warning = audit::done(node, who, what, said.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
        if let (Ok(said), Some(warning)) = (&mut said, warning) {
            said.aside.push_str(&warning);
        }
    }
    said
}

async fn carry_out(node: &Node, command: Command) -> Result<Said, String> {
    if let Command::VmList { query, count: false, json } = &command {
        let (text, more_after) = list::vms(node, query, *json).await?;
        let aside = more_after.map(|last| format!("there are more: vm list --after {last}\n")).unwrap_or_default();
        return Ok(Said { text, aside });
    }
    if let Command::ImageList { query, count: false, json } = &command {
        let (text, more_after) = images::list(node, query, *json).await?;
        let aside = more_after.map(|last| format!("there are more: image list --after {last}\n")).unwrap_or_default();
        return Ok(Said { text, aside });
    }
    plain(node, command).await.map(Said::from)
}

/// A command that is being carried out.
type Doing<'n> = Pin<Box<dyn Future<Output = Result<String, String>> + 'n>>;

/// Carries out a command about which nothing is to be said beside what was asked for. Each is behind a pointer, so that the stack holds what one takes,
/// and not what all take together.
fn plain(node: &Node, command: Command) -> Doing<'_> {
    match command {
        Command::Help => Box::pin(ready(Ok(HELP.to_string()))),
        Command::Audit => Box::pin(async move {
            audit::note_ended(node).await.map_err(said)?;
            save::export(node).await
        }),
        Command::Metrics => Box::pin(metrics::page(node)),
        Command::Log { wanted } if wanted.follows() => refuse(
            "a log that is followed comes alone, as the command of a login or at the prompt: ssh ... log --follow",
        ),
        Command::Log { wanted } => Box::pin(async move { machine_log::show(node, &wanted).await }),
        Command::VmList { query, json, .. } => Box::pin(async move { list::count(node, &query, json).await }),
        Command::VmShow { vm, json } => Box::pin(async move { list::vm(node, &vm, json).await }),
        Command::VmCreate { name, image, terms, args } => {
            Box::pin(async move { create(node, &name, &image, terms, args).await })
        }
        Command::VmStart { name } => Box::pin(async move { start(node, &name).await }),
        Command::VmPause { vm } => Box::pin(async move { pause(node, &vm).await }),
        Command::VmResume { vm } => Box::pin(async move {
            let id = running(node, &vm)?;
            end(node, id, ControlRequest::Resume { vm: id }, &vm).await?;
            Ok(format!("{} goes on\n", shown(&vm)))
        }),
        Command::VmStop { vm } => Box::pin(async move {
            let id = running(node, &vm)?;
            end(node, id, ControlRequest::Shutdown { vm: id }, &vm).await?;
            note_end(node, id);
            Ok(format!("{} is asked to end itself\n", shown(&vm)))
        }),
        Command::VmKill { vm } => Box::pin(async move {
            let id = running(node, &vm)?;
            end(node, id, ControlRequest::Destroy { vm: id }, &vm).await?;
            note_end(node, id);
            gone(node, id).await;
            Ok(format!("{} is ended\n", shown(&vm)))
        }),
        Command::VmDestroy { vm } => Box::pin(async move { destroy(node, &vm).await }),
        Command::VmTop { limit, json } => Box::pin(top::top(node, limit, json)),
        Command::ComponentList { json } => Box::pin(show::components(node, json)),
        Command::ComponentRestart { name } => Box::pin(async move { restart(node, &name).await }),
        Command::PolicyList { component, json } => {
            Box::pin(async move { policies::list(node, component.as_deref(), json).await })
        }
        Command::PolicySet { component, policy } => {
            Box::pin(async move { policies::set(node, &component, &policy).await })
        }
        Command::VmConsole { .. } => {
            refuse("a console comes alone, as the command of a login or at the prompt: ssh ... vm console VM")
        }
        Command::FleetApply { from: Some(_), .. } => refuse(
            "a fleet file is applied with nothing else with it, as the command of a login or at the prompt: ssh ... fleet apply --disk DISK",
        ),
        Command::FleetApply { from: None, .. } => {
            refuse("the file comes on standard input, and nothing else with it: ssh ... fleet apply < vms.toml")
        }
        Command::DiskList { json } => Box::pin(disks::list(node, json)),
        Command::DiskCreate { name, blocks, tenant } => {
            Box::pin(async move { disks::create(node, &name, blocks, tenant).await })
        }
        Command::DiskSnapshot { name, new } => Box::pin(async move { disks::snapshot(node, &name, &new).await }),
        Command::DiskRm { name } => Box::pin(async move { disks::remove(node, &name).await }),
        Command::DiskAttach { vm, disk } => Box::pin(async move { disks::attach(node, &vm, disk).await }),
        Command::DiskDetach { vm } => Box::pin(async move { disks::detach(node, &vm).await }),
        Command::TokenNew { name, json } => Box::pin(ready(token(node, &name, json))),
        Command::TokenList { json } => Box::pin(ready(show::tokens(node, json))),
        Command::TokenRm { name } => {
            let removed = node.tokens.borrow_mut().remove(&name);
            let none = || format!("there is no token `{}`: `token list` shows all", shown(&name));
            Box::pin(ready(if removed { Ok(format!("{name} is no token any more\n")) } else { Err(none()) }))
        }
        Command::ImageList { query, json, .. } => Box::pin(async move { images::count(node, &query, json).await }),
        Command::ImageShow { name, json } => Box::pin(async move { images::show(node, &name, json).await }),
        Command::ImageRm { name } => Box::pin(async move { images::remove(node, &name).await }),
        Command::ImagePut { .. } => {
            refuse("the image comes on standard input, and nothing else with it: ssh ... image put NAME < FILE")
        }
        Command::TenantList { json } => Box::pin(tenants::list(node, json)),
        Command::TenantShow { tenant, json } => Box::pin(tenants::show(node, tenant, json)),
        Command::TenantSet { tenant, change } => Box::pin(tenants::set(node, tenant, change)),
        Command::StateBeginAnew => Box::pin(anew::begin_anew(node)),
        Command::NodeShow { json } => Box::pin(show::node(node, json)),
        Command::NodeShutdown => Box::pin(ready(Ok(node.power.off()))),
    }
}

/// The VM whose console somebody wants.
///
/// # Errors
///
/// There is none of this name, it does not run, or it is the supervisor.
pub fn console_of(node: &Node, vm: &str) -> Result<VmId, String> {
    match running(node, vm)? {
        id if id == ilwaco::vm_id() => {
            Err("that is the supervisor itself: the machine's log has what it says".to_string())
        }
        id => Ok(id),
    }
}

fn refuse(why: &str) -> Doing<'static> {
    Box::pin(ready(Err(why.to_string())))
}

/// The operator does not want a VM to run any more that has a name.
fn note_end(node: &Node, id: VmId) {
    let mut names = node.names.borrow_mut();
    if let Some(name) = names.of(id).map(ToString::to_string) {
        names.note_end(&name);
    }
}

async fn create(node: &Node, name: &str, image: &str, terms: Terms, args: String) -> Result<String, String> {
    save::refuse_own(node, terms.disk.disk.as_str())?;
    if args.len() > BOOT_ARGS_MAX {
        return Err(format!("a VM has {BOOT_ARGS_MAX} bytes of boot arguments at most: these are {}", args.len()));
    }
    let (number, has) = match node.knows_image(image) {
        Some(known) => known,
        None => images::find(node, image).await?,
    };
    let limit = u64::from(terms.claim.limit) * PAGE_SIZE;
    if limit > has {
        return Err(format!(
            "--memory {}K: VMs of {image} have {}K at most, which is what the image says",
            limit >> 10,
            has >> 10
        ));
    }
    let image_name = image.to_string();
    let image = number.unwrap_or(NO_IMAGE);
    let named = Named { image, image_name, terms, args, vm: None, of_fleet: false, runs: false };
    node.names.borrow_mut().add(name, named).map_err(|why| format!("`{}` {why}", shown(name)))?;
    Ok(format!("{name} is created; `vm start {name}` lets it run\n"))
}

/// Looks for the image of a VM that was named when there was another one of this number, or none of this name. One that is kept is given to the core.
async fn look_for_image(node: &Node, name: &str) -> Result<(), String> {
    let wanted = {
        let names = node.names.borrow();
        let Some(named) = names.get(name) else { return Ok(()) };
        if node.image_name(named.image) == named.image_name {
            node.keep.library.borrow_mut().note_use(&named.image_name);
            return Ok(());
        }
        named.image_name.clone()
    };
    node.look_at_images().await.map_err(said)?;
    let number = match node.knows_image(&wanted) {
        Some((Some(number), _)) => number,
        Some((None, _)) => shelf::load(node, &wanted).await.map_err(|why| format!("{name} does not start: {why}"))?,
        None => return Ok(()),
    };
    node.names.borrow_mut().set_image(name, number);
    Ok(())
}

async fn start(node: &Node, name: &str) -> Result<String, String> {
    disk_wanted::judge(node, name).await?;
    let mut tries = 0..IMAGE_TRIES;
    let (mut control, named) = loop {
        look_for_image(node, name).await?;
        // Whoever else starts it waits here, and then finds it running.
        let mut control = node.control().await;
        let Some(named) = node.names.borrow().get(name).cloned() else {
            return Err(format!("no VM has the name `{}`: `vm create` makes one, `vm list` shows all", shown(name)));
        };
        if let Some(id) = named.vm
            && living(&mut control, id).await.map_err(said)?.is_some()
        {
            return Err(format!("{name} runs already, as {id}"));
        }
        // Another one may have its number by now.
        let image = control.ask(ControlRequest::Image { image: named.image }, drop).await.map_err(said)?;
        if matches!(image, ControlReply::Image { name, .. } if name.as_str() == named.image_name) {
            break (control, named);
        }
        drop(control);
        if tries.next().is_none() {
            let image = shown(&named.image_name);
            return Err(format!(
                "the image of {name} is gone: `image put {image}` again, or `vm destroy {name}`, and create it of another one"
            ));
        }
        // It made room for others since this VM has looked.
        node.look_at_images().await.map_err(said)?;
    };
    let created = control.create(named.image, named.args.as_bytes(), named.terms).await;
    if let Err(Error::Quota(status, beyond)) = created {
        return Err(format!("{name} does not start: {}", tenants::refused(&mut control, status, beyond).await));
    }
    let id = created.map_err(|error| match error {
        Error::Refused(status::NOT_FOUND) => format!("the image of {name} is gone: `image list` shows all"),
        Error::Refused(status::BAD_CLAIM) if named.terms.claim.limit != 0 => {
            format!("{name} does not start with so little: `vm destroy` it, and create it with more --memory")
        }
        error => format!("{name} does not start: {}", said(error)),
    })?;
    if !node.names.borrow_mut().started(name, id) {
        return Err(format!("somebody has destroyed {name} meanwhile; it runs without a name, as {id}"));
    }
    Ok(format!("{name} runs as {id}\n"))
}

/// Lets a VM stand still. One that waits for a page is asked again: it has it in a moment.
async fn pause(node: &Node, vm: &str) -> Result<String, String> {
    let id = running(node, vm)?;
    let at_most = Instant::now() + PATIENCE;
    loop {
        match change(node, id, ControlRequest::Pause { vm: id }, vm).await? {
            status::OK => return Ok(format!("{} stands still; `vm resume {0}` lets it go on\n", shown(vm))),
            status::NOT_ADMITTED => {
                return Err(format!(
                    "{} waits or is out, and takes no time of the processor: there is nothing to pause",
                    shown(vm)
                ));
            }
            status::BUSY if Instant::now() < at_most => sleep(Duration::from_millis(10)).await,
            status::BUSY => return Err(format!("{} waits for memory, or is on its way out: try again", shown(vm))),
            status => return Err(said(Error::Refused(status))),
        }
    }
}

/// Asks the core for what changes a VM.
async fn end(node: &Node, id: VmId, request: ControlRequest, vm: &str) -> Result<(), String> {
    match change(node, id, request, vm).await? {
        status::OK => Ok(()),
        status => Err(said(Error::Refused(status))),
    }
}

/// The same; the core's answer, one of [`status`].
async fn change(node: &Node, id: VmId, request: ControlRequest, vm: &str) -> Result<u32, String> {
    if id == ilwaco::vm_id() {
        return Err("that is the supervisor itself: the operator's line on COM1 can end it".to_string());
    }
    let mut control = node.control().await;
    if living(&mut control, id).await.map_err(said)?.is_none() {
        return Err(format!("{} does not run (any more): `vm list` shows what does", shown(vm)));
    }
    asked(&mut control, request).await
}

/// Waits a moment until a VM that was ended is taken apart: what it had is its tenant's and others' then.
async fn gone(node: &Node, id: VmId) {
    let at_most = Instant::now() + PATIENCE;
    loop {
        let reply = node.ask(ControlRequest::Vm { slot: id.slot }, drop).await;
        if !matches!(reply, Ok(ControlReply::Vm { vm, .. }) if vm == id) || Instant::now() >= at_most {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Asks what is answered by a status alone.
async fn asked(control: &mut Control, request: ControlRequest) -> Result<u32, String> {
    match control.ask(request, drop).await.map_err(said)? {
        ControlReply::Done { status, .. } => Ok(status),
        _ => Err(said(Error::Answer)),
    }
}

async fn done(control: &mut Control, request: ControlRequest) -> Result<(), String> {
    match asked(control, request).await? {
        status::OK => Ok(()),
        status => Err(said(Error::Refused(status))),
    }
}

async fn destroy(node: &Node, vm: &str) -> Result<String, String> {
    if parse_id(vm).is_some() {
        let id = running(node, vm)?;
        end(node, id, ControlRequest::Destroy { vm: id }, vm).await?;
        gone(node, id).await;
        let mut names = node.names.borrow_mut();
        if let Some(name) = names.of(id).map(ToString::to_string) {
            names.remove(&name);
        }
        return Ok(format!("{vm} is ended\n"));
    }
    let mut control = node.control().await;
    let Some(named) = node.names.borrow().get(vm).cloned() else {
        return Err(format!("there is no VM `{}`: `vm list` shows all", shown(vm)));
    };
    let mut ended = None;
    if let Some(id) = named.vm
        && living(&mut control, id).await.map_err(said)?.is_some()
    {
        done(&mut control, ControlRequest::Destroy { vm: id }).await?;
        ended = Some(id);
    }
    // Before anybody else can start it.
    node.names.borrow_mut().remove(vm);
    drop(control);
    if let Some(id) = ended {
        gone(node, id).await;
    }
    Ok(format!("{vm} is destroyed\n"))
}

/// Makes a token, which is shown here and nowhere else.
fn token(node: &Node, name: &str, json: bool) -> Result<String, String> {
    let mut chance = [0; tokens::BYTES];
    node.random.borrow_mut().fork().fill_bytes(&mut chance);
    let token = node.tokens.borrow_mut().add(name, &chance, unix_millis());
    let token = token.map_err(|why| format!("`{}` {why}", shown(name)))?;
    Ok(if json { format!("{{\"name\":\"{name}\",\"token\":\"{token}\"}}\n") } else { token + "\n" })
}

async fn restart(node: &Node, name: &str) -> Result<String, String> {
    let mut control = node.control().await;
    let components = control.components().await.map_err(said)?;
    let Some(component) = components.iter().find(|component| component.name.as_str() == name) else {
        let known: Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
        return Err(format!("there is no component `{}`: known are {}", shown(name), known.join(", ")));
    };
    done(&mut control, ControlRequest::Kill { component: component.index }).await?;
    Ok(format!("{name} starts anew\n"))
}
