//! Which virtual disk is whose: one VM's that writes, or any number of VMs' that read.

/// Entries of a directory at most.
pub const MAX_ENTRIES: usize = 1024;
/// In the place of a number of readers: one VM writes.
const WRITTEN: u16 = u16::MAX;

/// By entry of the directory, how many VMs have the virtual disk.
pub struct Uses(&'static mut [u16; MAX_ENTRIES]);

impl Uses {
    /// Nobody has any. `counts` is where that is kept.
    pub fn new(counts: &'static mut [u16; MAX_ENTRIES]) -> Self {
        counts.fill(0);
        Uses(counts)
    }

    /// One VM more has a disk. False when it cannot be, as others have it.
    #[must_use]
    pub fn take(&mut self, entry: u16, to_write: bool) -> bool {
        let Some(count) = self.0.get_mut(usize::from(entry)) else { return false };
        *count = match *count {
            0 if to_write => WRITTEN,
            readers if !to_write && readers < WRITTEN - 1 => readers + 1,
            _ => return false,
        };
        true
    }

    /// Whether a VM has a disk to write.
    pub fn is_written(&self, entry: u16) -> bool {
        self.0.get(usize::from(entry)) == Some(&WRITTEN)
    }

    /// The entries from this one on are one place further on, and nobody has the one that came in between.
    pub fn insert(&mut self, at: u16) {
        let at = usize::from(at);
        if let Some(rest) = self.0.get_mut(at..) {
            rest.rotate_right(1);
            // The last one: there are no entries there.
            rest.iter_mut().take(1).for_each(|count| *count = 0);
        }
    }

    /// The entries behind this one, which is no more, are one place further to the front.
    pub fn remove(&mut self, at: u16) {
        if let Some(rest) = self.0.get_mut(usize::from(at)..) {
            rest.iter_mut().take(1).for_each(|count| *count = 0);
            rest.rotate_left(1);
        }
    }

    /// Those that have a disk have another one instead, which nobody has.
    pub fn go_over(&mut self, from: u16, to: u16) {
        let [from, to] = [from, to].map(usize::from);
        if from.max(to) < self.0.len() {
            self.0.swap(from, to);
        }
    }

    /// A VM that had a disk has it no more.
    pub fn give_back(&mut self, entry: u16) {
        if let Some(count) = self.0.get_mut(usize::from(entry)) {
            *count = if *count == WRITTEN { 0 } else { count.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn one_writes_or_many_read() {
        let mut uses = Uses::new(Box::leak(Box::new([9; MAX_ENTRIES])));
        assert!(uses.take(3, true) && !uses.take(3, true) && !uses.take(3, false));
        assert!(uses.is_written(3) && !uses.is_written(4) && !uses.is_written(1024));
        assert!(uses.take(4, false) && uses.take(4, false) && !uses.take(4, true));
        uses.give_back(3);
        uses.give_back(4);
        assert!(uses.take(3, false) && !uses.take(4, true));
        uses.give_back(4);
        assert!(uses.take(4, true));
        assert!(!uses.take(1024, false));
        uses.insert(2);
        assert!(uses.take(4, false) && !uses.take(5, false) && !uses.take(1024, false));
        uses.give_back(4);
        uses.give_back(4);
        uses.remove(2);
        assert!(uses.take(3, false) && !uses.take(4, false));
        uses.remove(3);
        assert!(!uses.take(3, false), "the one behind it is there now");
        uses.insert(3);
        uses.go_over(4, 5);
        assert!(!uses.take(5, false) && uses.take(4, true));
        uses.give_back(5);
        assert!(uses.take(5, false));
    }
}
