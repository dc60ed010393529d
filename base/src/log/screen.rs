//! The screen while the machine boots: how the loader opens it, maps it, and hands it to the core.

use super::super::framebuffer::{Glyphs, Mode};
use super::{CONSOLE, ROWS, clear};
use crate::memory::PhysAddr;
use abi::boot::{self, screen};
use core::ptr::NonNull;

/// What the screen is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// There is none, or none that the core can use.
    None,
    /// EGA text.
    Text,
    /// Pixels.
    Pixels(Mode),
}

/// Opens the screen, dark. A framebuffer has still to be mapped ([`framebuffer_at`]).
pub fn open_screen(screen: Screen, glyphs: &'static Glyphs) {
    let mut console = CONSOLE.lock();
    console.screen = screen == Screen::Text;
    match screen {
        Screen::None => {}
        Screen::Text => (0..ROWS).for_each(clear),
        Screen::Pixels(mode) => console.framebuffer.open(mode, glyphs),
    }
}

/// Writes down the screen and what it shows, for [`resume_screen`](super::resume_screen) of another program; `pixels` is where that one sees a framebuffer.
pub fn save_screen(to: &mut boot::Screen, pixels: Option<NonNull<u8>>) {
    let Some(console) = CONSOLE.try_lock() else { return };
    to.kind = if console.screen { screen::TEXT } else { screen::NONE };
    if let (Some(mode), Some(pixels)) = (console.framebuffer.mode(), pixels) {
        (to.kind, to.pitch, to.width, to.height) = (screen::PIXELS, mode.pitch, mode.width, mode.height);
        to.colors = mode.colors;
        to.pixels = pixels.as_ptr().addr() as u64;
        to.text = *console.framebuffer.shown();
    }
}

/// The framebuffer that the log is shown on: its first byte, its bytes, and its characters in a row and rows.
pub fn framebuffer() -> Option<(PhysAddr, u64, (usize, usize))> {
    let console = CONSOLE.try_lock()?;
    let mode = console.framebuffer.mode()?;
    Some((mode.address, mode.bytes()?, console.framebuffer.size()))
}

/// The framebuffer is mapped at `at` from now on; without it there is no screen until the next call.
///
/// # Safety
/// As many bytes as [`framebuffer`] says are mapped there and stay so until the next call; nobody else uses them.
pub unsafe fn framebuffer_at(at: Option<NonNull<u8>>) {
    if let Some(mut console) = CONSOLE.try_lock() {
        // SAFETY: upheld by the caller.
        unsafe { console.framebuffer.map(at.map_or(0, |at| at.as_ptr().expose_provenance())) };
        console.framebuffer.paint(usize::MAX);
    }
}
