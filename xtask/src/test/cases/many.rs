//! `cargo xtask run` with far more VMs than memory, as somebody types it.

use super::command::{output, said};
use super::ensure;
use crate::error::Result;
use crate::test::Case;
use crate::test::lab::Lab;

/// Those that take root.
pub const ROOT_CASES: &[Case] = &[Case {
    name: "run: more VMs than memory",
    asserts: "a thousand web servers in memory for a part of them are ready, and each answers again and again",
    run: some,
}];

/// Those that take root and long.
pub const LONG_ROOT_CASES: &[Case] = &[Case {
    name: "run: 5,000 VMs in 256 MiB",
    asserts: "5,000 web servers in memory for a part of them are ready, and each answers again",
    run: many,
}];

/// Asks each VM for `/100b`, eight at once. The host has room for a thousand neighbours that were asked within seconds
/// (`net.ipv4.neigh.default.gc_thresh3`), so it is made to forget them.
const ASK: &str = r#"set -e
    dir=$(mktemp -d)
    trap 'rm -r "$dir"' EXIT
    split -l 400 "$FORAKER_URLS" "$dir/part-"
    for round in $(seq $ROUNDS); do
        for part in "$dir"/part-*; do
            sed 's|.*|url = &/100b\noutput = /dev/null|' "$part" | curl -sS --no-progress-meter -Z --parallel-max 8 --max-time 60 -w '%{http_code} %{size_download}\n' -K - >> "$dir/answers"
            ip neigh flush dev tap0
        done
    done
    echo "answers: $(grep -c '^200 100$' "$dir/answers")"; sort "$dir/answers" | uniq -c"#;

fn some(lab: &Lab) -> Result<()> {
    asked(lab, 1000, 64, 2)
}

fn many(lab: &Lab) -> Result<()> {
    asked(lab, 5000, 256, 1)
}

/// Runs so many VMs in so many MiB, for all of which there is no memory, and asks each of them so often.
fn asked(lab: &Lab, vms: usize, megs: u32, rounds: usize) -> Result<()> {
    let image = lab.system.image.iter().find(|image| image.name == "httpd");
    let reserve = image.and_then(|image| image.reserve.as_ref()).map_or(0, |reserve| reserve.0);
    ensure(vms as u64 * reserve > u64::from(megs) << 20, || "there is memory for all of them".into())?;
    let (count, memory, ask) = (vms.to_string(), megs.to_string(), ASK.replace("$ROUNDS", &rounds.to_string()));
    let output = output(&["--headless", "--vms", &count, "--memory", &memory, "--exec", &ask])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{}", output.status, tail(&text)))?;
    let answers = format!("answers: {}", vms * rounds);
    ensure(text.lines().any(|line| line == answers), || format!("no \"{answers}\" in:\n{}", tail(&text)))?;
    for word in [" ended: ", " killed: ", "ERROR"] {
        ensure(!text.contains(word), || format!("\"{word}\" in:\n{}", tail(&text)))?;
    }
    Ok(())
}

/// The end of what a run has said.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
