//! The screen of UEFI machines: text drawn into a linear framebuffer of 32-bit pixels. What a character looks like is data that
//! whoever opens the framebuffer brings along.
//!
//! Characters go into memory; [`Framebuffer::paint`] brings the pixels up to date, as many characters at a time as it is
//! allowed to. So a line costs nothing when it is said, scrolling only renumbers rows, and a screen that is slower than the
//! log skips what has scrolled away meanwhile. The framebuffer is written and never read: reading it is slow.

use crate::memory::PhysAddr;
use crate::memory::phys::index;
use abi::boot::screen::{
    COLUMNS as MAX_COLUMNS, GLYPH_HEIGHT as HEIGHT, GLYPH_WIDTH as WIDTH, GLYPHS, Glyph, ROWS as MAX_ROWS,
};

/// The characters' pixels: those from the blank to the tilde, and the box that stands for any other.
pub type Glyphs = [Glyph; GLYPHS];
/// What the pixels of the whole text are.
pub type Text = [[u8; MAX_COLUMNS]; MAX_ROWS];
/// What looking at a row for characters to draw counts as, in characters drawn.
const LOOK: usize = 1;
/// Brightness of the text: light grey, as on the text screen.
const BRIGHTNESS: u32 = 0xaa;

/// What the boot loader says about the framebuffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Its first byte.
    pub address: PhysAddr,
    /// Bytes from one row of pixels to the next.
    pub pitch: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Lowest bit of red, green and blue in a pixel; each has eight bits.
    pub colors: [u8; 3],
}

impl Mode {
    /// Bytes that the framebuffer takes. `None` when no text fits, or when the numbers make no sense.
    pub fn bytes(&self) -> Option<u64> {
        let row = u64::from(self.width) * 4;
        let fits = index(self.width.into()) >= WIDTH && index(self.height.into()) >= HEIGHT;
        let sense = u64::from(self.pitch) >= row && self.colors.iter().all(|&bit| bit <= 24);
        // Pixels are written whole.
        let aligned = self.pitch.is_multiple_of(4) && self.address.as_u64().is_multiple_of(4);
        let bytes = u64::from(self.pitch) * u64::from(self.height);
        let ends = self.address.as_u64().checked_add(bytes).is_some_and(|end| end <= 1 << 52);
        (fits && sense && aligned && ends).then_some(bytes)
    }
}

/// Text and pixels. As [`Framebuffer::NONE`] it swallows everything.
pub struct Framebuffer {
    mode: Mode,
    glyphs: Option<&'static Glyphs>,
    /// Where the pixels are mapped; 0 while they are not.
    base: usize,
    /// What was on the screen before is gone.
    dark: bool,
    columns: usize,
    rows: usize,
    /// The row of `text` that is shown at the top: text is written into the one above it, the bottom row.
    top: usize,
    column: usize,
    text: [[u8; MAX_COLUMNS]; MAX_ROWS],
    /// What the pixels show, by rows of the screen; 0 is a blank.
    shown: [[u8; MAX_COLUMNS]; MAX_ROWS],
    /// Bit r: row r of the screen may show something else than the text.
    stale: u64,
}

const _: () = assert!(MAX_ROWS <= 64);

impl Framebuffer {
    /// There is none.
    pub const NONE: Framebuffer = Framebuffer {
        mode: Mode { address: PhysAddr::new(0), pitch: 0, width: 0, height: 0, colors: [0; 3] },
        glyphs: None,
        base: 0,
        dark: false,
        columns: 0,
        rows: 0,
        top: 0,
        column: 0,
        text: [[0; MAX_COLUMNS]; MAX_ROWS],
        shown: [[0; MAX_COLUMNS]; MAX_ROWS],
        stale: 0,
    };

    /// Becomes the one that `mode` describes, dark, not mapped yet. A mode that makes no sense is left alone.
    pub fn open(&mut self, mode: Mode, glyphs: &'static Glyphs) {
        if mode.bytes().is_some() {
            self.mode = mode;
            self.glyphs = Some(glyphs);
            self.columns = (index(mode.width.into()) / WIDTH).min(MAX_COLUMNS);
            self.rows = (index(mode.height.into()) / HEIGHT).min(MAX_ROWS);
        }
    }

    /// What is shown already is this text, row by row from the top; it stays. Before it is mapped for the first time.
    pub fn resume(&mut self, text: &Text) {
        self.text = *text;
        self.shown = *text;
        self.top = 0;
        // The next character begins a row.
        self.column = self.columns;
        self.dark = true;
    }

    /// The pixels are at `base` from now on; at 0 there are none for the time being. The first time they are made dark.
    ///
    /// # Safety
    /// Unless it is 0, as many bytes as [`Mode::bytes`] says are mapped there until the next call, and nobody else uses them.
    pub unsafe fn map(&mut self, base: usize) {
        self.base = if self.rows == 0 { 0 } else { base };
        self.stale = u64::MAX;
        if self.base != 0 && !self.dark {
            self.darken();
            self.dark = true;
        }
    }

    fn darken(&mut self) {
        for y in 0..index(self.mode.height.into()) {
            for x in 0..index(self.mode.width.into()) {
                self.pixel(x, y, 0);
            }
        }
    }

    /// Adds an ASCII character to the text. A line that has ended scrolls only when the next one begins.
    pub fn show(&mut self, byte: u8) {
        if self.rows == 0 {
            return;
        }
        match byte {
            b'\n' => self.column = self.columns,
            b'\r' => self.column = 0,
            _ => {
                if self.column >= self.columns {
                    self.scroll();
                }
                let row = (self.top + self.rows - 1) % self.rows;
                // A blank is a blank, whether it was written or not.
                self.text[row][self.column] = if byte == b' ' { 0 } else { byte };
                self.column += 1;
                self.stale |= 1 << (self.rows - 1);
            }
        }
    }

    fn scroll(&mut self) {
        self.text[self.top] = [0; MAX_COLUMNS];
        self.top = (self.top + 1) % self.rows;
        self.column = 0;
        self.stale = u64::MAX;
    }

    /// Draws up to `limit` characters that the pixels do not show yet. Returns true while there are more.
    pub fn paint(&mut self, limit: usize) -> bool {
        if self.base == 0 {
            self.stale = 0;
            return false;
        }
        self.stale &= u64::MAX >> (64 - self.rows);
        let mut left = limit;
        // From the bottom: what was said last is what matters.
        while self.stale != 0 {
            let row = index((63 - self.stale.leading_zeros()).into());
            let from = (self.top + row) % self.rows;
            for column in 0..self.columns {
                let byte = self.text[from][column];
                if byte != self.shown[row][column] {
                    if left == 0 {
                        return true;
                    }
                    left -= 1;
                    self.draw(row, column, byte);
                    self.shown[row][column] = byte;
                }
            }
            self.stale &= !(1 << row);
            left = left.saturating_sub(LOOK);
        }
        false
    }

    fn draw(&mut self, row: usize, column: usize, byte: u8) {
        let Some(glyphs) = self.glyphs else { return };
        // What the font does not have is a box.
        let index = usize::from(byte.max(b' ') - b' ').min(GLYPHS - 1);
        let glyph = &glyphs[index];
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let intensity = glyph[y * WIDTH + x];
                self.pixel(column * WIDTH + x, row * HEIGHT + y, color(intensity, self.mode.colors));
            }
        }
    }

    fn pixel(&mut self, x: usize, y: usize, color: u32) {
        if x < index(self.mode.width.into()) && y < index(self.mode.height.into()) && self.base != 0 {
            let offset = y * index(self.mode.pitch.into()) + x * 4;
            let at: *mut u32 = core::ptr::with_exposed_provenance_mut(self.base + offset);
            // SAFETY: inside the bytes that `map`'s caller vouches for, and aligned: `open` checked the numbers.
            unsafe { at.write_volatile(color) };
        }
    }
}

/// The pixel of a grey text at this intensity.
fn color(intensity: u8, colors: [u8; 3]) -> u32 {
    let value = u32::from(intensity) * BRIGHTNESS / 0xff;
    colors.iter().fold(0, |pixel, bit| pixel | value << bit)
}

#[cfg(any(test, feature = "boot"))]
#[path = "opened.rs"]
mod opened;

#[cfg(test)]
#[path = "framebuffer_test.rs"]
mod tests;
