//! What is done with a request.

use crate::condition::{Conditions, Verdict};
use crate::document::{CHANGED, Constant, Document};
use crate::request::After;
use crate::request::{self, Body, Method, Request};
use crate::response::{self, Code};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A document.
    Whole(Document),
    /// The bytes of a document from the first number up to, but without, the second.
    Part(&'static Constant, usize, usize),
    /// What the tree has, which the connection holds.
    Found,
    /// The client has this document.
    NotModified(&'static Constant),
    /// The client wants a document that is another one each time only where there is none.
    Unchanged,
    /// The document has no such part.
    OutOfRange(&'static Constant),
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes of the request's line and headers.
    pub head_len: usize,
    /// What follows them.
    pub body: Body,
    /// The client waits for leave to send the body.
    pub waits: bool,
    /// What becomes of the connection afterwards.
    pub after: After,
    /// The answer has a body.
    pub with_body: bool,
    /// What is sent, or the error.
    pub what: Result<What, Code>,
}

impl Answer {
    /// The answer to `request`, which was read at the start of `input`.
    #[inline]
    pub fn to(request: &Request, input: &[u8]) -> Answer {
        Answer {
            head_len: request.head_len,
            body: request.body,
            waits: request.waits,
            after: request.after,
            with_body: request.method != Method::Head,
            what: what(request, input),
        }
    }
}

fn what(request: &Request, input: &[u8]) -> Result<What, Code> {
    match request.method {
        Method::NotAllowed => return Err(response::METHOD_NOT_ALLOWED),
        Method::Unknown => return Err(response::NOT_IMPLEMENTED),
        Method::Get | Method::Head => {}
    }
    let document = Document::at(request.path).map_err(|_| response::BAD_REQUEST)?.ok_or(response::NOT_FOUND)?;
    match document {
        Document::Index | Document::Status | Document::StatusJson if request.is_conditional => {
            match request::conditions(input).judge_fleeting() {
                Verdict::NotModified => Ok(What::Unchanged),
                Verdict::Failed => Err(response::PRECONDITION_FAILED),
                _ if request.wants_json && document == Document::Status => Ok(What::Whole(Document::StatusJson)),
                _ => Ok(What::Whole(document)),
            }
        }
        Document::Status if request.wants_json => Ok(What::Whole(Document::StatusJson)),
        Document::Constant(constant) if request.is_conditional => {
            judged(constant, &request::conditions(input), request.method)
        }
        _ => Ok(What::Whole(document)),
    }
}

#[cold]
fn judged(constant: &'static Constant, conditions: &Conditions, method: Method) -> Result<What, Code> {
    // Only GET knows parts (RFC 9110, section 14.2).
    let range = conditions.range.filter(|_| method == Method::Get);
    match (Conditions { range, ..*conditions }).judge(constant.etag(), CHANGED, constant.len()) {
        Verdict::Whole => Ok(What::Whole(Document::Constant(constant))),
        Verdict::Part(start, end) => Ok(What::Part(constant, start, end)),
        Verdict::NotModified => Ok(What::NotModified(constant)),
        Verdict::OutOfRange => Ok(What::OutOfRange(constant)),
        Verdict::Failed => Err(response::PRECONDITION_FAILED),
    }
}
