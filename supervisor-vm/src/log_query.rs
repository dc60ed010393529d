//! Which lines of the machine's log are asked for.

use alloc::string::{String, ToString};
use serde::Serialize;

/// Lines that are shown unless somebody says otherwise,
const LINES: usize = 50;
/// and at most.
const LINES_MOST: usize = 1000;
/// How serious a line is, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    const fn word(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }

    /// By its word, however it is written.
    pub fn parse(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(word))
    }
}

/// Which lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The last ones, so many at most.
    pub lines: usize,
    /// As serious as this, or more.
    pub level: Option<Level>,
    /// Said by this component, by the core, or by this VM.
    pub from: Option<String>,
    /// And what comes then, as it comes,
    pub follow: bool,
    /// for so many seconds.
    pub seconds: Option<u32>,
    /// As JSON.
    pub json: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        LogQuery { lines: LINES, level: None, from: None, follow: false, seconds: None, json: false }
    }
}

impl LogQuery {
    /// How the words are used.
    pub const USAGE: &'static str =
        "log [--lines N] [--level LEVEL] [--from WHO] [--json], or [--follow [--for SECONDS]]";

    /// Words that have a value.
    pub const KEYS: [&'static str; 4] = ["lines", "level", "from", "for"];

    /// Takes a word that stands alone. Whether it is one.
    pub fn set(&mut self, key: &str) -> bool {
        match key {
            "follow" => self.follow = true,
            "json" => self.json = true,
            _ => return false,
        }
        true
    }

    /// Takes a word and its value.
    ///
    /// # Errors
    ///
    /// What it takes.
    pub fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let number = |most| value.parse().ok().filter(|number| (1..=most).contains(number));
        match key {
            "lines" => self.lines = number(LINES_MOST).ok_or("a number from 1 to 1000")?,
            "level" => self.level = Some(Level::parse(value).ok_or("error, warn, info, debug or trace")?),
            "from" => self.from = Some(value.to_string()),
            "for" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                self.seconds = Some(seconds.ok_or("a number of seconds from 1 to 600")?);
            }
            _ => return Err("lines, level, from or for"),
        }
        Ok(())
    }

    /// Whether all its words go together.
    pub const fn is_sound(&self) -> bool {
        !(self.follow && self.json) && (self.follow || self.seconds.is_none())
    }

    /// Whether what comes is to be shown, too.
    pub const fn follows(&self) -> bool {
        self.follow
    }

    /// Whether a line of this level, said by so-and-so, is one of them.
    pub fn takes(&self, level: Option<Level>, from: Option<&str>) -> bool {
        let serious = self.level.is_none_or(|least| level.is_some_and(|level| level <= least));
        serious && self.from.as_deref().is_none_or(|wanted| from == Some(wanted))
    }
}
