//! `cargo xtask audit-verify`: checks what `ssh ... audit` has written, without a machine.

use crate::error::{Context, Result, fail};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is to be checked.
#[derive(clap::Args)]
pub struct Args {
    /// A file that `ssh -p 2222 admin@localhost audit` has written
    file: PathBuf,
    /// The machine's log (what COM1 has said): the hashes in it must be those of the file
    #[arg(long)]
    log: Option<PathBuf>,
    /// The hash that the last line must have
    #[arg(long)]
    head: Option<String>,
}

/// What a whole file holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// The number of its first line.
    first: u64,
    /// The hash of each line.
    hashes: Vec<String>,
}

impl Whole {
    fn last(&self) -> u64 {
        self.first + self.hashes.len() as u64 - 1
    }

    fn hash_of(&self, line: u64) -> Option<&str> {
        let at = usize::try_from(line.checked_sub(self.first)?).ok()?;
        self.hashes.get(at).map(String::as_str)
    }
}

/// Checks each line of a file against the one before.
///
/// # Errors
/// The first line that is not as it was written.
pub fn check(text: &str) -> Result<Whole> {
    let mut lines = text.lines();
    let beginning: serde_json::Value = serde_json::from_str(lines.next().unwrap_or_default())
        .context(|| "line 1: that is no audit log: give what `ssh -p 2222 admin@localhost audit` writes".into())?;
    let (Some("foraker"), Some(first), Some(before)) =
        (beginning["audit"].as_str(), beginning["first"].as_u64(), beginning["before"].as_str())
    else {
        fail!("line 1: that is no audit log: give what `ssh -p 2222 admin@localhost audit` writes");
    };
    let mut whole = Whole { first, hashes: Vec::new() };
    let mut before = before.to_owned();
    if first == 1 && before.bytes().any(|byte| byte != b'0') {
        fail!("line 1: nothing can stand before the first line");
    }
    for (line, at) in lines.zip(2..) {
        let number = first + whole.hashes.len() as u64;
        let Some((said, hash)) = line.strip_suffix("\"}").and_then(|line| line.rsplit_once(",\"hash\":\"")) else {
            fail!("line {at}: it has no hash");
        };
        let value: serde_json::Value = serde_json::from_str(line).context(|| format!("line {at}"))?;
        if value["n"].as_u64() != Some(number) {
            fail!("line {at}: it should be number {number}, and is {}: lines are missing, or were added", value["n"]);
        }
        let found = hex(&Sha256::digest(format!("{before}{said}")));
        if found != hash {
            fail!("line {at}: its hash should be {found}, and is {hash}: it was changed, or the one before was");
        }
        hash.clone_into(&mut before);
        whole.hashes.push(found);
    }
    Ok(whole)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares the hashes in a machine's log with those of a file. How many lines were compared.
///
/// # Errors
/// One that differs, or belongs to a line behind the last one.
pub fn compare(whole: &Whole, log: &str) -> Result<usize> {
    let mut compared = 0;
    for (line, at) in log.lines().zip(1..) {
        let Some((number, hash)) = line.split_once("audit: line ").and_then(|(_, said)| said.trim().split_once(" is "))
        else {
            continue;
        };
        let Some(number) = number.parse::<u64>().ok().filter(|&number| number >= whole.first) else { continue };
        match whole.hash_of(number) {
            Some(found) if found == hash => compared += 1,
            Some(found) => {
                fail!("the machine's log says in line {at} that number {number} is {hash}, and it is {found}")
            }
            None => fail!("the machine's log knows of number {number} in line {at}, and the file ends before"),
        }
    }
    Ok(compared)
}

/// Checks a file, and says what was checked.
///
/// # Errors
/// What is wrong with it.
pub fn verify(args: &Args) -> Result<ExitCode> {
    let read = |file: &PathBuf| std::fs::read_to_string(file).context(|| format!("cannot read {}", file.display()));
    let whole = check(&read(&args.file)?).context(|| args.file.display().to_string())?;
    let Some(head) = whole.hashes.last() else {
        println!("audit-verify: there is nothing in it");
        return Ok(ExitCode::SUCCESS);
    };
    if args.head.as_ref().is_some_and(|wanted| wanted != head) {
        fail!(
            "the last line is {head}, and not the one that was given: lines are missing at the end, or it is another log"
        );
    }
    let compared = match &args.log {
        Some(log) => format!("; {} of them are in the machine's log", compare(&whole, &read(log)?)?),
        None => String::new(),
    };
    println!(
        "audit-verify: numbers {} to {} are as they were written{compared}; the last one is {head}",
        whole.first,
        whole.last()
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of three lines, made as the supervisor makes it.
    fn log() -> String {
        let mut before = "0".repeat(64);
        let mut text = format!("{{\"audit\":\"foraker\",\"first\":1,\"before\":\"{before}\"}}\n");
        for n in 1..=3 {
            let said =
                format!("{{\"n\":{n},\"unix_ms\":5,\"who\":\"a\",\"what\":\"vm kill web-{n}\",\"outcome\":\"done\"");
            before = hex(&Sha256::digest(format!("{before}{said}")));
            text.push_str(&format!("{said},\"hash\":\"{before}\"}}\n"));
        }
        text
    }

    #[test]
    fn a_whole_log_is_whole_and_a_changed_one_is_not() {
        let log = log();
        let whole = check(&log).expect("whole");
        assert_eq!((whole.first, whole.last()), (1, 3));
        for (from, to, says) in [
            ("web-2", "web-9", "line 3: its hash should be"),
            ("\"n\":2", "\"n\":3", "line 3: it should be number 2, and is 3"),
            ("\"first\":1", "\"first\":2", "line 2: it should be number 2"),
            ("\"hash\"", "\"hush\"", "line 2: it has no hash"),
            ("foraker", "x", "line 1: that is no audit log"),
            ("\"before\":\"0", "\"before\":\"1", "nothing can stand before"),
        ] {
            let error = check(&log.replace(from, to)).expect_err(from).to_string();
            assert!(error.contains(says), "{from}: {error}");
        }
        let lines: Vec<&str> = log.lines().collect();
        let error = check(&[lines[0], lines[1], lines[3]].join("\n")).expect_err("one is missing").to_string();
        assert!(error.contains("lines are missing"), "{error}");
        assert!(check("").is_err());
    }

    #[test]
    fn the_machines_log_says_the_same() {
        let whole = check(&log()).expect("whole");
        let of = |line| whole.hash_of(line).expect("there").to_owned();
        let said = |number: u64, hash: &str| format!("vm0.1: INFO audit: line {number} is {hash}\nelse\n");
        assert_eq!(compare(&whole, &(said(1, &of(1)) + &said(3, &of(3)))).expect("the same"), 2);
        let other = compare(&whole, &said(2, &of(3))).expect_err("another one").to_string();
        assert!(other.contains("number 2"), "{other}");
        // The end was cut off, which the chain itself does not tell.
        let short = compare(&whole, &said(4, &of(3))).expect_err("more").to_string();
        assert!(short.contains("the file ends before"), "{short}");
    }
}
