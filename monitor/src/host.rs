//! What commands need of the world around them.

use abi::message::Message;
use abi::request_page::Piece;
use core::fmt::Arguments;

/// What a session needs from outside.
pub trait Host {
    /// Puts a request into the ring to the core. False when there is no space.
    fn send(&mut self, request: &Message) -> bool;
    /// Writes what a request names into the request page.
    fn write_page(&mut self, at: Piece, bytes: &[u8]);
    /// Reads what the core has written there.
    fn read_page(&mut self, at: Piece, bytes: &mut [u8]);
    /// Puts a question into the ring to the disk component.
    fn ask_disks(&mut self, request: &Message) -> Asked;
    /// Prints one line.
    fn print(&mut self, line: Arguments<'_>);
}

/// What became of a question to the disk component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It will answer.
    Sent,
    /// The ring is full.
    Full,
    /// There is no such component.
    Nobody,
}
