//! Consoles of VMs for controllers: what was said is read, and what is typed is put into the guest's input ring. Nothing is kept for anybody but
//! what [`crate::vm::Watches`] has; a position says how far a controller has read, so one that starts anew asks for the earliest that is there.

use super::control::status_of_piece;
use crate::board::Board;
use crate::component::{BadPiece, EndpointId};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Console, NoWatch, Vm};
use abi::control::{ControlReply, status};
use abi::guest::{INPUT_BYTES, pending};
use abi::limits::{WATCH_SECONDS, WATCHES};
use abi::request_page::Piece;
use abi::vm::VmId;
use backend::Backend;

/// No console has said so much: whoever asks from there on has not read before, or lies.
const NEVER_REACHED: u64 = 1 << 62;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Write what the console of a VM has said from a position on into the request page of this endpoint, which watches it from now on.
    pub fn read_console(&mut self, of: EndpointId, id: VmId, from: u64, to: Piece) -> ControlReply {
        let Self { vms, cpu, .. } = self;
        let now = cpu.board.now();
        if cpu.watches.expire(&mut cpu.frames, now) {
            cpu.has_more_room();
        }
        let Some(range) = to.range().filter(|range| !range.is_empty()) else { return done(status::BAD_REQUEST, 0) };
        let absent = vms.waiting(id).is_some() || vms.out(id).is_some();
        let vm = vms.by_id(id).filter(|vm| !vm.life.is_ending());
        let lives = absent || vm.is_some();
        let Some(page) = cpu.endpoints.get(of).and_then(|party| party.page) else {
            return done(status::BAD_REQUEST, 0);
        };
        if cpu.watches.of(id).is_none() {
            if !lives {
                return done(status::NOT_FOUND, 0);
            }
            // Who had read before has lost an unknown part meanwhile: one byte at least.
            let began = if from < NEVER_REACHED { from + 1 } else { 0 };
            match cpu.watches.begin(&mut cpu.frames, id, began) {
                Ok(watch) => {
                    if let Some(body) = vm.and_then(|vm| vm.life.body()) {
                        body.console.replay(body.registers.memory(), watch);
                        watch.hush();
                    }
                }
                Err(NoWatch::Taken) => return done(status::CONSOLES_TAKEN, WATCHES as u64),
                Err(NoWatch::Frames) => return done(status::NO_FRAMES, cpu.frames.spare()),
            }
        }
        let Some(watch) = cpu.watches.of(id) else { return done(status::NOT_FOUND, 0) };
        watch.note(of, now.saturating_add(cpu.time.milliseconds(WATCH_SECONDS * 1000)));
        let stretch = watch.find(from, range.len());
        if stretch.len == 0 && !lives {
            return done(status::NOT_FOUND, 0);
        }
        watch.copy(stretch, &page, range.start);
        let bytes = u32::try_from(stretch.len).unwrap_or(0);
        ControlReply::Console { vm: id, next: stretch.from + u64::from(bytes), missed: stretch.missed, bytes }
    }

    /// Put what lies in the request page of this endpoint into the input ring of a VM's console.
    pub fn write_console(&mut self, of: EndpointId, id: VmId, from: Piece) -> ControlReply {
        let mut bytes = heapless::Vec::<u8, INPUT_BYTES>::new();
        let copied = self.cpu.endpoints.get(of).map_or(Err(BadPiece::Outside), |party| party.copy_in(from, &mut bytes));
        if let Err(why) = copied {
            return done(status_of_piece(why), 0);
        }
        let Self { vms, cpu, .. } = self;
        if let Some(vm) = vms.by_id(id) {
            if vm.life.is_ending() {
                return done(status::NOT_FOUND, 0);
            }
            // What is stored of one that goes out was perhaps copied already.
            let leaves = vm.life.is_leaving();
            let taken = match vm.life.body_mut() {
                Some(body) if !leaves => body.console.type_in(body.registers.memory(), &bytes),
                _ => 0,
            };
            if taken != 0 || leaves {
                cpu.raise(vm, pending::CONSOLE_INPUT);
            }
            return done(status::OK, taken as u64);
        }
        if vms.waiting(id).is_some() {
            return done(status::OK, 0);
        }
        if !self.can_come_in(id) {
            return done(status::BUSY, 0);
        }
        // One that is out comes in; there is a ring for the bytes then.
        let found = self.raise(id, pending::CONSOLE_INPUT);
        done(if found { status::OK } else { status::NOT_FOUND }, 0)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Show what a VM has put into its console ring: in the log, and to those who watch it.
    pub fn show_console(&mut self, vm: &mut Vm<B>) {
        let id = vm.id;
        if let Some(body) = vm.life.body_mut() {
            self.show_console_of(id, &mut body.console);
        }
    }

    /// The same of one whose body was taken out.
    pub fn show_console_of(&mut self, id: VmId, console: &mut Console) {
        let now = self.board.now();
        if self.watches.is_empty() {
            return console.drain(id, now, self.time.tsc_hz(), None);
        }
        console.drain(id, now, self.time.tsc_hz(), self.watches.of(id));
        if self.watches.has_news() {
            self.attention.set_callers();
        }
    }

    /// A VM has ended: whoever watches its console hears of it.
    pub fn end_console(&mut self, id: VmId) {
        self.watches.note_end(id);
        if self.watches.has_news() {
            self.attention.set_callers();
        }
    }
}

const fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}
