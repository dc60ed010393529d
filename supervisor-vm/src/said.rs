//! What a command says to whoever gave it.

use crate::show::as_json;
use alloc::string::String;
use serde::Serialize;

/// What a command says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What was asked for.
    pub text: String,
    /// A word beside it, for people: it is no part of what programs read.
    pub aside: String,
}

/// What has been done, as JSON.
#[derive(Serialize)]
struct Done<'t> {
    done: &'t str,
}

impl Said {
    /// The same, with what was asked for as JSON: `{"done":"..."}`.
    ///
    /// # Errors
    ///
    /// What does not happen.
    pub fn as_json(self) -> Result<Said, String> {
        Ok(Said { text: as_json(&Done { done: self.text.trim_end() })?, ..self })
    }
}

impl From<String> for Said {
    fn from(text: String) -> Said {
        Said { text, aside: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_was_done_is_json_when_that_is_wanted() {
        let said = Said { text: "a \"b\" runs\n".to_string(), aside: "!\n".to_string() };
        let json = said.as_json().expect("text");
        assert_eq!((json.text.as_str(), json.aside.as_str()), ("{\"done\":\"a \\\"b\\\" runs\"}\n", "!\n"));
    }
}
