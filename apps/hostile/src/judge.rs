//! Commits a crime and says what came of it.

use crate::catch::{self, Caught, attempt};
use crate::crimes::{Deed, Escape, deed};
use crate::table::{Crime, Expect};
use abi::guest::{FAULT_ADDRESS, FAULT_GUARD, FAULT_NULL, FAULT_REFUSED, FAULT_RIGHTS, access};
use ilwaco::println;

/// What a crime came to, as it is put on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What must come of it has come.
    Contained(&'static str),
    /// The crime succeeded, or ended in another way than it must.
    Escaped(Escape),
}

impl core::fmt::Display for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Verdict::Contained(text) => f.write_str(text),
            Verdict::Escaped(Escape { what, value }) => write!(f, "ESCAPED: {what} {value:#x}"),
        }
    }
}

/// Commits a crime. Does not return where that ends the VM or never ends. `bare`: without a fault handler.
pub fn commit(crime: &'static Crime, bare: bool) -> Verdict {
    let Some(deed) = deed(crime.name) else {
        return Verdict::Escaped(Escape { what: "nobody knows how to commit this crime", value: 0 });
    };
    match (deed, bare) {
        (_, true) => catch::disarm(),
        // The library's handler is to say what it was.
        (Deed::Mistake(_), _) => {}
        _ => catch::arm(),
    }
    match deed {
        Deed::Act(act, argument) => judge(crime, attempt(act, argument())),
        Deed::Fault(arrange) => judge(crime, arrange()),
        Deed::Check(check) => match check() {
            Ok(()) => Verdict::Contained(crime.verdict().unwrap_or_default()),
            Err(escape) => Verdict::Escaped(escape),
        },
        Deed::Mistake(make) => {
            make();
            judge(crime, None)
        }
        Deed::Forever(run) => {
            println!("hostile: {}: {}", crime.name, crime.verdict().unwrap_or_default());
            run()
        }
    }
}

/// Whether the fault that came is the one that must come.
fn judge(crime: &Crime, caught: Option<Caught>) -> Verdict {
    let right = match (crime.expect, caught) {
        (Expect::Nothing, None) => true,
        (Expect::Refused(class), Some(fault)) => fault.vector == FAULT_REFUSED && fault.code == class,
        (Expect::Exception(vector), Some(fault)) => fault.vector == vector,
        (Expect::Address, Some(fault)) => fault.vector == FAULT_ADDRESS,
        (Expect::Null, Some(fault)) => fault.vector == FAULT_NULL,
        (Expect::Guard, Some(fault)) => fault.vector == FAULT_GUARD,
        (Expect::ReadOnly, Some(fault)) => fault.vector == FAULT_RIGHTS && fault.code == access::WRITE,
        (Expect::NoCode, Some(fault)) => fault.vector == FAULT_RIGHTS && fault.code == access::EXECUTE,
        _ => false,
    };
    match (caught, crime.verdict()) {
        (_, Some(text)) if right => Verdict::Contained(text),
        (None, _) => Verdict::Escaped(Escape { what: "no fault", value: 0 }),
        (Some(fault), _) => {
            println!("hostile: {}: error code {:#x}, address {:#x}", crime.name, fault.code, fault.address);
            Verdict::Escaped(Escape { what: "another fault came:", value: fault.vector.into() })
        }
    }
}

/// Says that something has escaped, and ends.
pub fn escaped(escape: Escape) -> ! {
    println!("hostile: {}", Verdict::Escaped(escape));
    ilwaco::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{CRIMES, find};
    use abi::guest::BOOT_ARGS_MAX;

    #[test]
    fn every_crime_can_be_committed_and_is_called_by_a_name_of_its_own() {
        for (index, crime) in CRIMES.iter().enumerate() {
            assert!(deed(crime.name).is_some(), "{}", crime.name);
            assert_eq!(CRIMES.iter().position(|other| other.name == crime.name), Some(index), "{} twice", crime.name);
            assert!(!crime.what.is_empty() && !crime.family.name().is_empty(), "{}", crime.name);
        }
        assert!(find("ud2").is_some() && find("").is_none() && deed("no-such-crime").is_none());
    }

    #[test]
    fn kinds_of_deeds_fit_what_must_come_of_them() {
        for crime in CRIMES {
            let fits = match deed(crime.name).expect("known") {
                Deed::Act(..) => !matches!(crime.expect, Expect::Runs | Expect::Told(_)),
                Deed::Mistake(_) => matches!(crime.expect, Expect::Told(_)),
                Deed::Fault(_) => matches!(crime.expect, Expect::Address | Expect::Exception(_)),
                Deed::Check(_) => matches!(crime.expect, Expect::Nothing),
                Deed::Forever(_) => matches!(crime.expect, Expect::Runs),
            };
            assert!(fits, "{}", crime.name);
            assert!(!crime.verdict().is_some_and(|text| text.contains("another") || text.is_empty()), "{}", crime.name);
        }
    }

    #[test]
    fn names_fit_into_a_create_request() {
        for crime in CRIMES {
            let bare = if crime.ends_without_handler().is_empty() { "" } else { " bare" };
            let args = alloc::format!("crime={}{bare}", crime.name);
            assert!(args.len() < BOOT_ARGS_MAX, "{args}");
        }
    }

    #[test]
    fn verdicts() {
        let crime = find("cpuid").expect("known");
        let caught = |vector, code| Some(Caught { vector, code, address: 0 });
        assert_eq!(judge(crime, caught(FAULT_REFUSED, 1)), Verdict::Contained("contained (refused: CPUID)"));
        assert!(matches!(judge(crime, None), Verdict::Escaped(_)));
        let ends = find("fault-in-handler").expect("known");
        assert!(matches!(judge(ends, None), Verdict::Escaped(_)), "it must not survive");
        let text = alloc::format!("{}", Verdict::Escaped(Escape { what: "it is", value: 16 }));
        assert_eq!(text, "ESCAPED: it is 0x10");
    }
}
