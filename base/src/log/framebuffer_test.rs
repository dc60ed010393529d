use super::*;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

const FONT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;

/// The font's characters as the loader makes them.
fn glyphs() -> &'static Glyphs {
    let mut glyphs = Box::new([[0xff; WIDTH * HEIGHT]; GLYPHS]);
    for (glyph, character) in glyphs.iter_mut().zip(' '..='~') {
        for (to, from) in glyph.iter_mut().zip(get_raster(character, FONT, SIZE).expect("printable").pixels()) {
            *to = *from;
        }
    }
    Box::leak(glyphs)
}

const COLORS: [u8; 3] = [16, 8, 0];
/// Pixels beside and below the text that nothing may touch.
const MARK: u32 = 0x1234_5678;

struct Screen {
    framebuffer: Box<Framebuffer>,
    memory: Vec<u32>,
    pitch: usize,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Screen {
        let (width, height) = (columns * WIDTH + 3, rows * HEIGHT + 5);
        let pitch = width + 2;
        let number = |value: usize| u32::try_from(value).expect("small");
        let mode = Mode {
            address: PhysAddr::new(0x8000_0000),
            pitch: number(pitch * 4),
            width: number(width),
            height: number(height),
            colors: COLORS,
        };
        let mut memory = vec![MARK; pitch * height];
        let mut framebuffer = Box::new(Framebuffer::NONE);
        framebuffer.open(mode, glyphs());
        assert_eq!(framebuffer.size(), (columns, rows));
        // SAFETY: the vector has the mode's size, lives as long as the framebuffer and is not moved or read while it draws.
        unsafe { framebuffer.map(memory.as_mut_ptr().expose_provenance()) };
        Screen { framebuffer, memory, pitch }
    }

    fn say(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.framebuffer.show(byte));
    }

    /// The character whose glyph the pixels show.
    fn read(&self, row: usize, column: usize) -> Option<char> {
        (' '..='~').find(|&character| {
            let glyph = get_raster(character, FONT, SIZE).expect("printable");
            (0..WIDTH * HEIGHT).all(|at| {
                let (x, y) = (at % WIDTH, at / WIDTH);
                let there = self.memory[(row * HEIGHT + y) * self.pitch + column * WIDTH + x];
                Some(there) == glyph.pixel(x, y).map(|intensity| color(intensity, COLORS))
            })
        })
    }

    fn lines(&self) -> Vec<String> {
        let (columns, rows) = self.framebuffer.size();
        let line = |row| (0..columns).map(|column| self.read(row, column).expect("a glyph")).collect::<String>();
        (0..rows).map(|row| line(row).trim_end().to_owned()).collect()
    }
}

#[test]
fn lines_scroll_and_wrap() {
    let mut screen = Screen::new(10, 3);
    screen.say("one\r\ntwo\r\n");
    assert!(!screen.framebuffer.paint(usize::MAX));
    assert_eq!(screen.lines(), ["", "one", "two"]);
    screen.say("three\r\nfour is too long\r\n");
    assert!(!screen.framebuffer.paint(usize::MAX));
    assert_eq!(screen.lines(), ["three", "four is to", "o long"]);
    // The gap behind each row of pixels, and the one behind the last row of characters.
    let gaps = screen.memory.chunks(screen.pitch).all(|row| row[screen.pitch - 2..] == [MARK; 2]);
    assert!(gaps);
    let below = &screen.memory[3 * HEIGHT * screen.pitch..];
    assert!(below.chunks(screen.pitch).all(|row| row[..screen.pitch - 2].iter().all(|&pixel| pixel == 0)));
}

#[test]
fn painting_is_bounded_and_comes_to_an_end() {
    let mut screen = Screen::new(20, 4);
    let before = screen.memory.clone();
    screen.say("abcdefghij\r\nklmnopqrst\r\n");
    assert_eq!(screen.memory, before, "saying draws nothing");
    let mut rounds = 0;
    while screen.framebuffer.paint(3) {
        rounds += 1;
        assert!(rounds < 20);
    }
    assert!(rounds >= 6, "twenty characters, three at a time");
    assert_eq!(screen.lines(), ["", "", "abcdefghij", "klmnopqrst"]);
    assert!(!screen.framebuffer.paint(0), "nothing is left");
}

#[test]
fn what_was_said_before_the_mapping_is_shown_after_it() {
    let mut screen = Screen::new(10, 2);
    // SAFETY: nothing is mapped.
    unsafe { screen.framebuffer.map(0) };
    screen.say("early\r\n");
    assert!(!screen.framebuffer.paint(usize::MAX));
    // SAFETY: as in `new`.
    unsafe { screen.framebuffer.map(screen.memory.as_mut_ptr().expose_provenance()) };
    assert!(!screen.framebuffer.paint(usize::MAX));
    assert_eq!(screen.lines(), ["", "early"]);
}

#[test]
fn a_successor_goes_on_where_the_first_one_ended() {
    let mut screen = Screen::new(10, 3);
    screen.say("one\r\ntwo\r\nthree\r\nfour\r\n");
    screen.framebuffer.paint(usize::MAX);
    let mut successor = Box::new(Framebuffer::NONE);
    successor.open(screen.framebuffer.mode().expect("open"), glyphs());
    successor.resume(screen.framebuffer.shown());
    // SAFETY: as in `new`; the first one draws nothing more.
    unsafe { successor.map(screen.memory.as_mut_ptr().expose_provenance()) };
    assert!(!successor.paint(0), "nothing has changed");
    screen.framebuffer = successor;
    assert_eq!(screen.lines(), ["two", "three", "four"]);
    screen.say("five\r\n");
    screen.framebuffer.paint(usize::MAX);
    assert_eq!(screen.lines(), ["three", "four", "five"]);
}

#[test]
fn modes_that_make_no_sense_are_left_alone() {
    let good = Mode { address: PhysAddr::new(0xc000_0000), pitch: 4096, width: 1024, height: 768, colors: COLORS };
    assert_eq!(good.bytes(), Some(4096 * 768));
    let bad = [
        Mode { pitch: 4095, ..good },
        Mode { pitch: 2048, ..good },
        Mode { width: 3, ..good },
        Mode { height: 0, ..good },
        Mode { colors: [16, 8, 32], ..good },
        Mode { address: PhysAddr::new(1), ..good },
        Mode { address: PhysAddr::new(u64::MAX - 3), ..good },
    ];
    for mode in bad {
        assert_eq!(mode.bytes(), None, "{mode:?}");
        let mut framebuffer = Box::new(Framebuffer::NONE);
        framebuffer.open(mode, glyphs());
        framebuffer.show(b'x');
        assert_eq!(framebuffer.mode(), None);
        assert!(!framebuffer.paint(usize::MAX));
    }
    let mut large = Box::new(Framebuffer::NONE);
    large.open(Mode { pitch: 7680 * 4, width: 7680, height: 4320, ..good }, glyphs());
    assert_eq!(large.size(), (MAX_COLUMNS, MAX_ROWS));
}
