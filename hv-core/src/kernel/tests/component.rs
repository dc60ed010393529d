//! Fake components: they answer as they should, until a misdeed is due.

use super::roles::{Disk, Net, Pager, Role, Sched};
use super::swap_role::Swap;
use crate::trap::{Trap, UserContext};
use abi::component::{ComponentInfo, bits, syscall};
use abi::limits::Name;
use abi::message::Message;
use backend::fake::Wires;
use ring::{Consumer, Producer, SharedMemory};
use std::collections::VecDeque;

/// How a component goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// An exception.
    Fault,
    /// It gives up.
    Exit,
    /// It never waits again.
    Spin,
    /// It waits for nothing, and never looks at its rings again.
    Sleep,
    /// It waits for everything, and never looks at its rings again.
    Ignore,
    /// It waits only for what is past.
    SpinPast,
    /// It says so many lines between two waits, and does nothing else.
    Flood(u8),
    /// It writes this into its ring instead of an answer, and goes on.
    Lie(u32, [u64; 3]),
    /// It spoils the words of its rings' headers, and goes on.
    Corrupt(u64),
    /// It asks for what it may not have, and goes on.
    Ask([u64; 4]),
}

/// A misdeed that comes when the component has taken so many more messages (or, for one that waits, at its next turn).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub after: u32,
    pub what: Misdeed,
}

/// One component, as it is in ring 3.
pub struct FakeComponent {
    pub role: Role,
    /// Rings from and to the core: memory, slots, the notification bit.
    pub inbox: (SharedMemory, u32, u64),
    pub outbox: (SharedMemory, u32, u64),
    /// Address of its first instruction.
    pub entry: u64,
    pub kicks: Option<SharedMemory>,
    ends: Option<(Consumer<SharedMemory>, Producer<SharedMemory>)>,
    pub due: Option<Due>,
    /// Its information page, from which it learns its policy; and what the policy of this name always does.
    pub info: Option<SharedMemory>,
    pub flaw: Option<(&'static str, Due)>,
    /// Lines that it has said since it waited.
    said: u32,
    /// What it does for good, once it has begun to.
    stuck: Option<Misdeed>,
    /// Messages that did not fit.
    unsent: VecDeque<Message>,
    /// System calls that it still has to make: number and arguments.
    calls: VecDeque<[u64; 4]>,
    /// What each of its system calls has returned since its start.
    pub returned: Vec<u64>,
    /// TSC at which it wants to be woken at the latest.
    pub deadline: u64,
}

impl FakeComponent {
    pub fn new(
        role: Role,
        inbox: (SharedMemory, u32, u64),
        outbox: (SharedMemory, u32, u64),
        entry: u64,
        kicks: Option<SharedMemory>,
    ) -> Self {
        FakeComponent {
            role,
            inbox,
            outbox,
            entry,
            kicks,
            ends: None,
            due: None,
            info: None,
            flaw: None,
            said: 0,
            stuck: None,
            unsent: VecDeque::new(),
            calls: VecDeque::new(),
            returned: Vec::new(),
            deadline: u64::MAX,
        }
    }

    /// Whether nothing that it says still waits for space in its ring.
    pub fn has_said_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Messages of the core that it has not taken yet. Nothing can be said of one that was not run since its start.
    pub fn is_informed(&mut self) -> bool {
        self.stuck.is_none()
            && self.due.is_none()
            && self.ends.as_mut().is_some_and(|(inbox, _)| matches!(inbox.available(), Ok(0)))
    }

    /// Run until the next trap.
    pub fn run(&mut self, context: &mut UserContext, wires: &Wires) -> Trap {
        if context.rip == self.entry {
            self.begin();
            context.rip += 16;
        } else {
            self.returned.push(context.rax);
            self.role.woken(context.rax, self.kicks.as_ref(), &mut self.calls);
        }
        if let Some(what) = self.stuck {
            return self.misbehave(what, context, wires);
        }
        if let Some(trap) = self.work(context, wires) {
            return trap;
        }
        self.wait(context, wires)
    }

    fn begin(&mut self) {
        let (from, to) = (&self.inbox, &self.outbox);
        let inbox = Consumer::attach_contiguous(&from.0, from.1).expect("a ring");
        let outbox = Producer::attach_contiguous(&to.0, to.1).expect("a ring");
        self.ends = Some((inbox, outbox));
        self.stuck = None;
        self.unsent.clear();
        self.calls.clear();
        self.returned.clear();
        self.role.forget();
        if let Some((name, due)) = self.flaw
            && self.policy() == name
        {
            self.due = Some(due);
        }
    }

    /// The policy that it runs, by its information page.
    pub fn policy(&self) -> String {
        let mut name = Name::EMPTY;
        if let Some(info) = &self.info {
            info.read(core::mem::offset_of!(ComponentInfo, policy), &mut name.0).expect("a page");
        }
        name.as_str().to_owned()
    }

    /// Take what the core says, and answer. A trap on the way, if a misdeed makes one.
    fn work(&mut self, context: &mut UserContext, wires: &Wires) -> Option<Trap> {
        loop {
            if let Some(Due { after: 0, what }) = self.due {
                self.due = None;
                self.stuck = Some(what);
                return Some(self.misbehave(what, context, wires));
            }
            let (inbox, _) = self.ends.as_mut()?;
            // The first look after a restart of the core's end takes note of the epoch.
            let message = inbox.pop().or_else(|_| inbox.pop()).ok().flatten();
            let Some(message) = message else { break };
            if let Some(due) = &mut self.due {
                due.after -= 1;
            }
            self.role.told(&message, &mut self.unsent);
        }
        self.role.plan(&mut self.unsent, self.ends.as_mut().map_or(0, |(_, outbox)| outbox.in_flight().unwrap_or(0)));
        self.send();
        None
    }

    fn send(&mut self) {
        let Some((_, outbox)) = &mut self.ends else { return };
        while let Some(message) = self.unsent.front() {
            if outbox.push(message).or_else(|_| outbox.push(message)).is_err() {
                break;
            }
            self.unsent.pop_front();
        }
    }

    fn wait(&mut self, context: &mut UserContext, wires: &Wires) -> Trap {
        if let Some([number, a, b, c]) = self.calls.pop_front() {
            return call(context, [number, a, b, c]);
        }
        let devices = 0xffff << bits::IRQ_SHIFT | bits::KICK | bits::PORT_IRQ;
        // What did not fit is tried again soon.
        let deadline = if self.unsent.is_empty() { self.deadline } else { wires.now() + 1000 };
        self.deadline = u64::MAX;
        call(context, [syscall::WAIT, self.inbox.2 | self.outbox.2 | devices, deadline, 0])
    }

    fn misbehave(&mut self, what: Misdeed, context: &mut UserContext, wires: &Wires) -> Trap {
        match what {
            Misdeed::Fault => return Trap::Exception(14, 6, 0xdead),
            Misdeed::Exit => return call(context, [syscall::EXIT, 3, 0, 0]),
            Misdeed::Spin => {
                // Until the timer interrupts it.
                wires.spend_undisturbed(1_000_000);
                return wires.take().map_or_else(|| call(context, [syscall::NOP, 0, 0, 0]), Trap::Interrupt);
            }
            Misdeed::SpinPast => {
                wires.spend_undisturbed(2_000);
                let interrupt = wires.take().map(Trap::Interrupt);
                let until = wires.now();
                return interrupt.unwrap_or_else(|| call(context, [syscall::WAIT, u64::MAX, until, 0]));
            }
            Misdeed::Ignore => return call(context, [syscall::WAIT, u64::MAX, u64::MAX, 0]),
            Misdeed::Flood(lines) => {
                wires.spend_undisturbed(2_000);
                self.said = (self.said + 1) % (u32::from(lines) + 1);
                if self.said == 0 {
                    return call(context, [syscall::WAIT, 0, wires.now() + 100_000, 0]);
                }
                return call(context, [syscall::LOG, 3, abi::component::layout::IMAGE_BASE, 10]);
            }
            Misdeed::Sleep => return call(context, [syscall::WAIT, 0, u64::MAX, 0]),
            Misdeed::Lie(kind, [a, b, c]) => {
                if let Role::Net(net) = &mut self.role {
                    net.lied |= matches!(kind, 0x311 | 0x314);
                }
                if let Role::Disk(disk) = &mut self.role {
                    disk.lied |= matches!(kind, 0x711..=0x714);
                }
                self.unsent.push_front(Message::new(kind, [a, b, c]));
                self.send();
            }
            Misdeed::Corrupt(word) => {
                for (ring, at) in [(&self.inbox.0, abi::ring::HEAD), (&self.outbox.0, abi::ring::TAIL)] {
                    ring.store64(at, word).expect("a header");
                }
            }
            Misdeed::Ask(arguments) => {
                self.stuck = None;
                return call(context, arguments);
            }
        }
        self.stuck = None;
        self.wait(context, wires)
    }

    pub fn net(&self) -> &Net {
        match &self.role {
            Role::Net(net) => net,
            _ => panic!("not the demultiplexer"),
        }
    }

    pub fn pager(&self) -> &Pager {
        match &self.role {
            Role::Pager(pager) => pager,
            _ => panic!("not the pager"),
        }
    }

    pub fn swap(&self) -> &Swap {
        match &self.role {
            Role::Swap(swap) => swap,
            _ => panic!("not swap"),
        }
    }

    pub fn disk(&self) -> &Disk {
        match &self.role {
            Role::Disk(disk) => disk,
            _ => panic!("not the striper"),
        }
    }

    pub fn sched(&self) -> &Sched {
        match &self.role {
            Role::Sched(sched) => sched,
            _ => panic!("not the scheduler"),
        }
    }
}

fn call(context: &mut UserContext, [number, a, b, c]: [u64; 4]) -> Trap {
    context.rax = number;
    context.rdi = a;
    context.rsi = b;
    context.rdx = c;
    Trap::Syscall
}
