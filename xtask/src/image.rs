//! What GRUB loads: the loader, the cores and other modules, the manifest and the menu, as an ISO or as a tree for the network.

use crate::build::{CORES, LOADER, Programs};
use crate::error::{Context, Result, fail};
use crate::fleet::{self, Texts};
use crate::manifest::model::{Preset, System};
use crate::manifest::{compile, digest};
use crate::operator_ports::IMAGE;
use crate::workspace::{output, scratch};
use abi::limits::{MAX_IMAGES, Name};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// GRUB's modules for BIOS machines.
pub const GRUB_MODULES: &str = "/usr/lib/grub/i386-pc";
/// The same for UEFI.
pub const GRUB_MODULES_UEFI: &str = "/usr/lib/grub/x86_64-efi";
/// The modules that go into the image, for BIOS and for UEFI: loading all of GRUB takes longer than booting.
const GRUB_NEEDS: &str = "multiboot2 normal iso9660 serial terminal echo ls reboot halt test all_video";
/// What the menu does on UEFI machines, which have no text screen: load the drivers for one with pixels.
const PIXELS: &str = "if [ \"$grub_platform\" = efi ]; then insmod all_video; fi\n";
/// What an entry does with a BIOS behind the command `multiboot2`, which has asked for pixels since the core can use them:
/// asks for text. GRUB 2.06 crashes in Bochs when it sets another mode there, and text is faster.
const TEXT: &str = "  if [ \"$grub_platform\" = pc ]; then set gfxpayload=text; fi\n";

/// The module that holds the VMs of an entry whose options say too many for a line.
const VMS: &str = "vms";
/// Characters of boot options in an entry: a line that can still be read and edited in GRUB's menu.
const LINE_MAX: usize = 1024;

/// A file in the image.
#[derive(Clone)]
pub enum Data {
    /// A program: its symbols are left out, which halves the time of loading it.
    Program(PathBuf),
    /// As it is.
    Bytes(Vec<u8>),
    /// The manifest of this system, with digests of the other modules.
    Manifest(Box<System>),
}

/// Everything that goes into an image. Tests change it before they make one.
#[derive(Clone)]
pub struct Contents {
    /// The loader.
    pub loader: Data,
    /// The boot modules by name, in order.
    pub modules: Vec<(String, Data)>,
    /// The entries of the menu.
    pub menu: Vec<Preset>,
    /// Seconds that the menu waits.
    pub timeout: u32,
    /// What the operator's VM is given.
    pub texts: Texts,
    /// Modules in which one bit is changed behind the manifest's back: tests see to it that it is found.
    pub damage: Vec<String>,
}

impl Contents {
    /// What `system` says, with its menu.
    pub fn new(system: &System, programs: &Programs) -> Result<Contents> {
        let program = |name: &str| match programs.get(name) {
            Some(path) => Ok(Data::Program(path.clone())),
            None => Err(format!("the program `{name}` was not built")),
        };
        let mut modules = vec![("manifest".to_owned(), Data::Manifest(Box::new(system.clone())))];
        for name in CORES.map(str::to_owned).into_iter().chain(system.modules()) {
            let data = program(&name)?;
            modules.push((name, data));
        }
        let (menu, damage, texts) = (system.preset.clone(), Vec::new(), Texts::default());
        Ok(Contents { loader: program(LOADER)?, modules, menu, timeout: 5, texts, damage })
    }

    /// The same with these texts in the program of the operator's VM.
    pub fn with_texts(self, texts: Texts) -> Result<Contents> {
        if !texts.is_empty() && !self.modules.iter().any(|(name, _)| name == IMAGE) {
            fail!("there is no image `{IMAGE}` in system.toml, which would read the fleet file or the script");
        }
        Ok(Contents { texts, ..self })
    }

    /// A module as it lies on the medium.
    fn placed(&self, name: &str, data: &Data) -> Result<Data> {
        let systems = self
            .modules
            .iter()
            .filter_map(|(_, data)| if let Data::Manifest(system) = data { Some(system) } else { None });
        let texts = systems.fold(self.texts.clone(), |texts, system| texts.with_quotas(system));
        if name != IMAGE || texts.is_empty() {
            return Ok(data.clone());
        }
        let mut program = match data {
            Data::Program(path) => stripped(path)?,
            Data::Bytes(bytes) => bytes.clone(),
            Data::Manifest(_) => fail!("the manifest is no program"),
        };
        fleet::put(&mut program, &texts)?;
        Ok(Data::Bytes(program))
    }

    /// The same with one entry that boots at once with `options`.
    pub fn with_options(&self, options: &str) -> Contents {
        let menu = vec![Preset { title: "Foraker".to_owned(), options: options.to_owned() }];
        Contents { menu, timeout: 0, ..self.clone() }
    }

    /// Writes the files below `boot` and the menu to `boot/grub/grub.cfg`.
    fn stage(&self, boot: &Path) -> Result<()> {
        let grub = boot.join("grub");
        std::fs::create_dir_all(&grub).context(|| format!("cannot create {}", grub.display()))?;
        place(&self.loader, &boot.join(LOADER))?;
        let mut digests = Vec::new();
        let is_manifest = |data: &Data| matches!(data, Data::Manifest(_));
        for (name, data) in self.modules.iter().filter(|(_, data)| !is_manifest(data)) {
            let path = boot.join(name);
            place(&self.placed(name, data)?, &path)?;
            let read = || std::fs::read(&path).context(|| format!("cannot read {}", path.display()));
            // One whose name is none the manifest could not have, and the loader refuses it.
            if Name::new(name).is_some() {
                digests.push(digest(name, &read()?));
            }
            if self.damage.contains(name) {
                let mut bytes = read()?;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                place(&Data::Bytes(bytes), &path)?;
            }
        }
        let lists: Vec<_> = self.menu.iter().map(|preset| Entry::new(preset).vms).collect();
        for (number, list) in lists.iter().enumerate().filter_map(|(number, list)| Some((number, list.as_ref()?))) {
            place(&Data::Bytes(list.clone().into_bytes()), &boot.join(format!("{VMS}-{number}")))?;
        }
        // There is one digest for a name; where entries have lists of their own, the loader judges what it reads.
        if let [list] = &lists.iter().flatten().collect::<Vec<_>>()[..] {
            digests.push(digest(VMS, list.as_bytes()));
        }
        for (name, data) in &self.modules {
            if let Data::Manifest(system) = data {
                place(&Data::Bytes(compile(system, &digests)), &boot.join(name))?;
            }
        }
        let menu = grub.join("grub.cfg");
        std::fs::write(&menu, self.grub_cfg()).context(|| format!("cannot write {}", menu.display()))
    }

    fn grub_cfg(&self) -> String {
        let mut text = format!("set timeout={}\nset default=0\n{PIXELS}", self.timeout);
        if self.timeout > 0 {
            // The menu on the serial line as well, for machines without a screen.
            text.push_str(
                "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n",
            );
        }
        for (number, preset) in self.menu.iter().enumerate() {
            let (title, Entry { options, vms }) = (&preset.title, Entry::new(preset));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "menuentry '{title}' {{");
            let _ = writeln!(text, "  multiboot2 /boot/{LOADER} {}", quote(&options));
            text.push_str(TEXT);
            for (name, _) in &self.modules {
                let _ = writeln!(text, "  module2 /boot/{name} {name}");
            }
            if vms.is_some() {
                let _ = writeln!(text, "  module2 /boot/{VMS}-{number} {VMS}");
            }
            text.push_str("}\n");
        }
        text
    }

    /// Makes the image `path`, which boots with a BIOS and with UEFI.
    pub fn make_iso(&self, path: &Path) -> Result<()> {
        let tree = scratch("stage")?;
        self.stage(&tree.path().join("boot"))?;
        let mut command = Command::new("grub-mkrescue");
        // Without `-d` the image gets every platform that GRUB is installed for; `setup` sees to these two.
        command.arg(format!("--install-modules={GRUB_NEEDS}"));
        command.args(["--fonts=", "--locales=", "--themes=", "-o"]).arg(path).arg(tree.path());
        output(&mut command)?;
        // grub-mkrescue reports success even when xorriso failed.
        if !path.is_file() {
            fail!("grub-mkrescue made no {}", path.display());
        }
        Ok(())
    }

    /// Makes the tree `path` from which a TFTP server boots machines. Returns the names in it of what machines ask for first.
    pub fn make_net_tree(&self, path: &Path) -> Result<BootFiles> {
        self.stage(&path.join("boot"))?;
        for modules in [GRUB_MODULES, GRUB_MODULES_UEFI] {
            let mut command = Command::new("grub-mknetdir");
            command.arg(format!("--net-directory={}", path.display())).args(["--subdir=/boot/grub", "-d", modules]);
            output(&mut command)?;
        }
        let files = BootFiles { bios: "boot/grub/i386-pc/core.0", uefi: "boot/grub/x86_64-efi/core.efi" };
        match [files.bios, files.uefi].into_iter().find(|file| !path.join(file).is_file()) {
            Some(file) => fail!("grub-mknetdir made no {file} in {}", path.display()),
            None => Ok(files),
        }
    }
}

/// What a DHCP server tells machines to load first.
pub struct BootFiles {
    /// Those with a BIOS,
    pub bios: &'static str,
    /// and those with UEFI (architecture 7 or 9 of RFC 4578).
    pub uefi: &'static str,
}

/// The options of an entry of the menu, as GRUB is given them.
struct Entry {
    options: String,
    /// What was taken out of them: the content of the module [`VMS`].
    vms: Option<String>,
}

impl Entry {
    /// Where the line is too long, or names VMs in more entries than the loader takes from a line, they go into a module.
    fn new(preset: &Preset) -> Entry {
        let words: Vec<&str> = preset.options.split_whitespace().collect();
        let Some(last) = words.iter().rposition(|word| word.starts_with("vms=")) else {
            return Entry { options: preset.options.clone(), vms: None };
        };
        let list: Vec<&str> = words[last]["vms=".len()..].split(',').filter(|entry| !entry.is_empty()).collect();
        if preset.options.len() <= LINE_MAX && list.len() <= MAX_IMAGES {
            return Entry { options: preset.options.clone(), vms: None };
        }
        let mut text = format!("# The VMs of the entry '{}': IMAGE or IMAGE*COUNT, one a line.\n", preset.title);
        list.iter().for_each(|entry| text.extend([entry, "\n"]));
        let rest: Vec<&str> = words.into_iter().filter(|word| !word.starts_with("vms=")).collect();
        Entry { options: rest.join(" "), vms: Some(text) }
    }
}

fn place(data: &Data, path: &Path) -> Result<()> {
    match data {
        Data::Bytes(bytes) => std::fs::write(path, bytes).context(|| format!("cannot write {}", path.display())),
        Data::Manifest(_) => fail!("a manifest is compiled when all else is in its place"),
        Data::Program(program) => output(Command::new("strip").arg("-o").arg(path).arg(program)).map(|_| ()),
    }
}

/// The stripped bytes of a program, for tests that damage it and for `size`.
pub fn stripped(program: &Path) -> Result<Vec<u8>> {
    let dir = scratch("strip")?;
    let path = dir.path().join("program");
    place(&Data::Program(program.to_owned()), &path)?;
    std::fs::read(&path).context(|| format!("cannot read {}", path.display()))
}

/// Boot options as GRUB's shell takes them: every word in single quotes where it needs them.
fn quote(options: &str) -> String {
    let word = |word: &str| match word.chars().all(|c| c.is_ascii_alphanumeric() || "=,./-_:".contains(c)) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    options.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_gets_options_as_they_are_meant() {
        assert_eq!(quote("vms=httpd*8,hostile  log=info"), "'vms=httpd*8,hostile' log=info");
        assert_eq!(quote("a=$b c='d'"), r"'a=$b' 'c='\''d'\'''");
    }

    #[test]
    fn the_menu_has_an_entry_for_each_preset() {
        let preset = |title: &str| Preset { title: title.to_owned(), options: "vms=a".to_owned() };
        let contents = Contents {
            loader: Data::Bytes(vec![]),
            modules: vec![("manifest".to_owned(), Data::Bytes(vec![])), ("a".to_owned(), Data::Bytes(vec![]))],
            menu: vec![preset("one"), preset("two")],
            timeout: 5,
            texts: Texts::default(),
            damage: Vec::new(),
        };
        let text = contents.grub_cfg();
        assert_eq!(text.matches("menuentry").count(), 2);
        assert!(text.contains(&format!(
            "  multiboot2 /boot/loader vms=a\n{TEXT}  module2 /boot/manifest manifest\n  module2 /boot/a a\n}}"
        )));
        assert!(text.contains("terminal_output console serial"));
        let list = ["a*2,b"; 9].join(",");
        let long = contents.with_options(&format!("vms=c log=info vms={list} net=dhcp"));
        assert!(long.grub_cfg().contains("loader log=info net=dhcp\n"), "{}", long.grub_cfg());
        assert!(long.grub_cfg().contains("  module2 /boot/a a\n  module2 /boot/vms-0 vms\n}"), "{}", long.grub_cfg());
        let entry = Entry::new(&long.menu[0]).vms.expect("more than 16 entries");
        assert_eq!(entry.lines().skip(1).collect::<Vec<_>>(), ["a*2", "b"].repeat(9));
        assert!(Entry::new(&contents.with_options(&format!("vms={}", vec!["a"; 16].join(","))).menu[0]).vms.is_none());
        let wide = format!("vms=a log={}", "x".repeat(1024));
        assert_eq!(Entry::new(&contents.with_options(&wide).menu[0]).vms.map(|text| text.lines().count()), Some(2));
        let quick = contents.with_options("vms=b").grub_cfg();
        assert!(quick.contains("timeout=0") && !quick.contains("serial") && quick.contains("vms=b"));
    }
}
