use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn tenants(accounts: usize) -> Tenants {
    Tenants::new(vec![EMPTY_ACCOUNT; accounts].leak())
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("a name")
}

fn set(all: &mut Tenants, tenant: Tenant, quota: Quota) -> bool {
    all.set(tenant, quota, Flow::UNCHANGED)
}

fn quota(vms: u32, frames: u64) -> Quota {
    Quota { vms, frames, ..Quota::NONE }
}

#[test]
fn a_quota_is_what_may_live_at_the_same_time() {
    let (mut all, blue, red) = (tenants(4), tenant("blue"), tenant("red"));
    assert!(set(&mut all, blue, quota(2, 100)));
    for frames in [60, 40] {
        assert_eq!(all.check(blue, frames), Ok(()));
        all.begins(blue, frames);
    }
    assert_eq!(all.check(blue, 0), Err(OverQuota::Vms));
    assert_eq!(all.check(red, u32::MAX), Ok(()), "another one's is its own");
    assert_eq!(all.check(Tenant::UNSAID, u32::MAX), Ok(()));
    all.ends(blue, 40);
    assert_eq!(all.check(blue, 41), Err(OverQuota::Memory));
    assert_eq!(all.check(blue, 40), Ok(()));
    assert_eq!(
        all.get(blue),
        Some((0, Standing { vms: 1, frames: 60, quota: quota(2, 100), refused: 2, ..Standing::EMPTY }))
    );
    assert_eq!(all.get(red), None, "asking leaves no trace");
}

#[test]
fn a_quota_below_what_lives_refuses_new_ones_only() {
    let (mut all, blue) = (tenants(4), tenant("blue"));
    for _ in 0..3 {
        all.begins(blue, 10);
    }
    assert!(set(&mut all, blue, quota(1, Quota::ANY_FRAMES)));
    assert_eq!(all.check(blue, 1), Err(OverQuota::Vms));
    all.ends(blue, 10);
    all.ends(blue, 10);
    assert_eq!(all.check(blue, 1), Err(OverQuota::Vms), "one is as many as it may have");
    all.ends(blue, 10);
    assert_eq!(all.check(blue, 1), Ok(()));
    assert!(set(&mut all, blue, quota(0, 0)));
    assert_eq!(all.check(blue, 0), Err(OverQuota::Vms), "none at all");
    assert!(set(&mut all, blue, Quota::NONE));
    assert_eq!((all.get(blue), all.next(0)), (None, None), "nobody remembers it");
}

#[test]
fn what_lies_in_the_pool_of_a_tenant_is_counted_and_the_rest_is_not_its_own() {
    let (mut all, blue, red) = (tenants(4), tenant("blue"), tenant("red"));
    assert!(set(&mut all, blue, Quota { pool: 100, ..Quota::NONE }));
    for of in [blue, red] {
        all.begins(of, 1);
    }
    assert!(all.may_pool(blue, 100) && !all.may_pool(blue, 101));
    all.pools(blue, 60);
    all.pools(Tenant::UNSAID, 60);
    assert!(all.may_pool(blue, 40) && !all.may_pool(blue, 41));
    for of in [red, Tenant::UNSAID, tenant("green")] {
        assert!(all.may_pool(of, u32::MAX), "{of} has no quota");
    }
    assert_eq!(all.get(blue).map(|(_, standing)| standing.pooled), Some(60));
    all.unpools(blue, 60);
    assert!(all.may_pool(blue, 100));
    assert!(set(&mut all, blue, Quota { pool: 0, ..Quota::NONE }));
    assert!(!all.may_pool(blue, 1));
}

#[test]
fn when_all_accounts_are_taken_those_that_have_one_go_on() {
    let mut all = tenants(2);
    let [a, b, c] = ["a", "b", "c"].map(tenant);
    all.begins(a, 1);
    assert!(set(&mut all, b, quota(1, 1)));
    assert_eq!((all.check(c, 1), set(&mut all, c, quota(1, 1))), (Err(OverQuota::Accounts), false));
    assert_eq!(all.check(a, 1), Ok(()));
    all.ends(a, 1);
    assert_eq!(all.check(c, 1), Ok(()));
    assert!(
        set(&mut all, c, quota(1, 1)) && !set(&mut all, a, quota(1, 1)) && !set(&mut all, Tenant::UNSAID, quota(1, 1))
    );
    assert_eq!(all.next(0).map(|(number, of, _)| (number, of)), Some((0, c)));
    assert_eq!(all.next(1).map(|(number, of, _)| (number, of)), Some((1, b)));
    assert_eq!(all.next(2), None);
    assert_eq!(all.next(u32::MAX), None);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin(usize, u32),
    End(usize),
    Set(usize, u32, u64),
}

fn event(names: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..names, 0..50_u32).prop_map(|(of, frames)| Event::Begin(of, frames)),
        3 => (0..200_usize).prop_map(Event::End),
        1 => (0..names, 0..6_u32, 0..200_u64).prop_map(|(of, vms, frames)| Event::Set(of, vms, frames)),
        1 => (0..names).prop_map(|of| Event::Set(of, Quota::ANY_VMS, Quota::ANY_FRAMES)),
    ]
}

proptest! {
    /// Whatever happens, each account is what its VMs are together, nobody has more than was allowed when its last VM was made, and accounts are
    /// neither lost nor taken by two.
    #[test]
    fn accounts_are_the_sums_of_vms(events in prop::collection::vec(event(9), 0..300), accounts in 1..12_usize) {
        // The first is nobody's.
        let names: Vec<Tenant> = std::iter::once(Tenant::UNSAID).chain("abcdefgh".chars().map(|c| tenant(&c.to_string()))).collect();
        let mut all = tenants(accounts);
        let (mut living, mut quotas): (Vec<(Tenant, u32)>, BTreeMap<u32, Quota>) = (Vec::new(), BTreeMap::new());
        for event in events {
            let sum = |of: Tenant, living: &[(Tenant, u32)]| {
                let its = living.iter().filter(|(one, _)| *one == of);
                its.fold((0_u32, 0_u64), |(vms, frames), (_, more)| (vms + 1, frames + u64::from(*more)))
            };
            let known = |quotas: &BTreeMap<u32, Quota>, living: &[(Tenant, u32)]| {
                let with_vms = living.iter().map(|(of, _)| of.raw()).filter(|&raw| raw != 0);
                with_vms.chain(quotas.keys().copied()).collect::<std::collections::BTreeSet<u32>>()
            };
            let taken = known(&quotas, &living);
            match event {
                Event::Begin(of, frames) => {
                    let of = names[of];
                    let (vms, held) = sum(of, &living);
                    let quota = quotas.get(&of.raw()).copied().unwrap_or(Quota::NONE);
                    let expected = if of.is_unsaid() {
                        Ok(())
                    } else if !taken.contains(&of.raw()) && taken.len() == accounts {
                        Err(OverQuota::Accounts)
                    } else if vms >= quota.vms {
                        Err(OverQuota::Vms)
                    } else if held + u64::from(frames) > quota.frames {
                        Err(OverQuota::Memory)
                    } else {
                        Ok(())
                    };
                    let allowed = all.check(of, frames);
                    prop_assert_eq!(allowed, expected);
                    if allowed.is_ok() {
                        all.begins(of, frames);
                        living.push((of, frames));
                    }
                }
                Event::End(at) if !living.is_empty() => {
                    let (of, frames) = living.swap_remove(at % living.len());
                    all.ends(of, frames);
                }
                Event::End(_) => {}
                Event::Set(of, vms, frames) => {
                    let (of, quota) = (names[of], quota(vms, frames));
                    let fits = !of.is_unsaid() && (taken.contains(&of.raw()) || taken.len() < accounts);
                    prop_assert_eq!(set(&mut all, of, quota), fits);
                    if fits && quota == Quota::NONE {
                        quotas.remove(&of.raw());
                    } else if fits {
                        quotas.insert(of.raw(), quota);
                    }
                }
            }
            let mut listed = std::collections::BTreeSet::new();
            let mut from = 0;
            while let Some((number, of, standing)) = all.next(from) {
                prop_assert!(number >= from && listed.insert(of.raw()));
                prop_assert_eq!(all.get(of), Some((number, standing)));
                prop_assert_eq!((standing.vms, standing.frames), sum(of, &living));
                prop_assert_eq!(standing.quota, quotas.get(&of.raw()).copied().unwrap_or(Quota::NONE));
                from = number + 1;
            }
            prop_assert_eq!(listed, known(&quotas, &living));
        }
    }
}
