//! Lets the VMs be as a fleet file says: what differs, and one change after the other. Each change is what a command does, and is written down as
//! that.

use crate::act::act;
use crate::command::Command;
use crate::fleet::{Fleet, Member, Told};
use crate::names::Named;
use crate::node::{Node, living};
use crate::refusal::said;
use crate::save;
use crate::show::as_json;
use crate::tenants;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use serde::Serialize;

/// What somebody allows beside making and starting VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// One that is another one than it should be may be ended and made anew.
    pub replace: bool,
    /// One that a file has made, and that this one does not name, may be destroyed.
    pub prune: bool,
}

/// What is done with a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Set,
    Create,
    Start,
    Stop,
    Replace,
    Destroy,
}

/// One change.
struct Change {
    step: Step,
    /// Of a VM; empty for that of a tenant's quota.
    vm: String,
    /// What it is to be like, where it is made.
    member: Option<Member>,
    /// What the tenant is to have.
    told: Option<Told>,
}

/// A change, as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    step: Step,
    vm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
}

/// What is to be shown in the end.
#[derive(Serialize)]
struct Summary<'a> {
    dry_run: bool,
    vms: usize,
    changes: Vec<Shown<'a>>,
}

/// All changes that a file asks for.
pub struct Changes {
    /// VMs that the file names.
    vms: usize,
    done: Vec<Change>,
    left: VecDeque<Change>,
}

/// What there is of a VM: whether it is as it should be, and whether it runs.
type Found = Option<(bool, bool)>;

/// The step for a VM that should be, of which this is there.
fn step(found: Found, runs: bool) -> Option<Step> {
    match (found, runs) {
        (None, _) => Some(Step::Create),
        (Some((false, _)), _) => Some(Step::Replace),
        (Some((true, false)), true) => Some(Step::Start),
        (Some((true, true)), false) => Some(Step::Stop),
        (Some((true, lives)), _) => {
            debug_assert_eq!(lives, runs);
            None
        }
    }
}

/// Whether a VM is as it should be.
fn is_as(named: &Named, member: &Member) -> bool {
    let order = &member.order;
    // What VMs are made of stays under its name as long as they have theirs.
    named.image_name == order.image && named.terms == order.terms && named.args == order.args
}

impl Changes {
    /// What differs between what there is and what there should be.
    ///
    /// # Errors
    ///
    /// What cannot be, with its line: nothing has changed.
    pub async fn of(node: &Node, fleet: Fleet, allowed: Allowed) -> Result<Changes, String> {
        node.look_at_images().await.map_err(said)?;
        let Fleet { tenants, members } = fleet;
        let mut changes = Changes { vms: members.len(), done: Vec::new(), left: VecDeque::new() };
        for told in tenants {
            let other = tenants::would_change(node, told.tenant, told.change).await;
            if other.map_err(|why| format!("line {}: {why}", told.line))? {
                changes.left.push_back(Change { step: Step::Set, vm: String::new(), member: None, told: Some(told) });
            }
        }
        let mut named_here = BTreeSet::new();
        for member in members {
            let (line, name) = (member.line, member.order.name.clone());
            if node.knows_image(&member.order.image).is_none() {
                return Err(format!("line {line}: {}", node.no_image(&member.order.image)));
            }
            let named = node.names.borrow().get(&name).cloned();
            let found = match named {
                Some(named) => Some((is_as(&named, &member), lives(node, &named).await?)),
                None => None,
            };
            named_here.insert(name.clone());
            let Some(step) = step(found, member.runs) else { continue };
            if step == Step::Replace && !allowed.replace {
                return Err(format!(
                    "line {line}: {name} is there and is not like this: with --replace it is ended and made anew"
                ));
            }
            let member = matches!(step, Step::Create | Step::Replace).then_some(member);
            changes.left.push_back(Change { step, vm: name, member, told: None });
        }
        if allowed.prune {
            let names = node.names.borrow();
            let mut last = String::new();
            while let Some((name, named)) = names.behind(&last) {
                last = name.to_string();
                if named.of_fleet && !named_here.contains(name) {
                    changes.left.push_back(Change { step: Step::Destroy, vm: last.clone(), member: None, told: None });
                }
            }
        }
        Ok(changes)
    }

    /// Makes so many changes at most. How many were made so far, and how many there are.
    ///
    /// # Errors
    ///
    /// What was refused, and how far it came: each change before was made.
    pub async fn some(&mut self, node: &Node, who: &str, most: usize) -> Result<(usize, usize), String> {
        for _ in 0..most {
            let Some(change) = self.left.pop_front() else { break };
            let (made, all) = (self.done.len(), self.done.len() + 1 + self.left.len());
            change.make(node, who).await.map_err(|why| {
                let line = change.line().map_or_else(String::new, |line| format!("line {line}: "));
                format!("{line}{why}; {made} of {all} changes were made, and the file can be applied again")
            })?;
            self.done.push(change);
        }
        Ok((self.done.len(), self.done.len() + self.left.len()))
    }

    /// What was done, or would be.
    ///
    /// # Errors
    ///
    /// As [`as_json`].
    pub fn show(&self, dry_run: bool, json: bool) -> Result<String, String> {
        let all = || self.done.iter().chain(&self.left);
        if json {
            let changes = all().map(Change::shown).collect();
            return as_json(&Summary { dry_run, vms: self.vms, changes });
        }
        let mut text = String::new();
        if dry_run {
            for change in all() {
                // Writing to a string cannot fail.
                let _ = match &change.told {
                    Some(told) => writeln!(text, "{}", told.text),
                    None => writeln!(text, "{:<8} {}", change.step.word(), change.vm),
                };
            }
        }
        let count = |step| all().filter(|change| change.step == step).count();
        let steps = [Step::Set, Step::Create, Step::Replace, Step::Start, Step::Stop, Step::Destroy];
        let counts: Vec<String> = steps
            .into_iter()
            .map(|step| (step, count(step)))
            .filter(|(_, count)| *count > 0)
            .map(|(step, count)| format!("{count} {}", step.past()))
            .collect();
        let (vms, would) = (self.vms, if dry_run { "would be " } else { "" });
        let _ = match counts[..] {
            [] => writeln!(text, "{vms} VMs are as the file says"),
            // Where it says nothing else.
            _ if vms == 0 && all().all(|change| change.told.is_some()) => {
                writeln!(text, "{would}{}", counts.join(", "))
            }
            _ => writeln!(text, "of {vms} VMs in the file: {would}{}", counts.join(", ")),
        };
        Ok(text)
    }
}

impl Step {
    const fn word(self) -> &'static str {
        match self {
            Step::Set => "set",
            Step::Create => "create",
            Step::Start => "start",
            Step::Stop => "stop",
            Step::Replace => "replace",
            Step::Destroy => "destroy",
        }
    }

    const fn past(self) -> &'static str {
        match self {
            Step::Set => "quotas set",
            Step::Create => "created",
            Step::Start => "started",
            Step::Stop => "asked to end",
            Step::Replace => "replaced",
            Step::Destroy => "destroyed",
        }
    }
}

impl Change {
    /// The line of the file that asks for it.
    fn line(&self) -> Option<usize> {
        self.member.as_ref().map(|member| member.line).or_else(|| self.told.as_ref().map(|told| told.line))
    }

    fn shown(&self) -> Shown<'_> {
        let tenant = self.told.as_ref().map(|told| told.tenant.to_string());
        Shown { step: self.step, vm: Some(self.vm.as_str()).filter(|vm| !vm.is_empty()), tenant }
    }

    async fn make(&self, node: &Node, who: &str) -> Result<(), String> {
        let vm = || self.vm.clone();
        match self.step {
            Step::Set => {
                let Some(Told { tenant, change, text, .. }) = self.told.clone() else { return Ok(()) };
                by(node, who, text, Command::TenantSet { tenant, change }).await
            }
            Step::Create => self.create(node, who).await,
            Step::Replace => {
                by(node, who, format!("vm destroy {}", self.vm), Command::VmDestroy { vm: vm() }).await?;
                self.create(node, who).await
            }
            Step::Start => by(node, who, format!("vm start {}", self.vm), Command::VmStart { name: vm() }).await,
            Step::Stop => by(node, who, format!("vm stop {}", self.vm), Command::VmStop { vm: vm() }).await,
            Step::Destroy => by(node, who, format!("vm destroy {}", self.vm), Command::VmDestroy { vm: vm() }).await,
        }
    }

    /// Creates it, and starts it where it is to run.
    async fn create(&self, node: &Node, who: &str) -> Result<(), String> {
        let Some(member) = &self.member else { return Ok(()) };
        let order = member.order.clone();
        let command = Command::VmCreate { name: order.name, image: order.image, terms: order.terms, args: order.args };
        by(node, who, order.text, command).await?;
        node.names.borrow_mut().note_fleet(&self.vm);
        if !member.runs {
            save::save(node).await.map_err(|why| format!("{} is not kept: {why}", self.vm))?;
        }
        if member.runs {
            by(node, who, format!("vm start {}", self.vm), Command::VmStart { name: self.vm.clone() }).await?;
        }
        Ok(())
    }
}

async fn by(node: &Node, who: &str, text: String, command: Command) -> Result<(), String> {
    act(node, who, &text, command).await.map(drop)
}

async fn lives(node: &Node, named: &Named) -> Result<bool, String> {
    let Some(id) = named.vm else { return Ok(false) };
    Ok(living(&mut *node.control().await, id).await.map_err(said)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::Order;
    use abi::vm::ImageId;

    #[test]
    fn each_vm_has_its_step() {
        for (found, runs, wanted) in [
            (None, true, Some(Step::Create)),
            (None, false, Some(Step::Create)),
            (Some((false, true)), true, Some(Step::Replace)),
            (Some((true, false)), true, Some(Step::Start)),
            (Some((true, true)), false, Some(Step::Stop)),
            (Some((true, true)), true, None),
            (Some((true, false)), false, None),
        ] {
            assert_eq!(step(found, runs), wanted, "{found:?} {runs}");
        }
    }

    #[test]
    fn what_makes_a_vm_another_one() {
        let order = Order::of("a", "httpd", [Some("8M"), None, None, None], "x=1").expect("an order");
        let member = Member { line: 1, order: order.clone(), runs: true };
        let (image, image_name) = (ImageId::new(3), order.image);
        let (terms, args) = (order.terms, order.args);
        let named = Named { image, image_name, terms, args, vm: None, of_fleet: false, runs: false };
        assert!(is_as(&named, &member));
        let other = Named { image_name: "ask".to_string(), ..named.clone() };
        assert!(!is_as(&other, &member));
        let other = Named { args: String::new(), ..named.clone() };
        assert!(!is_as(&other, &member));
        let mut other = named;
        other.terms.claim.limit += 1;
        assert!(!is_as(&other, &member));
    }

    #[test]
    fn what_would_be_done_is_shown() {
        let change = |step, vm: &str| Change { step, vm: vm.to_string(), member: None, told: None };
        let left = [change(Step::Create, "a"), change(Step::Create, "b"), change(Step::Stop, "c")].into();
        let changes = Changes { vms: 5, done: Vec::new(), left };
        let text = changes.show(true, false).expect("a text");
        assert_eq!(
            text,
            "create   a\ncreate   b\nstop     c\nof 5 VMs in the file: would be 2 created, 1 asked to end\n"
        );
        let json = changes.show(false, true).expect("JSON");
        assert!(
            json.starts_with("{\"dry_run\":false,\"vms\":5,\"changes\":[{\"step\":\"create\",\"vm\":\"a\"},"),
            "{json}"
        );
        let fleet = crate::fleet::parse("[tenant.blue]\nvms = 4\n").expect("a fleet");
        let set = |told: &Told| Change { step: Step::Set, vm: String::new(), member: None, told: Some(told.clone()) };
        let left = fleet.tenants.iter().map(set).collect();
        let quotas = Changes { vms: 0, done: Vec::new(), left };
        let dry = quotas.show(true, false).expect("a text");
        assert_eq!(dry, "tenant set blue --vms 4\nwould be 1 quotas set\n");
        let json = quotas.show(false, true).expect("JSON");
        assert!(json.ends_with("\"changes\":[{\"step\":\"set\",\"vm\":null,\"tenant\":\"blue\"}]}\n"), "{json}");
        let none = Changes { vms: 5, done: Vec::new(), left: VecDeque::new() };
        assert_eq!(none.show(false, false), Ok("5 VMs are as the file says\n".to_string()));
    }
}
