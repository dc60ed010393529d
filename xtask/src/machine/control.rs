//! QEMU's control socket (QMP): pictures of the screen, and hardware that fails.

use crate::error::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Lines that may come before the answer: events.
const EVENTS: usize = 1000;

/// The connection.
pub struct Control(BufReader<TcpStream>);

/// A picture of the screen.
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel, row by row from the top.
    pub pixels: Vec<[u8; 3]>,
}

impl Control {
    /// Shakes hands with the QEMU at the other end.
    pub fn open(stream: TcpStream) -> Result<Control> {
        stream.set_read_timeout(Some(ANSWER)).context(|| "cannot use QEMU's control socket".into())?;
        let mut control = Control(BufReader::new(stream));
        let greeting = control.line()?;
        if greeting.get("QMP").is_none() {
            fail!("QEMU greets with {greeting}");
        }
        control.execute("qmp_capabilities", &json!({}))?;
        Ok(control)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).context(|| "QEMU does not answer on its control socket".into())?;
        if read == 0 {
            fail!("QEMU has closed its control socket");
        }
        serde_json::from_str(&line).context(|| format!("QEMU says {line}"))
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments });
        let stream = self.0.get_mut();
        stream.write_all(format!("{text}\n").as_bytes()).context(|| format!("cannot ask QEMU for {command}"))?;
        for _ in 0..EVENTS {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                fail!("QEMU refuses {command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        fail!("QEMU does not answer {command}");
    }

    /// Has QEMU's monitor for people carry out `command`, which says nothing when all is well.
    pub fn monitor(&mut self, command: &str) -> Result<()> {
        match self.execute("human-monitor-command", &json!({ "command-line": command }))? {
            Value::String(answer) if !answer.trim().is_empty() => {
                fail!("QEMU answers {command} with {}", answer.trim())
            }
            _ => Ok(()),
        }
    }

    /// Requests to read that QEMU has carried out for each of the machine's disks, in their order.
    pub fn disk_reads(&mut self) -> Result<Vec<u64>> {
        let all = self.execute("query-blockstats", &json!({}))?;
        Ok(reads(&all))
    }

    /// What the screen shows, also left as `screen.ppm` in the run's folder `dir`.
    pub fn picture(&mut self, dir: &Path) -> Result<Picture> {
        self.execute("screendump", &json!({ "filename": "screen.ppm" }))?;
        let path = dir.join("screen.ppm");
        let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        match parse(&bytes) {
            Some(picture) => Ok(picture),
            None => fail!("{} is no picture of the kind that QEMU makes (PPM, P6)", path.display()),
        }
    }
}

/// The reads of the drives `disk0`, `disk1` and so on in an answer to `query-blockstats`.
fn reads(all: &Value) -> Vec<u64> {
    let of = |number: usize| {
        let name = format!("disk{number}");
        let drive = all.as_array()?.iter().find(|drive| drive["device"] == name)?;
        drive["stats"]["rd_operations"].as_u64()
    };
    (0..).map_while(of).collect()
}

/// Reads a binary PPM without comments and with 255 as the highest value.
fn parse(bytes: &[u8]) -> Option<Picture> {
    let mut words = bytes.splitn(5, u8::is_ascii_whitespace);
    let mut word = || words.next();
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<usize>().ok();
    if word()? != b"P6" {
        return None;
    }
    let (width, height) = (number(word()?)?, number(word()?)?);
    if word()? != b"255" {
        return None;
    }
    let (pixels, rest) = word()?.as_chunks::<3>();
    let whole = rest.is_empty() && Some(pixels.len()) == width.checked_mul(height);
    whole.then(|| Picture { width, height, pixels: pixels.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::{parse, reads};
    use serde_json::json;

    #[test]
    fn reads_are_those_of_disks() {
        let drive = |name: &str, reads: u64| json!({ "device": name, "stats": { "rd_operations": reads } });
        assert_eq!(reads(&json!([drive("cd", 9), drive("disk1", 5), drive("disk0", 7)])), [7, 5]);
        assert!(reads(&json!([drive("disk1", 5)])).is_empty());
    }

    #[test]
    fn pictures() {
        let picture = parse(b"P6\n2 1\n255\n\x01\x02\x03 \n\x06").expect("a picture");
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.pixels, [[1, 2, 3], [b' ', b'\n', 6]]);
        assert!(parse(b"P6\n2 1\n255\n\x01\x02\x03").is_none(), "too short");
        assert!(parse(b"P5\n2 1\n255\n\x01\x02\x03\x04\x05\x06").is_none(), "grey");
    }
}
