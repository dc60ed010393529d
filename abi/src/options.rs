//! Boot options on the loader's command line.

/// The keys of options that are not the role of a component (whose value is a policy).
pub const KEYS: [&str; 16] = [
    "vms",
    "slots",
    "seats",
    "node",
    "quantum",
    "gatekeeper",
    "memory-wait",
    "residence",
    "pool",
    "net",
    "disk",
    "log",
    "on-fatal",
    "selftest",
    "start",
    "barriers",
];
