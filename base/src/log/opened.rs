//! What whoever has opened a framebuffer asks of it.

use super::{Framebuffer, Mode, Text};

impl Framebuffer {
    /// What the pixels show, row by row from the top.
    pub fn shown(&self) -> &Text {
        &self.shown
    }

    /// What was opened.
    pub fn mode(&self) -> Option<Mode> {
        (self.columns > 0).then_some(self.mode)
    }

    /// Characters in a row, and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }
}
