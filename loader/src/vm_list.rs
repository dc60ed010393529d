//! The VMs that a machine starts with: those of `vms=`, or of the boot module `vms`, for more of them than a line holds. Pure.
//!
//! The module is text: one entry a line, `IMAGE` or `IMAGE*COUNT`, as in `vms=`; what follows a `#` is a comment. It stands for `vms=` of the
//! manifest's defaults, and `vms=` on the command line for the module.

use crate::options::{Known, Options, Problem, Shown, VmRequest, request};
use abi::addresses::Net;
use abi::limits::{MAX_SLOTS, Name};
use abi::manifest::{Image, image_flags};
use core::fmt;

/// The module's name.
pub const MODULE: &str = "vms";

/// The list; every entry of it is right.
#[derive(Clone, Copy, Debug)]
pub enum VmList<'a> {
    /// Of the options.
    Options(&'a [VmRequest]),
    /// Of a module, and what there is for it to name.
    Module(&'a str, Known<'a>),
}

/// What is wrong with the module. `Display` is a sentence.
#[derive(Clone, Copy, Debug)]
pub struct ListError<'a> {
    /// Counts from 1.
    line: usize,
    what: Wrong<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Wrong<'a> {
    NotText,
    Entry(&'a str, Problem<'a>, Known<'a>),
    TooMany,
}

impl fmt::Display for ListError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module '{MODULE}', line {}: ", self.line)?;
        match self.what {
            Wrong::NotText => f.write_str("it is not text; write IMAGE or IMAGE*COUNT"),
            Wrong::Entry(entry, problem, known) => problem.explain(Shown(entry), known, f),
            Wrong::TooMany => write!(f, "with this entry there are more than {MAX_SLOTS} VMs; ask for fewer"),
        }
    }
}

/// VMs of this image start with the first packet for them, and nobody could know where to send it. `Display` is a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable(Name);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreachable(image) = self;
        write!(
            f,
            "'net=dhcp' gives VMs of the image {image} their addresses when they run, but they start with the first packet; \
             write net=ADDRESS/PREFIX, or start=now"
        )
    }
}

impl<'a> VmList<'a> {
    /// The list in the module whose bytes are `file`.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(file: &'a [u8], known: Known<'a>) -> Result<VmList<'a>, ListError<'a>> {
        let text = str::from_utf8(file).map_err(|error| {
            let before = &file[..error.valid_up_to()];
            ListError { line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(), what: Wrong::NotText }
        })?;
        let mut total = 0_u64;
        for (line, entry) in (1..).zip(text.lines().map(entry)).filter(|(_, entry)| !entry.is_empty()) {
            let wrong = |problem| ListError { line, what: Wrong::Entry(entry, problem, known) };
            total += u64::from(request(entry, known).map_err(wrong)?.count);
            if total > MAX_SLOTS as u64 {
                return Err(ListError { line, what: Wrong::TooMany });
            }
        }
        Ok(VmList::Module(text, known))
    }

    /// The list of the options, unless there is a module and the command line does not say `vms=`.
    pub fn is_in_module(line: &str) -> bool {
        !line.split_ascii_whitespace().any(|word| word.starts_with("vms="))
    }

    /// Its entries, in the order of their slots.
    pub fn requests(self) -> impl Iterator<Item = VmRequest> + Clone {
        let (list, text, known) = match self {
            VmList::Options(list) => (list, "", None),
            VmList::Module(text, known) => (&[][..], text, Some(known)),
        };
        let in_module = text.lines().map(entry).filter_map(move |entry| request(entry, known?).ok());
        list.iter().copied().chain(in_module)
    }

    /// Whether VMs that start with the first packet for them can be reached.
    ///
    /// # Errors
    /// The first image whose cannot.
    pub fn check_reachable(self, options: &Options, images: &[Image]) -> Result<(), Unreachable> {
        let mut asked = self.requests().filter_map(|request| images.get(request.image as usize));
        let lazy = asked.find(|image| options.flags_of(image) & image_flags::LAZY != 0);
        match lazy.filter(|_| options.net == Net::Dhcp) {
            Some(image) => Err(Unreachable(image.name)),
            None => Ok(()),
        }
    }

    /// How many VMs that are.
    pub fn count(self) -> usize {
        self.requests().map(|request| request.count as usize).sum()
    }
}

impl<'a> From<&'a Options> for VmList<'a> {
    fn from(options: &'a Options) -> Self {
        VmList::Options(&options.vms)
    }
}

/// What a line holds beside a comment.
fn entry(line: &str) -> &str {
    line.split('#').next().unwrap_or("").trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest_test::image;
    use abi::manifest::Image;
    use proptest::prelude::*;

    fn images() -> [Image; 2] {
        [image("httpd"), image("hostile")]
    }

    fn read(text: &[u8]) -> Result<Vec<(u32, u32)>, String> {
        let images = images();
        let known = Known { components: &[], rings: &[], images: &images };
        let list = VmList::read(text, known).map_err(|error| error.to_string())?;
        let requests: Vec<_> = list.requests().map(|request| (request.image, request.count)).collect();
        assert_eq!(list.count(), requests.iter().map(|(_, count)| *count as usize).sum::<usize>());
        Ok(requests)
    }

    #[test]
    fn one_entry_a_line_with_comments() {
        assert_eq!(read(b""), Ok(vec![]));
        let text = b"# all of ours\nhttpd*50\r\n\n  hostile # one\n\t#httpd*9\nhttpd*1048525";
        assert_eq!(read(text), Ok(vec![(0, 50), (1, 1), (0, 1_048_525)]));
        let images = images();
        let known = Known { components: &[], rings: &[], images: &images };
        let list = VmList::read(b"httpd*9:disk=web:ro # they share it", known).expect("a list");
        assert!(list.requests().all(|request| request.count == 9 && request.disk.to_string() == "web:ro"));
        let many = "httpd\nhostile*2\n".repeat(5000);
        assert_eq!(read(many.as_bytes()).map(|list| list.len()), Ok(10_000), "more than there are images");
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_what_would_be_right() {
        let error = |text: &[u8]| read(text).expect_err("wrong");
        assert_eq!(
            error(b"httpd\n\nhtpd*5 # typo\n"),
            "module 'vms', line 3: 'htpd*5' names the image 'htpd', which is not in the manifest; known images are httpd, hostile"
        );
        assert_eq!(
            error(b"httpd*0"),
            "module 'vms', line 1: 'httpd*0' asks for '0' VMs; write a number from 1 to 1048576"
        );
        assert_eq!(
            error(b"httpd,hostile"),
            "module 'vms', line 1: 'httpd,hostile' names the image 'httpd,hostile', which is not in the manifest; known images are httpd, hostile"
        );
        assert_eq!(error(b"httpd\nhttpd\n\xff"), "module 'vms', line 3: it is not text; write IMAGE or IMAGE*COUNT");
        assert_eq!(
            error(b"httpd*1048576\nhostile\n"),
            "module 'vms', line 2: with this entry there are more than 1048576 VMs; ask for fewer"
        );
        assert!(error("\u{1b}[2J".as_bytes()).starts_with("module 'vms', line 1: '?[2J' names"));
    }

    #[test]
    fn vms_that_start_with_the_first_packet_need_an_address() {
        let [httpd, hostile] = images();
        let lazy = Image { flags: image_flags::LAZY, ..image("dns") };
        let images = [httpd, hostile, lazy];
        let known = Known { components: &[], rings: &[], images: &images };
        let check = |line: &str, module: Option<&str>| {
            let options = Options::parse("", line, known).expect("good options");
            let list = match module {
                Some(text) => VmList::read(text.as_bytes(), known).expect("a good list"),
                None => VmList::from(&options),
            };
            list.check_reachable(&options, &images).map_err(|error| error.to_string())
        };
        let said = |image: &str| {
            let what = "their addresses when they run, but they start with the first packet";
            Err(format!("'net=dhcp' gives VMs of the image {image} {what}; write net=ADDRESS/PREFIX, or start=now"))
        };
        assert_eq!(check("vms=httpd start=lazy net=dhcp", None), said("httpd"));
        assert_eq!(check("vms=httpd,dns", None), said("dns"), "the image says so, and net=dhcp is what nothing means");
        assert_eq!(check("start=lazy", Some("hostile\nhttpd*2")), said("hostile"));
        assert_eq!(check("vms=dns", Some("httpd")), Ok(()), "the module stands for vms=");
        assert_eq!(check("vms=httpd,dns start=now", None), Ok(()));
        assert_eq!(check("vms=httpd,dns start=lazy net=10.0.2.16/24", None), Ok(()));
        assert_eq!(check("start=lazy", None), Ok(()), "nobody has to be reached");
    }

    #[test]
    fn the_command_line_goes_before_the_module() {
        assert!(VmList::is_in_module("") && VmList::is_in_module("log=info xvms=a"));
        assert!(!VmList::is_in_module("log=info vms=") && !VmList::is_in_module("vms=httpd*5 log=info"));
    }

    proptest! {
        /// Whatever is in the file, it is a list or a message that a terminal can show.
        #[test]
        fn any_file_is_a_list_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "([a-z*#0-9 \n]|httpd\\*[0-9]+\n){0,30}") {
            for file in [&bytes[..], text.as_bytes()] {
                if let Err(message) = read(file) {
                    prop_assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", message);
                }
            }
        }
    }
}
