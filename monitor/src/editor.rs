//! From received bytes to lines.

use abi::guest::BOOT_ARGS_MAX;

/// Characters that a line may have: all boot arguments that there can be, and a command before them.
pub const LINE_MAX: usize = BOOT_ARGS_MAX + 120;

/// A line being typed.
#[derive(Debug, Default)]
pub struct Editor {
    text: heapless::String<LINE_MAX>,
    overlong: bool,
}

/// What a byte has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
// There is no heap here; it is moved once.
#[allow(clippy::large_enum_variant)]
pub enum Typed {
    /// A line that is not blank.
    Line(heapless::String<LINE_MAX>),
    /// The end of a line that was longer than [`LINE_MAX`], and is dropped.
    Overlong,
}

impl Editor {
    /// An empty line.
    pub const fn new() -> Self {
        Editor { text: heapless::String::new(), overlong: false }
    }

    /// Takes one byte. Carriage return and line feed end a line; backspace and delete take the last character back; Ctrl-C
    /// and Ctrl-U the whole line. A tab is a space, and what is not printable ASCII is ignored.
    pub fn byte(&mut self, byte: u8) -> Option<Typed> {
        match byte {
            b'\r' | b'\n' => {
                let text = core::mem::take(&mut self.text);
                if core::mem::take(&mut self.overlong) {
                    return Some(Typed::Overlong);
                }
                return (!text.trim_matches(' ').is_empty()).then_some(Typed::Line(text));
            }
            0x08 | 0x7f => drop(self.text.pop()),
            0x03 | 0x15 => *self = Editor::new(),
            b'\t' | b' '..=b'~' => {
                let character = if byte == b'\t' { ' ' } else { char::from(byte) };
                self.overlong |= self.text.push(character).is_err();
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(input: &[u8]) -> Vec<String> {
        let mut editor = Editor::new();
        let typed = input.iter().filter_map(|&byte| editor.byte(byte));
        typed
            .map(|typed| match typed {
                Typed::Line(line) => line.as_str().to_owned(),
                Typed::Overlong => "(overlong)".to_owned(),
            })
            .collect()
    }

    #[test]
    fn lines_end_in_any_way() {
        assert_eq!(lines(b"vms\rhelp\n\r\n  \nvm 3\r\nunfinished"), ["vms", "help", "vm 3"]);
    }

    #[test]
    fn mistakes_are_taken_back() {
        assert_eq!(lines(b"\x08vns\x08\x7fms\r"), ["vms"]);
        assert_eq!(lines(b"destroy 1\x15vms\rkill x\x03\r"), ["vms"]);
    }

    #[test]
    fn what_is_not_text_is_ignored() {
        assert_eq!(lines(b"\0v\xffm\x1b\t3\r"), ["vm 3"]);
    }

    #[test]
    fn overlong_lines_are_dropped_whole() {
        let mut input = vec![b'x'; LINE_MAX];
        input.extend_from_slice(b"\r");
        assert_eq!(lines(&input), ["x".repeat(LINE_MAX)]);
        input.insert(0, b'x');
        input.extend_from_slice(b"vms\r");
        assert_eq!(lines(&input), ["(overlong)", "vms"]);
        // Even when some of it is taken back.
        let mut input = vec![b'x'; LINE_MAX + 1];
        input.extend_from_slice(b"\x08\x08\r");
        assert_eq!(lines(&input), ["(overlong)"]);
    }

    proptest! {
        /// Whatever comes in, what comes out is printable and of bounded length.
        #[test]
        fn any_input(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            for line in lines(&input) {
                prop_assert!(line.len() <= LINE_MAX && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
