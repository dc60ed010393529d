//! The boot modules: what GRUB loaded beside the core.

use crate::memory::PhysAddr;

pub use abi::limits::MAX_MODULES;

/// A boot module. Its frames belong to [`crate::memory::Owner::Module`] until they are given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// First word of its command line.
    pub name: abi::limits::Name,
    /// First byte, page-aligned.
    pub start: PhysAddr,
    /// Bytes.
    pub bytes: u64,
}

impl Module {
    /// First byte behind the module's last frame.
    pub const fn end(&self) -> u64 {
        self.start.as_u64() + self.bytes.next_multiple_of(abi::limits::PAGE_SIZE)
    }

    /// Its bytes, in the direct map.
    ///
    /// # Safety
    /// None of the module's frames was given away or is written while the slice is used.
    pub unsafe fn bytes(&self) -> &'static [u8] {
        // SAFETY: the boot loader put the module there, it lies in RAM that the direct map shows, its frames are claimed,
        // and by this function's contract nobody writes them.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), crate::memory::phys::index(self.bytes)) }
    }
}

/// All boot modules.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    list: heapless::Vec<Module, MAX_MODULES>,
}

impl Modules {
    /// Adds a module. The error is a sentence's end.
    ///
    /// # Errors
    /// The name is taken, the range is empty, unaligned or overlaps another, or there are too many.
    pub fn add(&mut self, module: Module) -> Result<(), &'static str> {
        if module.bytes == 0 {
            return Err("it is empty");
        }
        if !module.start.is_page_aligned() {
            return Err("the boot loader did not align it to a page");
        }
        if self.get(module.name.as_str()).is_some() {
            return Err("its name is taken by another module");
        }
        if self.list.iter().any(|other| module.start.as_u64() < other.end() && other.start.as_u64() < module.end()) {
            return Err("it overlaps another module");
        }
        self.list.push(module).map_err(|_| "there are too many modules")
    }

    /// The module of this name.
    pub fn get(&self, name: &str) -> Option<&Module> {
        self.list.iter().find(|module| module.name.as_str() == name)
    }

    /// All of them, in the boot loader's order.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, start: u64, bytes: u64) -> Module {
        Module { name: abi::limits::Name::new(name).expect("short"), start: PhysAddr::new(start), bytes }
    }

    #[test]
    fn adds_only_what_makes_sense() {
        let mut modules = Modules::default();
        assert_eq!(modules.add(module("a", 0x20_0000, 0x1001)), Ok(()));
        assert_eq!(modules.add(module("a", 0x30_0000, 1)), Err("its name is taken by another module"));
        assert_eq!(modules.add(module("b", 0x20_1000, 1)), Err("it overlaps another module"));
        assert_eq!(modules.add(module("b", 0x1f_f000, 0x1001)), Err("it overlaps another module"));
        assert_eq!(modules.add(module("b", 0x20_2004, 1)), Err("the boot loader did not align it to a page"));
        assert_eq!(modules.add(module("b", 0x20_2000, 0)), Err("it is empty"));
        assert_eq!(modules.add(module("b", 0x20_2000, 1)), Ok(()));
        assert_eq!(modules.get("b").map(|m| m.start.as_u64()), Some(0x20_2000));
        assert!(modules.get("c").is_none());
        assert_eq!(modules.iter().count(), 2);
    }
}
