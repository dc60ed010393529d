//! Completing what somebody types: which words can stand there, what all of them begin with, and how they are listed.

use crate::grammar::{Kind, next, words};
use crate::node::Node;
use crate::query::STOPPED;
use crate::walk::Walk;
use crate::{disks, images, policies, show, tenants};
use abi::control::vm_state;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Words that are offered at most.
const MOST: usize = 100;
const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];

/// What can stand at the end of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Whole words, in their order, [`MOST`] at most.
    words: Vec<String>,
    /// How many there are.
    all: usize,
    /// What all of them begin with, behind what was typed.
    pub more: String,
}

impl Offered {
    /// Of those words that begin like what was typed.
    fn of(begun: &str, all: impl IntoIterator<Item = String>) -> Offered {
        let mut words: BTreeSet<String> = BTreeSet::new();
        let (mut count, mut common): (usize, Option<String>) = (0, None);
        for word in all.into_iter().filter(|word| word.starts_with(begun)) {
            let len = match &common {
                Some(common) => {
                    common.chars().zip(word.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
                }
                None => word.len(),
            };
            common = word.get(..len).map(ToString::to_string);
            if words.insert(word) {
                count += 1;
            }
            if words.len() > MOST {
                words.pop_last();
            }
        }
        let mut more = common.and_then(|common| common.get(begun.len()..).map(ToString::to_string)).unwrap_or_default();
        if count == 1 {
            more.push(' ');
        }
        Offered { words: words.into_iter().collect(), all: count, more }
    }

    /// Whether there is more than one word.
    pub fn is_ambiguous(&self) -> bool {
        self.all > 1
    }

    /// All words, in columns of a window of so many.
    pub fn list(&self, columns: usize) -> String {
        let widest = self.words.iter().map(String::len).max().unwrap_or(0) + 2;
        let across = (columns / widest).max(1);
        let mut text = String::new();
        for row in self.words.chunks(across) {
            let row: String = row.iter().map(|word| format!("{word:widest$}")).collect();
            text.push_str(row.trim_end());
            text.push('\n');
        }
        if self.all > self.words.len() {
            text.push_str(&format!("and {} more\n", self.all - self.words.len()));
        }
        text
    }
}

/// What can stand at the end of this line.
pub async fn complete(node: &Node, line: &str) -> Offered {
    let (done, begun) = words(line);
    let next = next(line);
    let mut all: Vec<String> = next.words.iter().map(ToString::to_string).collect();
    if done.is_empty() && !line.contains("&&") {
        all.push("exit".to_string());
    }
    if let Some(kind) = next.names {
        all.extend(names(node, kind, &done, begun).await);
    }
    Offered::of(begun, all)
}

/// Names of a kind. Where something does not answer, there are none.
async fn names(node: &Node, kind: Kind, done: &[&str], begun: &str) -> Vec<String> {
    match kind {
        Kind::Name => named(node, begun),
        Kind::Vm => vms(node, begun).await,
        Kind::State => {
            let states = (vm_state::WAITING..=vm_state::PAUSED).map(abi::words::state_word).chain([STOPPED]);
            states.filter(|word| *word != "unknown").map(ToString::to_string).collect()
        }
        Kind::Level => LEVELS.map(ToString::to_string).to_vec(),
        Kind::Image => images::names(node, begun).await,
        Kind::Disk => column(disks::list(node, false).await, 0),
        Kind::Tenant => column(tenants::list(node, false).await, 0),
        Kind::Component => column(show::components(node, false).await, 0),
        Kind::Policy => column(policies::list(node, done.last().copied(), false).await, 1),
        Kind::Token => node.tokens.borrow().iter().map(|(name, _)| name.to_string()).collect(),
        Kind::Who => {
            let mut all = column(show::components(node, false).await, 0);
            all.push("core".to_string());
            all.extend(vms(node, begun).await);
            all
        }
    }
}

/// VMs that have a name that begins like that.
fn named(node: &Node, begun: &str) -> Vec<String> {
    let names = node.names.borrow();
    names.beginning(begun, "").map(|(name, _)| name.to_string()).collect()
}

/// The same, and VMs that run, by their ids, where that is what was begun.
async fn vms(node: &Node, begun: &str) -> Vec<String> {
    let mut all = named(node, begun);
    let by_id = begun.starts_with("vm") || "vm".starts_with(begun);
    let mut walk = Walk::vms(node, 0);
    while by_id && all.len() <= MOST {
        let vms = walk.next().await.unwrap_or_default();
        if vms.is_empty() {
            break;
        }
        for vm in vms {
            // One with a name goes by that, unless somebody asks for its id.
            let id = vm.id.to_string();
            if id.starts_with(begun) && (!begun.is_empty() || node.names.borrow().of(vm.id).is_none()) {
                all.push(id);
            }
        }
    }
    all
}

/// A column of a list as people see it, without its head.
fn column(list: Result<String, String>, at: usize) -> Vec<String> {
    let list = list.unwrap_or_default();
    list.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(at)).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(begun: &str, words: &[&str]) -> Offered {
        Offered::of(begun, words.iter().map(ToString::to_string))
    }

    #[test]
    fn as_much_is_added_as_all_have() {
        assert_eq!(offered("web-1", &["web-17", "web-2"]).more, "7 ");
        assert_eq!(offered("w", &["web-17", "web-2", "other"]).more, "eb-");
        assert_eq!(offered("web-", &["web-17", "web-2"]).more, "");
        assert_eq!(offered("", &["b", "a"]).more, "");
        assert_eq!(offered("x", &["b", "a"]), Offered::default());
        assert_eq!(offered("vm", &["vm"]).more, " ");
        assert_eq!(offered("g", &["gr\u{fc}n", "gr\u{fa}n"]).more, "r", "characters are not divided");
    }

    #[test]
    fn they_are_listed_in_columns() {
        let both = offered("", &["start", "stop", "list"]);
        assert!(both.is_ambiguous());
        assert_eq!(both.list(80), "list   start  stop\n");
        assert_eq!(both.list(1), "list\nstart\nstop\n");
        let many: Vec<String> = (0..1000).map(|number| format!("web-{number}")).collect();
        let many = Offered::of("web", many);
        assert!(many.list(20).ends_with("and 900 more\n") && many.list(20).lines().count() == 51);
        assert_eq!(many.more, "-");
    }

    #[test]
    fn the_names_of_a_list_stand_in_front() {
        let list = Ok("NAME  VMS\na  1\nb  2\n".to_string());
        assert_eq!(column(list, 0), ["a", "b"]);
        assert_eq!(column(Err("no".to_string()), 0), Vec::<String>::new());
    }
}
