//! Virtual time: what `stride` and `fair` have in common.
//!
//! Each VM has a *pass*, which grows by the time that it runs divided by its weight; the least is planned next. The plan is ahead of the core, so a VM
//! is charged a whole quantum when it is named; when it blocks, what it was named for is replaced by what it ran. *Now* is the pass of
//! whoever was named last, and never goes back.

use crate::vms::{Known, Seated, Vms};
use crate::{Oddity, PLAN_DEPTH};
use abi::share::WEIGHT_MAX;
use abi::vm::{Seat, VmId};
use component::{Heap, Tables};
use core::cmp::Ordering;

/// Bits by which a pass is finer than ticks of a VM of weight 1, so that the division by a weight costs no precision to speak of. Together with
/// the ticks of centuries they fit 128 bits.
const FINER: u32 = 20;

/// How far a pass is ahead of or behind *now* at most in the heap, which compares the low halves of passes only. With weight 1 it is the CPU's time of
/// a quarter of an hour, with the usual weight that of a day; nobody owes as much, as no more than [`PLAN_DEPTH`] quanta are charged at once.
const FURTHEST: u128 = 1 << 62;

/// Passes of VMs.
#[derive(Debug)]
pub struct VirtualTime {
    vms: Vms<Account>,
    ready: Heap<Key>,
    now: u128,
    quantum_ticks: u64,
}

/// What is kept of a VM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Of a VM that can run: the pass that it had when it became ready. Of one that cannot: its pass.
    pass: u128,
    /// By how much its pass grows in a quantum.
    charge: u64,
    /// Within its limits, and 0 of a VM that is not known to have any.
    weight: u16,
    /// It can run: it is in the heap.
    ready: bool,
}

/// The low half of a pass. Those in the heap are all within [`FURTHEST`] of *now*: so that one comes before another whose difference from it is less
/// than half of what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key(u64);

impl Key {
    // The low half is what is meant.
    #[allow(clippy::cast_possible_truncation)]
    #[inline]
    fn of(pass: u128) -> Key {
        Key(pass as u64)
    }

    /// By how much it is ahead of `other`.
    #[inline]
    fn ahead_of(self, other: Key) -> i64 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// The pass whose low half it is, when that is near `now`.
    #[inline]
    fn pass(self, now: u128) -> u128 {
        now.saturating_add_signed(self.ahead_of(Key::of(now)).into())
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.ahead_of(*other).cmp(&0)
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By how much the pass of a VM of this weight grows in so many ticks.
#[inline]
pub fn way(ticks: u64, weight: u16) -> u128 {
    match ticks.checked_mul(1 << FINER) {
        Some(fine) => (fine / u64::from(weight.max(1))).into(),
        None => far(ticks, weight),
    }
}

/// The same where the ticks are those of hours.
#[cold]
#[inline(never)]
fn far(ticks: u64, weight: u16) -> u128 {
    (u128::from(ticks) << FINER) / u128::from(weight.max(1))
}

impl Account {
    /// In how many ticks its pass comes to `now`, where it is behind that; no more than `most`.
    #[inline]
    pub fn behind(&self, now: u128, most: u64) -> u64 {
        let behind = now.saturating_sub(self.pass);
        if behind >= way(most, self.weight) {
            return most;
        }
        // No more than what has just been compared.
        u64::try_from((behind * u128::from(self.weight)) >> FINER).unwrap_or(most)
    }

    /// It can run: its pass is the one that it had when it became ready.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Its pass.
    #[inline]
    pub fn pass(&self) -> u128 {
        self.pass
    }
}

impl VirtualTime {
    /// What it takes of [`abi::note::TableBytes::per_seat`].
    pub const SEAT_BYTES: u32 = Vms::<Account>::SEAT_BYTES + Heap::<Key>::SEAT_BYTES;

    /// Knows no VMs.
    pub fn new(tables: &mut Tables) -> Self {
        VirtualTime { vms: Vms::new(tables), ready: Heap::new(tables), now: 0, quantum_ticks: 0 }
    }

    /// Forgets all VMs. Quanta are `quantum_ticks` ticks of the TSC from now on.
    pub fn reset(&mut self, quantum_ticks: u64) {
        self.vms.clear();
        self.ready.clear();
        self.now = 0;
        self.quantum_ticks = quantum_ticks;
    }

    /// The pass of whoever was named last.
    #[inline]
    pub fn now(&self) -> u128 {
        self.now
    }

    /// Nobody can run: it is `now`, or what it is already when that is later. Nothing happens while somebody can.
    #[inline]
    pub fn rest(&mut self, now: u128) {
        if self.ready.is_empty() {
            self.now = self.now.max(now);
        }
    }

    /// The quantum in ticks of the TSC.
    #[inline]
    pub fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    /// How many VMs can run.
    #[inline]
    pub fn runnable(&self) -> u32 {
        // At most as many as there are seats.
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }

    /// A VM whose account is here.
    #[inline]
    pub fn at(&mut self, seat: Seat) -> (VmId, &mut Account) {
        self.vms.at(seat)
    }

    /// `vm` can run. Where it slept, it goes on from its own pass, but not from further behind than `owed_ticks` of its own. Returns who was known
    /// in its seat.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have.
    #[inline]
    pub fn ready(&mut self, vm: Seated, weight: u16, owed_ticks: u64) -> Result<Known, Oddity> {
        let (known, account) = self.vms.look(vm)?;
        let weight = weight.clamp(1, WEIGHT_MAX);
        let charge = u64::try_from(way(self.quantum_ticks, weight).min(FURTHEST)).unwrap_or(0);
        if known == Known::Same {
            let mut account = Account { weight, charge, ..account };
            if !account.ready {
                account.ready = true;
                let (from, to) = (way(owed_ticks, weight).min(FURTHEST), FURTHEST);
                account.pass = account.pass.clamp(self.now.saturating_sub(from), self.now + to);
                self.ready.set(vm.seat, Key::of(account.pass));
            }
            self.vms.set(vm, account);
            return Ok(known);
        }
        // Behind those that are there: whoever ends and comes again and again gains nothing by that.
        let pass = self.now + u128::from(charge);
        self.vms.set(vm, Account { pass, charge, weight, ready: true });
        self.ready.set(vm.seat, Key::of(pass));
        // Whoever had the seat before is gone, even if nobody said so.
        Ok(known)
    }

    /// `vm` no longer can run, after `ran_ticks` since it was ready: what it was charged for meanwhile is replaced by that. What is kept of it now.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have, [`Oddity::UnknownVm`] when another one has its seat.
    #[inline]
    pub fn blocked(&mut self, vm: Seated, ran_ticks: u64) -> Result<Account, Oddity> {
        let (known, account) = self.vms.look(vm)?;
        let pass = match known {
            Known::Other => return Err(Oddity::UnknownVm(vm.id)),
            Known::Nobody => self.now,
            Known::Same => match self.ready.remove(vm.seat) {
                Some(charged) => self.settled(account, charged.pass(self.now), ran_ticks),
                None => account.pass,
            },
        };
        let account = Account { pass, ready: false, ..account };
        self.vms.set(vm, account);
        Ok(account)
    }

    /// The pass of a VM that was charged up to `charged`, and ran `ran_ticks` since it became ready. What it was charged for but did
    /// not run is at most what was planned; and a VM that the core ran without a plan pays back no more than that.
    #[inline]
    fn settled(&self, account: Account, charged: u128, ran_ticks: u64) -> u128 {
        let most = u128::from(account.charge) * u128::from(PLAN_DEPTH);
        (account.pass + way(ran_ticks, account.weight)).clamp(charged.saturating_sub(most), charged + most)
    }

    /// `vm` is gone. Whether it was known.
    pub fn ended(&mut self, vm: Seated) -> bool {
        let known = self.vms.forget(vm).is_some();
        if known {
            self.ready.remove(vm.seat);
        }
        known
    }

    /// Who has the least pass, and is charged a quantum now, or a part of one: of 2^`log2` parts.
    #[inline]
    pub fn next(&mut self, log2: u32) -> Option<VmId> {
        let (seat, key) = self.ready.first()?;
        let (vm, account) = self.vms.at(seat);
        let ahead = key.ahead_of(Key::of(self.now));
        if let Ok(ahead @ 1..) = u64::try_from(ahead) {
            self.now += u128::from(ahead);
        }
        self.ready.put_back(Key(key.0.wrapping_add(account.charge >> log2)));
        Some(vm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_cpu::{QUANTUM, vm, vm_of};
    use abi::note::TableBytes;

    fn time() -> VirtualTime {
        let bytes = TableBytes { per_seat: VirtualTime::SEAT_BYTES, ..TableBytes::NONE };
        let mut time = VirtualTime::new(&mut Tables::on_heap(bytes, 0, 8));
        time.reset(QUANTUM);
        time
    }

    #[test]
    fn ticks_are_the_way_back() {
        for weight in [1, 3, 100, WEIGHT_MAX] {
            let account = |pass| Account { pass, weight, ..Account::default() };
            for ticks in [12_345, 1 << 44, 1 << 60] {
                let off = account(0).behind(way(ticks, weight), u64::MAX).abs_diff(ticks);
                assert!(off <= 1, "{ticks} with weight {weight}: off by {off}");
            }
            assert_eq!(account(0).behind(way(12_345, weight), 500), 500);
            assert_eq!(account(0).behind(u128::MAX, u64::MAX), u64::MAX);
            assert_eq!(account(10).behind(5, 500), 0);
        }
        assert_eq!(way(7, 0), way(7, 1), "nobody's weight is 0");
    }

    #[test]
    fn low_halves_are_in_order_across_their_end() {
        for now in [0, 5, 1_u128 << 63, (1 << 64) - 3, (77 << 64) + 3, u128::MAX >> 1] {
            let passes: Vec<u128> = [FURTHEST, 2, 0].iter().map(|by| now.saturating_sub(*by)).collect();
            let passes: Vec<u128> = passes.into_iter().chain([1, 7, FURTHEST].map(|by| now + by)).collect();
            for pair in passes.windows(2) {
                assert!(Key::of(pair[0]) <= Key::of(pair[1]) && Key::of(pair[1]) >= Key::of(pair[0]), "{pair:?}");
                assert_eq!(pair[0] == pair[1], Key::of(pair[0]) == Key::of(pair[1]));
            }
            assert!(passes.iter().all(|&pass| Key::of(pass).pass(now) == pass));
        }
    }

    #[test]
    fn centuries_later_all_is_as_ever() {
        let (mut time, quantum) = (time(), 1 << 34);
        time.reset(quantum);
        for slot in 0..2 {
            time.ready(vm(slot), 100, 0).expect("good");
            time.blocked(vm(slot), 0).expect("known");
        }
        time.rest(way(3_000_000_000 * 86_400 * 365, 1) * 300 - 5);
        for _ in 0..40 {
            // Longer than a low half.
            let now = time.now() + (7 << 62);
            time.rest(now);
            time.ready(vm(1), 1, 4 * quantum).expect("good");
            time.ready(vm(0), 100, 0).expect("good");
            assert_eq!(time.at(Seat::new(1)).1.behind(now, u64::MAX), 4 * quantum);
            let named: Vec<u32> = (0..5).filter_map(|_| time.next(0)).map(|vm| vm.slot.number()).collect();
            assert_eq!((named, time.now()), (vec![1, 1, 1, 1, 0], now));
            time.blocked(vm(1), 4 * quantum).expect("known");
            time.blocked(vm(0), quantum).expect("known");
            assert_eq!(time.at(Seat::new(1)).1.pass(), now);
        }
    }

    #[test]
    fn equals_take_turns() {
        let mut time = time();
        for slot in 0..2 {
            time.ready(vm(slot), 100, 0).expect("good");
        }
        let named: Vec<u32> = (0..6).filter_map(|_| time.next(0)).map(|vm| vm.slot.number()).collect();
        assert_eq!(named, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn parts_of_a_quantum_are_charged_as_such() {
        let mut time = time();
        for slot in 0..2 {
            time.ready(vm(slot), 100, 0).expect("good");
        }
        let whole = time.next(0).expect("two can run");
        let parts: Vec<VmId> = (0..8).filter_map(|_| time.next(3)).collect();
        assert_eq!(parts, [if whole == vm(0).id { vm(1).id } else { vm(0).id }; 8]);
        // Both have had one now.
        let turns: Vec<VmId> = (0..2).filter_map(|_| time.next(0)).collect();
        assert_ne!(turns[0], turns[1]);
    }

    #[test]
    fn a_sleeper_is_behind_as_far_as_is_said() {
        let mut time = time();
        for slot in 0..2 {
            time.ready(vm(slot), 100, 0).expect("good");
        }
        let own = time.blocked(vm(1), 0).expect("known").pass();
        for _ in 0..9 {
            time.next(0);
        }
        let now = time.now();
        assert!(now > own + way(5 * QUANTUM, 100));
        time.ready(vm(1), 100, 5 * QUANTUM).expect("good");
        assert_eq!(time.at(Seat::new(1)).1.pass(), now - way(5 * QUANTUM, 100));
        time.blocked(vm(1), 0).expect("known");
        time.ready(vm(1), 100, u64::MAX).expect("good");
        assert_eq!(time.at(Seat::new(1)).1.pass(), now - way(5 * QUANTUM, 100), "that is its own");
    }

    #[test]
    fn a_seat_has_one_account_at_a_time() {
        let mut time = time();
        assert_eq!(time.ready(vm(1), 100, 0), Ok(Known::Nobody));
        assert_eq!(time.ready(vm(1), 300, 0), Ok(Known::Same));
        assert_eq!(time.at(Seat::new(1)).1.weight, 300, "at once, though it was ready already");
        assert_eq!(time.ready(vm_of(1, 2), 100, 0), Ok(Known::Other));
        assert_eq!((time.ended(vm(1)), time.runnable()), (false, 1));
        assert_eq!((time.ended(vm_of(1, 2)), time.runnable()), (true, 0));
        assert!(time.next(0).is_none());
    }
}
