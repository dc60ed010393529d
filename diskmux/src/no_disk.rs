//! Why a VM does not get its disk, in words.

/// What the log says of a value of [`abi::disk_service::no_disk`].
pub const fn text(why: u16) -> &'static str {
    match why {
        1 => "no disks were found at boot; see 'disks'",
        2 => "no set of disks is in use; see 'disks'",
        3 => "the set has no virtual disk of that name; see 'disks'",
        4 => "another VM has it; end that one, or attach it to both with :ro",
        5 => "it can only be read; attach it with :ro",
        6 => "too many VMs have disks; end some",
        7 => "no memory is left for its window; end some VMs",
        _ => "for no known reason",
    }
}
