//! What is answered over HTTP.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use serde::Serialize;

/// The kind of JSON.
pub const JSON: &str = "application/json";

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: &'static str,
    /// The kind of its body.
    pub kind: &'static str,
    /// More headers, each with its end of the line.
    pub headers: String,
    /// What it says.
    pub body: Cow<'static, str>,
}

#[derive(Serialize)]
struct Why<'a> {
    error: &'a str,
}

impl Reply {
    /// A text.
    pub fn text(status: &'static str, body: impl Into<Cow<'static, str>>) -> Reply {
        Reply { status, kind: "text/plain; charset=utf-8", headers: String::new(), body: body.into() }
    }

    /// What is JSON already.
    pub fn json(status: &'static str, body: impl Into<Cow<'static, str>>) -> Reply {
        Reply { kind: JSON, ..Reply::text(status, body) }
    }

    /// Why something was not done, as JSON.
    pub fn refused(status: &'static str, why: &str) -> Reply {
        // A text is always JSON.
        Reply::json(status, serde_json::to_string(&Why { error: why }).unwrap_or_default() + "\n")
    }

    /// Only these methods make sense there.
    pub fn wrong_method(allowed: &'static str) -> Reply {
        let mut reply = Reply::refused("405 Method Not Allowed", &format!("here is only {allowed}"));
        reply.headers = format!("Allow: {allowed}\r\n");
        reply
    }

    /// What stands in front of the body.
    pub fn head(&self) -> String {
        let Reply { status, kind, headers, body } = self;
        // An answer without a body must not say how long that is (RFC 9110, 8.6).
        let about = match *status {
            NOTHING => String::new(),
            _ => format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()),
        };
        format!("HTTP/1.1 {status}\r\n{about}{headers}Cache-Control: no-store\r\nConnection: close\r\n\r\n")
    }
}

/// The status of what was done, and about which there is nothing to say.
pub const NOTHING: &str = "204 No Content";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_answers() {
        let refused = Reply::refused("409 Conflict", "no VM has the name `\"`");
        assert_eq!(refused.body, "{\"error\":\"no VM has the name `\\\"`\"}\n");
        assert!(
            refused.head().starts_with("HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: ")
        );
        assert!(Reply::wrong_method("POST").head().contains("\r\nAllow: POST\r\n"));
        assert!(!Reply::text(NOTHING, "").head().contains("Content-"));
    }
}
