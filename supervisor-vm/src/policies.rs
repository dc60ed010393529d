//! Policies: which programs can fill the roles of components, which of them run, and letting another one run.

use crate::node::Node;
use crate::refusal::said;
use crate::show::as_json;
use crate::shown::shown;
use abi::control::{ControlReply, ControlRequest, GATEKEEPER, policy_state, status};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::control::{Control, Error};
use serde::Serialize;

/// A policy, as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ShownPolicy {
    component: String,
    name: String,
    state: &'static str,
    #[serde(skip)]
    place: (u16, u16),
}

/// The word for a state.
const fn word(state: u16) -> &'static str {
    match state {
        policy_state::READY => "ready",
        policy_state::RUNS => "runs",
        policy_state::MISSING => "missing",
        policy_state::REFUSED => "refused",
        _ => "unknown",
    }
}

/// All of them, by their components.
async fn all(control: &mut Control) -> Result<Vec<ShownPolicy>, String> {
    let mut all = Vec::new();
    // The gatekeeper's number is the last; not each other one is a component's.
    for component in 0..=GATEKEEPER {
        for policy in 0..u16::MAX {
            let reply = control.ask(ControlRequest::Policy { component, policy }, drop).await.map_err(said)?;
            let ControlReply::Policy { component: of, name, state, .. } = reply else { break };
            let (of, name) = (of.as_str().to_string(), name.as_str().to_string());
            all.push(ShownPolicy { component: of, name, state: word(state), place: (component, policy) });
        }
    }
    Ok(all)
}

/// Those of a component.
///
/// # Errors
///
/// There are none: which components have some.
fn those_of<'p>(all: &'p [ShownPolicy], component: &str) -> Result<Vec<&'p ShownPolicy>, String> {
    let found: Vec<&ShownPolicy> = all.iter().filter(|policy| policy.component == component).collect();
    if found.is_empty() {
        let mut known: Vec<&str> = all.iter().map(|policy| policy.component.as_str()).collect();
        known.dedup();
        return Err(format!(
            "there is no component `{}` with policies: known are {}",
            shown(component),
            known.join(", ")
        ));
    }
    Ok(found)
}

/// `policy list`, or `policy show` of a component.
///
/// # Errors
///
/// There is no such component; what the core refuses.
pub async fn list(node: &Node, component: Option<&str>, json: bool) -> Result<String, String> {
    let all = all(&mut *node.control().await).await?;
    let asked = match component {
        Some(component) => those_of(&all, component)?,
        None => all.iter().collect(),
    };
    if json {
        return as_json(&asked);
    }
    let mut text = "COMPONENT        POLICY           STATE\n".to_string();
    for ShownPolicy { component, name, state, .. } in asked {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{component:<16} {name:<16} {state}");
    }
    Ok(text)
}

/// `policy set`: the component is replaced by one with this policy, and that one runs when this is done.
///
/// # Errors
///
/// There is no such component or policy, or it cannot run here; what the core refuses.
pub async fn set(node: &Node, component: &str, policy: &str) -> Result<String, String> {
    let mut control = node.control().await;
    let all = all(&mut control).await?;
    let of = those_of(&all, component)?;
    let Some(found) = of.iter().find(|found| found.name == policy) else {
        let known: Vec<&str> = of.iter().map(|policy| policy.name.as_str()).collect();
        return Err(format!("{component} has no policy `{}`: known are {}", shown(policy), known.join(", ")));
    };
    let (component_at, policy_at) = found.place;
    let request = ControlRequest::Swap { component: component_at, policy: policy_at };
    match control.ask(request, drop).await.map_err(said)? {
        ControlReply::Done { status: status::OK, .. } => Ok(format!("{component} runs with {policy}\n")),
        ControlReply::Done { status, .. } => Err(refused(component, policy, status)),
        _ => Err(said(Error::Answer)),
    }
}

/// Why a policy does not run.
fn refused(component: &str, policy: &str, status: u32) -> String {
    match status {
        status::NO_MODULE => {
            format!(
                "the module of {component}'s policy {policy} was not loaded at boot: add it to the boot entry, or take another one"
            )
        }
        status::BAD_MODULE => {
            format!(
                "the module of {component}'s policy {policy} was refused at boot, and the log says why: build it anew, or take another one"
            )
        }
        status::BUSY => "another policy is just being replaced: try again".to_string(),
        status => said(Error::Refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_its_policies() {
        let policy = |component: &str, name: &str, state, place| ShownPolicy {
            component: component.to_string(),
            name: name.to_string(),
            state: word(state),
            place,
        };
        let all = [
            policy("netmux", "drr", policy_state::RUNS, (0, 0)),
            policy("sched", "fair", policy_state::RUNS, (2, 0)),
            policy("sched", "round-robin", policy_state::READY, (2, 1)),
        ];
        let found = those_of(&all, "sched").expect("there");
        assert_eq!(found.iter().map(|policy| policy.place).collect::<Vec<_>>(), [(2, 0), (2, 1)]);
        let why = "there is no component `x?` with policies: known are netmux, sched";
        assert_eq!(those_of(&all, "x\u{1b}"), Err(why.to_string()));
        let json = r#"{"component":"sched","name":"round-robin","state":"ready"}"#;
        assert_eq!(as_json(&all[2]), Ok(format!("{json}\n")));
    }

    #[test]
    fn who_may_not_have_a_policy_hears_what_to_do() {
        for (status, says) in [
            (status::NO_MODULE, "was not loaded at boot"),
            (status::BAD_MODULE, "was refused at boot"),
            (status::BUSY, "try again"),
        ] {
            assert!(refused("sched", "fair", status).contains(says), "{status}");
        }
        let words: Vec<&str> = (policy_state::READY..=policy_state::REFUSED).map(word).collect();
        assert_eq!(words, ["ready", "runs", "missing", "refused"]);
    }
}
