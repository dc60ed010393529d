//! Keys, and what a screen shows then.

use super::*;
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

/// A row of a screen, as terminals draw it, and where its cursor is.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    at: usize,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        let text = core::str::from_utf8(bytes).expect("text");
        let mut chars = text.chars();
        if self.rows.is_empty() {
            self.rows.push(Vec::new());
        }
        while let Some(c) = chars.next() {
            let row = self.rows.last_mut().expect("a row");
            match c {
                '\r' => self.at = 0,
                '\n' => self.rows.push(Vec::new()),
                '\u{7}' => {}
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = String::new();
                    let last = loop {
                        match chars.next().expect("the end of a sequence") {
                            digit @ '0'..='9' => number.push(digit),
                            last => break last,
                        }
                    };
                    match last {
                        'K' => row.truncate(self.at),
                        'D' => self.at -= number.parse::<usize>().expect("a number"),
                        'H' => self.at = 0,
                        'J' => self.rows = vec![Vec::new()],
                        other => panic!("{other}"),
                    }
                }
                c => {
                    for place in 0..of(c) {
                        let shown = if place == 0 { c } else { '\u{0}' };
                        match row.get_mut(self.at) {
                            Some(place) => *place = shown,
                            None => {
                                assert_eq!(row.len(), self.at);
                                row.push(shown);
                            }
                        }
                        self.at += 1;
                    }
                }
            }
        }
    }

    fn row(&self) -> String {
        self.rows.last().expect("a row").iter().filter(|c| **c != '\u{0}').collect()
    }
}

/// Types this, and shows it all on a screen.
fn typed(editor: &mut Editor, screen: &mut Screen, keys: &str) -> Vec<Typed> {
    let mut all = Vec::new();
    for byte in keys.bytes() {
        let mut out = Vec::new();
        let done = editor.take(byte, &mut out);
        screen.show(&out);
        if matches!(done, Some(Typed::Line(_) | Typed::Dropped)) {
            let mut out = Vec::new();
            editor.draw(&mut out);
            screen.show(&out);
        }
        all.extend(done);
    }
    all
}

fn at_prompt(columns: u32) -> (Editor, Screen) {
    let (mut editor, mut screen) = (Editor::new("> ", columns), Screen::default());
    let mut out = Vec::new();
    editor.draw(&mut out);
    screen.show(&out);
    (editor, screen)
}

/// The line that comes of these keys.
fn line(keys: &str) -> String {
    let (mut editor, mut screen) = at_prompt(40);
    match &typed(&mut editor, &mut screen, &format!("{keys}\r"))[..] {
        [Typed::Line(line)] => line.clone(),
        other => panic!("{keys:?}: {other:?}"),
    }
}

#[test]
fn keys_that_edit() {
    for (keys, is) in [
        ("vm list", "vm list"),
        ("vm lisx\x7ft", "vm list"),
        ("vm lisx\x08t", "vm list"),
        ("m list\x01v", "vm list"),
        ("m list\x1b[Hv\x1b[F -", "vm list -"),
        ("m list\x1b\x1b[Hv\x1b[F -", "vm list -"),
        ("m list\x1bOHv\x1bOF -", "vm list -"),
        ("m list\x1b[1~v\x1b[4~ -", "vm list -"),
        ("vm ist\x1b[D\x1b[D\x1b[Dl", "vm list"),
        ("vm ist\x02\x02\x02l\x06\x06\x06!", "vm list!"),
        ("vm xlist\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[3~", "vm list"),
        ("vm xlist\x01\x1b[C\x1b[C\x1b[C\x04", "vm list"),
        ("vm list\x1b[D\x1b[D\x1b[D\x1b[D\x0bshow", "vm show"),
        ("disk show\x15vm list", "vm list"),
        ("vm show  \x17list", "vm list"),
        ("\x17\x7f\x1b[3~\x0bvm", "vm"),
        // Held down beside Ctrl, and what means nothing here.
        ("m list\x1b[1;5Hv", "vm list"),
        ("vm\x1b[15~\x1bx\x1b[Z list\x00\x1f", "vm list"),
        ("gr\u{fc}n\x1b[D\x7fu", "grun"),
        ("\u{4f60}\u{597d}\x02\x7f", "\u{597d}"),
    ] {
        assert_eq!(line(keys), is, "{keys:?}");
    }
}

#[test]
fn what_is_no_text_is_left_out() {
    let (mut editor, mut out) = (Editor::new("> ", 40), Vec::new());
    for byte in [b'a', 0xff, 0xc3, b'b', 0xe2, 0x82, 0xc3, 0xbc, 0xc2, 0x9b] {
        assert_eq!(editor.take(byte, &mut out), None);
    }
    assert_eq!(editor.before(), "ab\u{fc}", "nor what would move the cursor of a terminal");
}

#[test]
fn what_ends_a_line() {
    let (mut editor, mut screen) = at_prompt(40);
    let lines = typed(&mut editor, &mut screen, "a\r\nb\n\rc\x03\x04x\x04\x1d\t\ty\t");
    let line = |text: &str| Typed::Line(text.to_string());
    let all = [
        line("a"),
        line("b"),
        line(""),
        Typed::Dropped,
        Typed::End,
        Typed::Escape,
        Typed::Tab(false),
        Typed::Tab(true),
        Typed::Tab(false),
    ];
    assert_eq!(lines, all);
    assert_eq!(screen.row(), "> xy");
}

#[test]
fn lines_come_again() {
    let (mut editor, mut screen) = at_prompt(40);
    typed(&mut editor, &mut screen, "one\rtwo\rtwo\r \r");
    let mut row = |keys: &str| {
        typed(&mut editor, &mut screen, keys);
        screen.row()
    };
    assert_eq!(row("draft\x1b[A"), "> two");
    assert_eq!(row("\x10"), "> one");
    assert_eq!(row("\x1b[A"), "> one", "there is none before it");
    assert_eq!(row("\x1b[B"), "> two");
    assert_eq!(row("\x0e"), "> draft");
    assert_eq!(row("\x1b[B"), "> draft");
    assert_eq!(row("\x10\x7f!\r\x10"), "> tw!");
    for number in 0..100 {
        typed(&mut editor, &mut screen, &format!("\x15line {number}\r"));
    }
    typed(&mut editor, &mut screen, &"\x10".repeat(200));
    assert_eq!(screen.row(), "> line 36", "64 are remembered");
}

#[test]
fn lines_that_are_wider_than_the_window_move() {
    let (mut editor, mut screen) = at_prompt(20);
    typed(&mut editor, &mut screen, "0123456789abcdefghijklmnopqrst");
    assert!(screen.row().ends_with("qrst") && screen.row().chars().count() < 20, "{}", screen.row());
    typed(&mut editor, &mut screen, "\x01");
    assert_eq!(screen.row(), "> 0123456789abcdefg");
    assert_eq!(screen.at, 2);
    typed(&mut editor, &mut screen, "\x05\x15");
    assert_eq!(screen.row(), "> ");
    typed(&mut editor, &mut screen, "0123456789abcdefghij");
    assert!(editor.set_columns(40) && !editor.set_columns(40));
    let mut out = Vec::new();
    editor.draw(&mut out);
    screen.show(&out);
    assert_eq!(screen.row(), "> 0123456789abcdefghij");
}

#[test]
fn lines_have_an_end() {
    let (mut editor, mut screen) = at_prompt(40);
    typed(&mut editor, &mut screen, &"\u{e9}".repeat(LINE));
    assert_eq!(editor.before().len(), LINE);
    editor.insert("completed", &mut Vec::new());
    assert_eq!(editor.before().len(), LINE);
    typed(&mut editor, &mut screen, "\r");
    let kept: usize = editor.history.iter().map(String::len).sum();
    assert!(kept <= HISTORY_BYTES);
}

#[test]
fn other_text_comes_between() {
    let (mut editor, mut screen) = at_prompt(40);
    typed(&mut editor, &mut screen, "6*");
    let mut out = Vec::new();
    editor.hide(&mut out);
    out.extend(b"a line\r\n");
    editor.set_prompt("calc> ");
    editor.draw(&mut out);
    screen.show(&out);
    assert_eq!((screen.rows.len(), screen.row()), (2, "calc> 6*".to_string()));
    let mut out = Vec::new();
    editor.leave(&mut out);
    editor.leave(&mut out);
    assert_eq!(out, b"\r\n");
}

proptest! {
    /// Whatever is typed, what is shown is the line around the cursor, in one row of the window.
    #[test]
    fn the_screen_shows_the_line(
        keys in prop::collection::vec(prop_oneof![
            Just("\x1b[A"), Just("\x1b[B"), Just("\x1b[C"), Just("\x1b[D"), Just("\x1b[D\x1b[D\x1b[D"), Just("\x01"), Just("\x05"), Just("\x7f"), Just("\x0b"),
            Just("\x17"),
            Just("\x1b[3~"), Just("\x15"), Just("\r"), Just("vm list --name "), Just("a"), Just("\u{597d}"),
        ], 0..60),
        columns in 1_u32..60,
    ) {
        let (mut editor, mut screen) = at_prompt(columns);
        for key in keys {
            typed(&mut editor, &mut screen, key);
            prop_assert!(screen.at < editor.columns, "{} {}", screen.at, editor.columns);
            let row = screen.row();
            let shown = row.strip_prefix("> ").expect("the prompt");
            let line: String = editor.line.iter().collect();
            prop_assert!(line.contains(shown) || of_text(shown) >= editor.columns, "{shown:?} of {line:?}");
            let behind: String = editor.line.iter().skip(editor.first).take(editor.cursor - editor.first).collect();
            prop_assert_eq!(2 + of_text(&behind), screen.at);
        }
    }

    #[test]
    fn nothing_that_is_typed_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut editor, mut out) = (Editor::new("> ", 30), Vec::new());
        for byte in bytes {
            editor.take(byte, &mut out);
        }
        prop_assert!(core::str::from_utf8(&out).is_ok());
        prop_assert_eq!(editor.bytes, editor.line.iter().map(|c| c.len_utf8()).sum::<usize>());
    }
}
