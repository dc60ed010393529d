//! Carrying commands out.

use crate::command::{Command, HELP, shown};
use crate::names::{Named, parse_id};
use crate::node::{Node, living};
use crate::refusal::{running, said};
use crate::show;
use abi::control::{ControlReply, ControlRequest, status};
use abi::terms::Terms;
use abi::vm::VmId;
use alloc::format;
use alloc::string::{String, ToString};
use ilwaco::control::{Control, Error};

/// Carries a command out. What is to be shown.
///
/// # Errors
///
/// What is wrong, and what to do about it.
pub async fn act(node: &Node, command: Command) -> Result<String, String> {
    match command {
        Command::Help => Ok(HELP.to_string()),
        Command::VmList { json } => show::vms(node, json).await,
        Command::VmShow { vm, json } => show::vm(node, &vm, json).await,
        Command::VmCreate { name, image, terms, args } => create(node, &name, &image, terms, args),
        Command::VmStart { name } => start(node, &name).await,
        Command::VmStop { vm } => {
            let id = running(node, &vm)?;
            end(node, id, ControlRequest::Shutdown { vm: id }, &vm).await?;
            Ok(format!("{} is asked to end itself\n", shown(&vm)))
        }
        Command::VmKill { vm } => {
            let id = running(node, &vm)?;
            end(node, id, ControlRequest::Destroy { vm: id }, &vm).await?;
            Ok(format!("{} is ended\n", shown(&vm)))
        }
        Command::VmDestroy { vm } => destroy(node, &vm).await,
        Command::ComponentList { json } => show::components(node, json).await,
        Command::ComponentRestart { name } => restart(node, &name).await,
        Command::ImageList { json } => show::images(node, json).await,
        Command::NodeShow { json } => show::node(node, json).await,
    }
}

fn create(node: &Node, name: &str, image: &str, terms: Terms, args: String) -> Result<String, String> {
    let Some(image) = node.image(image) else {
        return Err(format!("there is no image `{}`: known are {}", shown(image), node.images.join(", ")));
    };
    let named = Named { image, terms, args, vm: None };
    node.names.borrow_mut().add(name, named).map_err(|why| format!("`{}` {why}", shown(name)))?;
    Ok(format!("{name} is created; `vm start {name}` lets it run\n"))
}

async fn start(node: &Node, name: &str) -> Result<String, String> {
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
    let id = control.create(named.image, named.args.as_bytes(), named.terms).await.map_err(|error| match error {
        Error::Refused(status::NOT_FOUND) => format!("the image of {name} is gone: `image list` shows all"),
        error => format!("{name} does not start: {}", said(error)),
    })?;
    match node.names.borrow_mut().get_mut(name) {
        Some(named) => named.vm = Some(id),
        None => return Err(format!("somebody has destroyed {name} meanwhile; it runs without a name, as {id}")),
    }
    Ok(format!("{name} runs as {id}\n"))
}

/// Asks the core for what ends a VM.
async fn end(node: &Node, id: VmId, request: ControlRequest, vm: &str) -> Result<(), String> {
    if id == ilwaco::vm_id() {
        return Err("that is the supervisor itself: the operator's line on COM1 can end it".to_string());
    }
    let mut control = node.control().await;
    if living(&mut control, id).await.map_err(said)?.is_none() {
        return Err(format!("{} does not run (any more): `vm list` shows what does", shown(vm)));
    }
    done(&mut control, request).await
}

async fn done(control: &mut Control, request: ControlRequest) -> Result<(), String> {
    match control.ask(request, drop).await.map_err(said)? {
        ControlReply::Done { status: status::OK, .. } => Ok(()),
        ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
        _ => Err(said(Error::Answer)),
    }
}

async fn destroy(node: &Node, vm: &str) -> Result<String, String> {
    if parse_id(vm).is_some() {
        let id = running(node, vm)?;
        end(node, id, ControlRequest::Destroy { vm: id }, vm).await?;
        let mut names = node.names.borrow_mut();
        let name = names.of().remove(&id.raw());
        name.iter().for_each(|name| names.remove(name));
        return Ok(format!("{vm} is ended\n"));
    }
    let mut control = node.control().await;
    let Some(named) = node.names.borrow().get(vm).cloned() else {
        return Err(format!("there is no VM `{}`: `vm list` shows all", shown(vm)));
    };
    if let Some(id) = named.vm
        && living(&mut control, id).await.map_err(said)?.is_some()
    {
        done(&mut control, ControlRequest::Destroy { vm: id }).await?;
    }
    node.names.borrow_mut().remove(vm);
    Ok(format!("{vm} is destroyed\n"))
}

async fn restart(node: &Node, name: &str) -> Result<String, String> {
    let mut control = node.control().await;
    let components = control.components().await.map_err(said)?;
    let Some(component) = components.iter().find(|component| component.name.as_str() == name) else {
        let known: alloc::vec::Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
        return Err(format!("there is no component `{}`: known are {}", shown(name), known.join(", ")));
    };
    done(&mut control, ControlRequest::Kill { component: component.index }).await?;
    Ok(format!("{name} starts anew\n"))
}
