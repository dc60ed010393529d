//! The component: rings, windows, log and system calls around a [`Pool`].

use crate::ages::{Ages, TABLES};
use crate::bundle::{Entering, LINE, Leaving, PAGE, Work};
use crate::disk::Disk;
use crate::link::{Link, Ports};
use crate::pool::Pool;
use crate::read::Buffers;
use abi::component::authority;
use abi::message::{BadMessage, Message};
use abi::note::TableBytes;
use abi::service::Service;
use abi::swap::{Bundle, KEPT_OFFSET, PAGES_AT_ONCE, SHEET_STRIDE, SwapCommand, SwapEvent, WINDOW_PAGES, tier};
use abi::swap_disk::{REPLIES, REQUESTS};
use abi::vm::VmId;
use component::{Complaints, Component, Inbox, Once, Outbox, SwapWindow, now, wait};

static WORK: Once<Work> = Once::new(Work::new());
static BUFFERS: Once<Buffers> = Once::new(Buffers::new());

/// What the component's tables take.
pub const fn tables() -> TableBytes {
    TABLES
}

/// Bytes of a sheet behind the list of pages: more than [`abi::swap::Kept`] takes, and a page at most.
// Two pages less two thousand bytes.
#[allow(clippy::cast_possible_truncation)]
const KEPT_BYTES: usize = {
    let behind = SHEET_STRIDE as usize - KEPT_OFFSET;
    if behind < PAGE { behind } else { PAGE }
};

const _: () = assert!(KEPT_BYTES.is_multiple_of(LINE) && size_of::<abi::swap::Kept>() <= KEPT_BYTES);

/// A VM in a window, as the pool puts it away and gives it back.
struct Shown(SwapWindow);

/// An index of a window's pages as a byte of the window.
fn byte(index: u32, unit: usize) -> usize {
    // Components run on 64-bit machines, and what is too large is refused by the memory.
    usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(unit)
}

impl Shown {
    /// Takes what was kept of another VM off the sheet.
    fn clear(&mut self) {
        let _ = self.0.sheet.clear(KEPT_OFFSET, KEPT_BYTES);
    }
}

impl Leaving for Shown {
    fn number(&self, index: u32) -> u32 {
        self.0.sheet.read32(byte(index, 4)).unwrap_or(0)
    }

    fn page(&self, index: u32, to: &mut [u8; PAGE]) {
        // Never beyond the window: the number of pages was looked at.
        let _ = self.0.pages.read(byte(index, PAGE), to);
    }

    fn kept(&self, to: &mut [u8; PAGE]) {
        let _ = self.0.sheet.read(KEPT_OFFSET, &mut to[..KEPT_BYTES]);
    }
}

/// One page of a window by itself.
struct Single<'a> {
    shown: &'a Shown,
    index: u32,
}

impl Leaving for Single<'_> {
    fn number(&self, _: u32) -> u32 {
        0
    }

    fn page(&self, _: u32, to: &mut [u8; PAGE]) {
        self.shown.page(self.index, to);
    }

    fn kept(&self, _: &mut [u8; PAGE]) {}
}

impl Entering for Shown {
    fn number(&mut self, index: u32, number: u32) {
        let _ = self.0.sheet.write32(byte(index, 4), number);
    }

    fn line(&mut self, index: u32, line: usize, bytes: &[u8; LINE]) {
        let _ = self.0.pages.write(byte(index, PAGE).saturating_add(line * LINE), bytes);
    }

    fn kept(&mut self, line: usize, bytes: &[u8; LINE]) {
        if line * LINE < KEPT_BYTES {
            let _ = self.0.sheet.write(KEPT_OFFSET + line * LINE, bytes);
        }
    }
}

/// What the component is.
struct Swap<W> {
    /// `None` where the machine has given it no memory.
    pool: Option<Pool>,
    work: &'static mut Work,
    disk: Disk,
    /// The windows, by number.
    windows: W,
    complaints: Complaints,
}

/// Holds VMs for the core, for ever.
///
/// # Panics
/// When the manifest gives the component no rings for the service `swap`.
pub fn run(component: &Component) -> ! {
    let info = component.info();
    let Some(work) = WORK.take() else { panic!("the memory to work in was taken") };
    let Some(buffers) = BUFFERS.take() else { panic!("the memory for blocks was taken") };
    let pool = component.pool().and_then(Pool::new);
    let ports = component.find_outbox(REQUESTS).zip(component.find_inbox(REPLIES)).zip(component.ring_data(REQUESTS));
    let link = Link::new(ports.map(|((requests, replies), data)| Ports { requests, replies, data }));
    let passes = info.authority & authority::SWAP_PASSES != 0;
    let disk = Disk::new(link, &info.seal_key, Ages::new(&mut component.tables()), buffers, info.tsc_hz, passes);
    let (mut events, mut commands) = component.service(Service::Swap);
    log::info!("incarnation={} pool_bytes={}", info.incarnation, pool.as_ref().map_or(0, |pool| pool.room().0));
    let windows = |window: u32| component.swap_window(usize::try_from(window).ok()?).map(Shown);
    let mut swap = Swap { pool, work, disk, windows, complaints: Complaints::new(info.tsc_hz) };
    loop {
        let empty = swap.serve(&mut events, &mut commands, now());
        let until = if empty { swap.disk.due() } else { 0 };
        let bell = swap.disk.bell();
        wait(events.doorbell | swap.disk.doorbell(), until, bell);
    }
}

impl<W: Fn(u32) -> Option<Shown>> Swap<W> {
    /// Answers what has come in. The core hears of it at the next wait.
    fn serve(&mut self, events: &mut Inbox, commands: &mut Outbox, now: u64) -> bool {
        let mut empty = events.drain(|message| {
            let event = match SwapEvent::try_from(message) {
                Ok(event) => event,
                Err(bad) => return self.drop_bad(bad),
            };
            if let SwapEvent::StorePages { vm, counter, pages, window, spare } = event {
                for index in 0..pages.min(PAGES_AT_ONCE) {
                    let answer = self.store_page(vm, counter.wrapping_add(index.into()), window, index, spare);
                    self.answer(commands, answer);
                }
            } else if let Some(command) = self.handle(event, now) {
                self.answer(commands, command);
            }
        });
        if let Some(pool) = &mut self.pool {
            let tell = |command| commands.stage(&Message::from(command));
            empty &= !self.disk.step(pool, self.work, now, &self.windows, tell);
        }
        commands.publish();
        empty
    }

    fn answer(&mut self, commands: &mut Outbox, command: SwapCommand) {
        if !commands.stage(&Message::from(command))
            && let Some(suppressed) = self.complaints.pass(component::now())
        {
            log::error!("swap-core takes no answers; {suppressed} such lines suppressed");
        }
    }

    /// Puts a page away by itself. It stays in the pool: where that is only the way to the disks, no page goes out.
    fn store_page(&mut self, vm: VmId, counter: u64, window: u32, index: u32, spare: bool) -> SwapCommand {
        let shown = (self.windows)(window).filter(|_| !self.disk.passes());
        let stored = shown.zip(self.pool.as_mut()).and_then(|(shown, pool)| {
            pool.store(self.work, vm, counter, &Single { shown: &shown, index }, 1, spare).ok()
        });
        stored.map_or(SwapCommand::Refused { vm, counter }, |bundle| SwapCommand::Stored {
            vm,
            bundle: Bundle { tier: tier::PAGE, ..bundle },
        })
    }

    /// The answer to an event, where there is one.
    fn handle(&mut self, event: SwapEvent, at: u64) -> Option<SwapCommand> {
        match event {
            SwapEvent::Hello => {
                self.pool.as_mut()?.clear();
                self.disk.clear();
                None
            }
            SwapEvent::Holds { bundle, .. } if bundle.is_on_disk() => None,
            SwapEvent::Holds { vm, bundle } => {
                let held = self.pool.as_mut()?.holds(&bundle);
                if let Err(damage) = held
                    && let Some(suppressed) = self.complaints.pass(now())
                {
                    log::warn!("what is held of {vm} is damaged: {damage}; {suppressed} such lines suppressed");
                }
                if held.is_ok() && bundle.tier == tier::POOL {
                    self.disk.note(vm, &bundle);
                }
                None
            }
            SwapEvent::Store { vm, counter, pages, window, spare } => {
                let stored = self.store(vm, counter, pages, window, spare);
                Some(stored.map_or(SwapCommand::Refused { vm, counter }, |bundle| SwapCommand::Stored { vm, bundle }))
            }
            // It has an answer for each page.
            SwapEvent::StorePages { .. } => None,
            SwapEvent::Load { vm, bundle, window } => self.load(vm, &bundle, window, at),
            SwapEvent::Forget { vm, bundle } => {
                if bundle.tier != tier::PAGE {
                    self.disk.forget(vm, &bundle);
                }
                if bundle.is_on_disk() {
                    return None;
                }
                // One that is not there any more, or is damaged, is no use to anybody either.
                self.pool.as_mut()?.forget(&bundle);
                None
            }
        }
    }

    /// Puts a VM away; `None` where there is no room for it, there or where it is to go on to, or no such window.
    fn store(&mut self, vm: VmId, counter: u64, pages: u32, window: u32, spare: bool) -> Option<Bundle> {
        let shown = (self.windows)(window).filter(|_| byte(pages, 1) <= WINDOW_PAGES)?;
        let pool = self.pool.as_mut()?;
        let bundle = pool.store(self.work, vm, counter, &shown, pages, spare).ok()?;
        if !self.disk.takes(vm, &bundle) {
            pool.forget(&bundle);
            return None;
        }
        self.disk.note(vm, &bundle);
        Some(bundle)
    }

    /// Gives a VM back. `None` when that is said later.
    fn load(&mut self, vm: VmId, bundle: &Bundle, window: u32, at: u64) -> Option<SwapCommand> {
        let shown = (self.windows)(window).filter(|_| byte(bundle.pages, 1) <= WINDOW_PAGES);
        let (Some(mut shown), Some(pool)) = (shown, &mut self.pool) else {
            return Some(SwapCommand::Damaged { vm, counter: bundle.counter });
        };
        shown.clear();
        if bundle.is_on_disk() {
            self.disk.read(vm, *bundle, byte(window, 1), at);
            return None;
        }
        Some(match pool.load(self.work, vm, bundle, &mut shown) {
            Ok(()) => SwapCommand::Loaded { vm, counter: bundle.counter },
            Err(damage) => {
                if let Some(suppressed) = self.complaints.pass(now()) {
                    log::error!("what was held of {vm} is lost: {damage}; {suppressed} such lines suppressed");
                }
                SwapCommand::Damaged { vm, counter: bundle.counter }
            }
        })
    }

    #[cold]
    fn drop_bad(&mut self, bad: BadMessage) {
        if let Some(suppressed) = self.complaints.pass(now()) {
            log::warn!("dropped a {bad}; {suppressed} such lines suppressed");
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
