//! How many columns of a terminal a text takes.

/// Columns of a character: two of those of East Asia, none of those that are put over others. Names and commands here have neither, so the blocks of
/// Unicode are enough.
pub fn of(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x2_0000..=0x3_fffd => 2,
        _ => 1,
    }
}

/// Columns of a text.
pub fn of_text(text: &str) -> usize {
    text.chars().map(of).sum()
}
