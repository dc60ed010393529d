//! UEFI: the same image on QEMU with OVMF, whatever kind of machine the other tests run on.

use super::ensure;
use crate::error::{Result, fail};
use crate::machine::Picture;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: uefi",
        asserts: "the image of build-iso boots its first preset with UEFI, and eight web servers answer",
        run: boot,
    },
    Case {
        name: "qemu: uefi: screen",
        asserts: "the framebuffer shows the end of the log, character by character",
        run: screen,
    },
    Case {
        name: "qemu: uefi: fatal messages",
        asserts: "a boot that ends says why on the framebuffer, before and after the final page tables",
        run: fatal,
    },
];

/// The core's font, and how bright its pixels are.
const FONT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
const WIDTH: usize = get_raster_width(FONT, SIZE);
const HEIGHT: usize = SIZE.val();
const BRIGHTNESS: u16 = 0xaa;
/// How long the screen may lag behind the serial line.
const LAG: Duration = Duration::from_secs(20);
/// The first words of the core.
const BANNER: &str = "[    0.000000] INFO  core: Foraker ";

fn boot(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("").uefi().released_image().start()?;
    let audit = running.wait_for("W^X: ", BOOT)?;
    ensure(audit.contains("W^X: 0 of ") && !audit.contains("alias"), || format!("the audit says: {audit}"))?;
    ensure(running.services().len() == 8, || format!("the first preset has {} web servers", running.services().len()))?;
    running.wait_for_services(BOOT)?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn screen(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd").uefi().start()?;
    running.wait_for("httpd: serving", BOOT)?;
    shows_the_log(&mut running)?;
    // What is said while VMs run arrives as well.
    running.monitor("vms")?;
    let rows = shows_the_log(&mut running)?;
    ensure(rows.iter().any(|row| row.contains("monitor: done vms")), || format!("the screen shows {rows:#?}"))
}

fn fatal(lab: &Lab) -> Result<()> {
    let early = lab.boot("vms=httpd").uefi().stays_on().without_module("manifest");
    let late = lab.boot("vms=httpd").uefi().stays_on().without_net();
    for (boot, code) in [(early, "FATAL F015: "), (late, "FATAL F022: ")] {
        let mut running = boot.start()?;
        running.wait_for(code, BOOT)?;
        let rows = shows_the_log(&mut running)?;
        ensure(rows.iter().any(|row| row.starts_with(code)), || format!("the screen shows {rows:#?}"))?;
        // So few lines that none has scrolled away.
        ensure(rows.first().is_some_and(|row| row.starts_with(BANNER)), || format!("the screen shows {rows:#?}"))?;
    }
    Ok(())
}

/// Waits until the screen shows the end of what the core has said. Returns its rows without the empty ones at the top.
fn shows_the_log(running: &mut Running) -> Result<Vec<String>> {
    let end = Instant::now() + LAG;
    loop {
        let picture = running.machine().picture()?;
        let rows = read(&picture);
        let said = wrapped(&running.machine().log().since(0), picture.width / WIDTH);
        let shown: Option<Vec<String>> = rows.iter().cloned().collect();
        if let Some(shown) = shown {
            let shown: Vec<String> = shown.into_iter().skip_while(String::is_empty).collect();
            let full = shown.len() == rows.len().min(said.len());
            if full && !shown.is_empty() && said.ends_with(&shown) {
                return Ok(shown);
            }
        }
        if Instant::now() >= end {
            let rows: Vec<String> = rows.into_iter().map(|row| row.unwrap_or_else(|| "(no text)".to_owned())).collect();
            let dir = running.machine().dir().display().to_string();
            fail!(
                "the screen does not show the log within {} s ({dir}/screen.ppm): {rows:#?}, but the end of the log is {:#?}",
                LAG.as_secs(),
                &said[said.len().saturating_sub(5)..]
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The core's lines as a screen shows them: those without room for all their characters go on in the next row.
fn wrapped(lines: &[String], columns: usize) -> Vec<String> {
    let mut rows = Vec::new();
    // Before it come the firmware's and GRUB's, and maybe their control sequences in the same line.
    let first = lines.iter().position(|line| line.contains(BANNER)).unwrap_or(lines.len());
    for line in &lines[first..] {
        let line = line.find(BANNER).map_or(line.as_str(), |at| &line[at..]);
        let characters: Vec<char> = line.chars().map(|c| if c.is_ascii() { c } else { '-' }).collect();
        let row = |part: &[char]| part.iter().collect::<String>().trim_end().to_owned();
        match characters.is_empty() {
            true => rows.push(String::new()),
            false => rows.extend(characters.chunks(columns.max(1)).map(row)),
        }
    }
    rows
}

/// The rows of text in a picture; `None` for one that holds anything but characters of the font.
fn read(picture: &Picture) -> Vec<Option<String>> {
    let glyphs: HashMap<Vec<u8>, char> = (' '..='~')
        .filter_map(|character| {
            let glyph = get_raster(character, FONT, SIZE)?;
            let scaled = |&intensity: &u8| u8::try_from(u16::from(intensity) * BRIGHTNESS / 0xff).unwrap_or(u8::MAX);
            Some((glyph.pixels().iter().map(scaled).collect(), character))
        })
        .collect();
    let cell = |row: usize, column: usize| -> Option<char> {
        let mut pixels = Vec::with_capacity(WIDTH * HEIGHT);
        for y in row * HEIGHT..(row + 1) * HEIGHT {
            for [red, green, blue] in &picture.pixels[y * picture.width + column * WIDTH..][..WIDTH] {
                if red != green || green != blue {
                    return None;
                }
                pixels.push(*red);
            }
        }
        glyphs.get(&pixels).copied()
    };
    let row = |row| {
        let text: Option<String> = (0..picture.width / WIDTH).map(|column| cell(row, column)).collect();
        text.map(|text| text.trim_end().to_owned())
    };
    (0..picture.height / HEIGHT).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{BANNER, wrapped};

    #[test]
    fn long_lines_go_on_in_the_next_row() {
        let lines = ["GRUB".to_owned(), format!("\u{1b}[H{BANNER}0"), String::new(), "a — b c".to_owned()];
        assert_eq!(wrapped(&lines, 100), [format!("{BANNER}0"), String::new(), "a - b c".to_owned()]);
        assert_eq!(wrapped(&lines, 5)[9..], ["a - b", " c"]);
    }
}
