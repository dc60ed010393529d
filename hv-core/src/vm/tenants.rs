//! The tenants that have VMs or a quota: what each has, and what it may have. A VM whose tenant has no name is nobody's, and is not counted.
//!
//! What a VM counts for is its limit, which never changes while it lives, and what lies in the pool of it: so nothing is counted on any path but
//! its creation, its end and its ways out and in, and all find the account by a chain of a hash, however many VMs there are.
//!
//! VMs that are called in are let in by a bucket that holds as many as may come in in a second, kept as the time when it is full again (the virtual scheduling
//! form of the generic cell rate algorithm, ITU-T I.371).

use crate::vm::timers::Place;
use abi::flow::Flow;
use abi::quota::Quota;
use abi::tenant::Tenant;

/// "No account".
const NONE: u32 = u32::MAX;

/// The account of one tenant; and, beside it, the beginning of the chain whose hash is the account's number.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    tenant: Tenant,
    /// The first account of the chain.
    head: u32,
    /// The next one of the chain that this account is in; of a free account, the next free one.
    next: u32,
    /// When as many VMs may come in at once as ever may, in ticks; in the past when they may.
    full_at: u64,
    standing: Standing,
}

/// What a tenant has, and what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its VMs that live.
    pub vms: u32,
    /// Frames that these may hold together.
    pub frames: u64,
    /// What they may be and hold at most, if no more are to be made.
    pub quota: Quota,
    /// VMs that were refused because of that.
    pub refused: u32,
    /// Bytes that lie in the pool of those that are out or on their way in.
    pub pooled: u64,
    /// What they may do in each second.
    pub flow: Flow,
    /// VMs that were called and wait because of that.
    pub waiting: u32,
    /// How many ever had to.
    pub delayed: u64,
}

impl Standing {
    const EMPTY: Standing = Standing {
        vms: 0,
        frames: 0,
        quota: Quota::NONE,
        refused: 0,
        pooled: 0,
        flow: Flow::NONE,
        waiting: 0,
        delayed: 0,
    };
}

/// An account that is nobody's.
pub const EMPTY_ACCOUNT: Account =
    Account { tenant: Tenant::UNSAID, head: NONE, next: NONE, full_at: 0, standing: Standing::EMPTY };

/// The number of an account, as what has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountNumber(pub u32);

impl Place for AccountNumber {
    fn number(self) -> u32 {
        self.0
    }

    fn new(number: u32) -> Self {
        AccountNumber(number)
    }
}

/// Why a tenant gets no more VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// It has as many as it may.
    Vms,
    /// With another one they could hold more memory than they may.
    Memory,
    /// It has no account, and all are taken.
    Accounts,
}

/// All accounts.
pub struct Tenants {
    accounts: &'static mut [Account],
    /// The account that was freed last; the next to be used.
    free: u32,
    /// No account from here on was ever used.
    fresh: u32,
}

impl Tenants {
    /// As many accounts as there is room for.
    pub fn new(accounts: &'static mut [Account]) -> Self {
        accounts.fill(EMPTY_ACCOUNT);
        Tenants { accounts, free: NONE, fresh: 0 }
    }

    /// Whether a tenant may have one VM more, which may hold so many frames.
    ///
    /// # Errors
    /// [`OverQuota`]; it is counted.
    pub fn check(&mut self, tenant: Tenant, frames: u32) -> Result<(), OverQuota> {
        if tenant.is_unsaid() {
            return Ok(());
        }
        let Some(account) = self.find(tenant).and_then(|number| self.account(number)) else {
            return if self.has_room() { Ok(()) } else { Err(OverQuota::Accounts) };
        };
        let Standing { vms, frames: held, quota, .. } = account.standing;
        let wanted = held.saturating_add(u64::from(frames));
        let over = if quota.most_vms().is_some_and(|most| vms >= most) {
            OverQuota::Vms
        } else if quota.most_frames().is_some_and(|most| wanted > most) {
            OverQuota::Memory
        } else {
            return Ok(());
        };
        account.standing.refused = account.standing.refused.saturating_add(1);
        Err(over)
    }

    /// A VM of a tenant, which may hold so many frames, lives from now on. [`Tenants::check`] has allowed it, or boot, where there are fewer
    /// tenants than accounts.
    pub fn begins(&mut self, tenant: Tenant, frames: u32) {
        if let Some(account) = self.find_or_open(tenant).and_then(|number| self.account(number)) {
            account.standing.vms += 1;
            account.standing.frames += u64::from(frames);
        }
    }

    /// A VM of a tenant, with which [`Tenants::begins`] was called, lives no longer.
    pub fn ends(&mut self, tenant: Tenant, frames: u32) {
        let Some(number) = self.find(tenant) else { return };
        if let Some(account) = self.account(number) {
            account.standing.vms = account.standing.vms.saturating_sub(1);
            account.standing.frames = account.standing.frames.saturating_sub(u64::from(frames));
        }
        self.close_if_empty(tenant, number);
    }

    /// Whether so many bytes more of the pool are within a tenant's quota.
    pub fn may_pool(&self, tenant: Tenant, bytes: u32) -> bool {
        let Some((_, Standing { pooled, quota, .. })) = self.get(tenant) else { return true };
        quota.most_pool().is_none_or(|most| pooled.saturating_add(bytes.into()) <= most)
    }

    /// So many bytes lie in the pool of a VM of a tenant, which lives, from now on.
    pub fn pools(&mut self, tenant: Tenant, bytes: u32) {
        if let Some(account) = self.find(tenant).and_then(|number| self.account(number)) {
            account.standing.pooled += u64::from(bytes);
        }
    }

    /// They lie there no longer. [`Tenants::pools`] was called with them.
    pub fn unpools(&mut self, tenant: Tenant, bytes: u64) {
        if let Some(account) = self.find(tenant).and_then(|number| self.account(number)) {
            account.standing.pooled = account.standing.pooled.saturating_sub(bytes);
        }
    }

    /// The account of a tenant whose VMs do not come in as often as they are called.
    pub fn limited(&self, tenant: Tenant) -> Option<u32> {
        let (number, standing) = self.get(tenant)?;
        standing.flow.most_wakes().map(|_| number)
    }

    /// When the next VM of the tenant with this account may come in: at once where that is not later than `now`. A second has `second` ticks.
    pub fn may_come_at(&self, number: u32, second: u64) -> u64 {
        let Some(account) = self.accounts.get(number as usize) else { return 0 };
        let Some(wakes) = account.standing.flow.most_wakes() else { return 0 };
        // What fits into it beside this one.
        account.full_at.saturating_sub(each(wakes, second).saturating_mul(u64::from(wakes - 1)))
    }

    /// One of them comes in at `now`.
    pub fn comes(&mut self, number: u32, now: u64, second: u64) {
        if let Some(account) = self.account(number)
            && let Some(wakes) = account.standing.flow.most_wakes()
        {
            account.full_at = account.full_at.max(now).saturating_add(each(wakes, second));
        }
    }

    /// A VM of the tenant with this account was called and waits.
    pub fn waits(&mut self, number: u32) {
        if let Some(Account { standing, .. }) = self.account(number) {
            standing.waiting += 1;
            standing.delayed += 1;
        }
    }

    /// It waits no longer.
    pub fn waits_no_longer(&mut self, number: u32) {
        if let Some(Account { standing, .. }) = self.account(number) {
            standing.waiting = standing.waiting.saturating_sub(1);
        }
    }

    /// What a tenant may have and do from now on. False, and nothing has changed, for no tenant, or one for which there is no account.
    #[must_use]
    pub fn set(&mut self, tenant: Tenant, quota: Quota, flow: Flow) -> bool {
        let Some(number) = self.find_or_open(tenant) else { return false };
        if let Some(account) = self.account(number) {
            account.standing.quota = quota;
            account.standing.flow = flow.of(account.standing.flow);
        }
        self.close_if_empty(tenant, number);
        true
    }

    /// What a tenant has and may have, and the number of its account.
    pub fn get(&self, tenant: Tenant) -> Option<(u32, Standing)> {
        let number = self.find(tenant)?;
        Some((number, self.accounts.get(number as usize)?.standing))
    }

    /// The tenant with the account of this number, or with the next one that is taken.
    pub fn next(&self, from: u32) -> Option<(u32, Tenant, Standing)> {
        let taken = |&number: &u32| self.accounts.get(number as usize).is_some_and(|one| !one.tenant.is_unsaid());
        let number = (from..self.fresh).find(taken)?;
        let account = self.accounts.get(number as usize)?;
        Some((number, account.tenant, account.standing))
    }

    fn account(&mut self, number: u32) -> Option<&mut Account> {
        self.accounts.get_mut(number as usize)
    }

    fn has_room(&self) -> bool {
        self.free != NONE || (self.fresh as usize) < self.accounts.len()
    }

    /// The chain of a tenant: by the upper bits of a product (Knuth, volume 3, 6.4), as names are consecutive numbers often.
    fn chain(&self, tenant: Tenant) -> usize {
        let mixed = u64::from(tenant.raw().wrapping_mul(0x9e37_79b1));
        // Below the number of accounts, which is a small one.
        usize::try_from((mixed * self.accounts.len() as u64) >> 32).unwrap_or(0)
    }

    /// The number of a tenant's account. A chain is no longer than there are accounts.
    fn find(&self, tenant: Tenant) -> Option<u32> {
        if tenant.is_unsaid() {
            return None;
        }
        let mut at = self.accounts.get(self.chain(tenant))?.head;
        loop {
            let account = self.accounts.get(at as usize)?;
            if account.tenant == tenant {
                return Some(at);
            }
            at = account.next;
        }
    }

    fn find_or_open(&mut self, tenant: Tenant) -> Option<u32> {
        if let Some(number) = self.find(tenant) {
            return Some(number);
        }
        if tenant.is_unsaid() || !self.has_room() {
            return None;
        }
        let number = if self.free == NONE { self.fresh } else { self.free };
        let chain = self.chain(tenant);
        let first = core::mem::replace(&mut self.accounts[chain].head, number);
        let account = &mut self.accounts[number as usize];
        if self.free == NONE {
            self.fresh += 1;
        } else {
            self.free = account.next;
        }
        (account.tenant, account.next, account.standing) = (tenant, first, Standing::EMPTY);
        account.full_at = 0;
        Some(number)
    }

    /// An account with neither VMs nor a quota is free.
    fn close_if_empty(&mut self, tenant: Tenant, number: u32) {
        let chain = self.chain(tenant);
        let Some(&Account { next, standing, .. }) = self.accounts.get(number as usize) else { return };
        if standing.vms != 0 || standing.quota != Quota::NONE || standing.flow != Flow::NONE {
            return;
        }
        if self.accounts[chain].head == number {
            self.accounts[chain].head = next;
        } else {
            let mut at = self.accounts[chain].head;
            while let Some(account) = self.account(at) {
                if account.next == number {
                    account.next = next;
                    break;
                }
                at = account.next;
            }
        }
        let free = core::mem::replace(&mut self.free, number);
        let account = &mut self.accounts[number as usize];
        (account.tenant, account.next) = (Tenant::UNSAID, free);
    }
}

/// Ticks from one VM that comes in to the next where so many may in a second, rounded up: never more than that.
const fn each(wakes: u32, second: u64) -> u64 {
    // `From` is not const yet.
    #[allow(clippy::cast_lossless)]
    {
        second.div_ceil(wakes as u64)
    }
}

#[cfg(test)]
#[path = "tenants_tests.rs"]
mod tests;
