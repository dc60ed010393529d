//! One connection: requests in, answers out, with a limit for everything that a client can make large or slow.

mod download;

use crate::answer::{Answer, What};
use crate::document::{Constant, Document};
use crate::entry::Found;
use crate::page;
use crate::request::After;
use crate::request::{self, Body, MAX_BODY, MAX_HEAD, Refusal};
use crate::response::{self, Code, OK, content_type};
use crate::site::{Large, Site};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use http_chunks::{Chunked, Fault};
use ilwaco::net::{Error, PROMISED_BYTES, SEND_BYTES, TcpStream};
use ilwaco::task::yield_now;
use ilwaco::time::{Duration, Instant, Sleep, sleep, timeout, timeout_by};

/// How long a client may take to say anything. One whose SYN was lost sends its request again after 3, 6 and 12 s (RFC 6298, 5.7), as often
/// as that is lost, too.
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a client may take to send a request's line and headers, from its first byte on, and as long again for a body.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take to accept `PIECE` bytes of a response.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// A piece of a response.
const PIECE: usize = 2048;
/// How often in that time it is looked whether a client has taken something.
const LOOKS: u32 = 8;
/// How long a client that was refused may go on sending: many look for an answer only behind all that they have to say.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long such a client may be silent.
pub const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// Bytes of a request's line and headers that every connection may hold; for more it needs leave.
const SMALL_HEAD: usize = 2048;
/// Bytes of a document up to which it is cheaper to copy it behind the head than to write twice, and kept there.
const JOINED: usize = 2304;
/// Requests of one connection that are answered before others get a turn.
const TURN: u32 = 16;
/// Bytes of a request up to which it is kept until the next one, which tends to be the same: of a client that measures, asks whether the
/// server is there, or shows what changes.
const KEPT: usize = 512;
/// Bytes that a head of an answer takes at most, or an answer that consists of nothing else.
const HEAD_BYTES: usize = 512;
const _: () = assert!(HEAD_BYTES + KEPT <= PROMISED_BYTES);
/// The same of a constant document, of which what is small leaves in one piece with it.
const JOINED_HEAD: usize = 300;
/// What the state takes as text or JSON while it grows.
const STATUS_BYTES: usize = 2048;
/// What it takes to look whether a tree has a document, beside what that keeps.
const LOOK_BYTES: usize = 12 << 10;

/// Why a connection ends early.
enum Fate {
    /// There is nothing more to say.
    Close,
    /// The client does not take what it is sent, or does not stop sending.
    Abort,
    /// There is no memory for what is to be received or sent, of which nothing was sent yet.
    NoMemory,
}

impl From<Error> for Fate {
    fn from(error: Error) -> Fate {
        if error == Error::NoMemory { Fate::NoMemory } else { Fate::Close }
    }
}

/// A connection to a client.
pub struct Connection {
    stream: TcpStream,
    site: Rc<Site>,
    /// What has been received and not been dealt with: at most [`MAX_HEAD`] bytes.
    input: Vec<u8>,
    /// What is being written.
    output: Vec<u8>,
    /// The output is a whole answer with this document, of this second: it can be sent again.
    held: Option<(&'static Constant, u64, After)>,
    /// The request before the one that is being answered, and what was done with it: nothing else is done with the same bytes.
    asked: Vec<u8>,
    known: Option<Answer>,
    /// What the tree has for the request that is being answered.
    found: Option<Box<Found>>,
    /// Leave to hold more than [`SMALL_HEAD`] bytes.
    large: Option<Large>,
    /// For how long a client's next bytes are waited for.
    patience: Sleep,
}

impl Connection {
    /// Serves a client until either side has had enough.
    pub async fn serve(stream: TcpStream, site: Rc<Site>) {
        let mut connection = Connection {
            stream,
            site,
            input: Vec::new(),
            output: Vec::new(),
            held: None,
            asked: Vec::new(),
            known: None,
            found: None,
            large: None,
            patience: sleep(Duration::ZERO),
        };
        if let Err(Fate::Abort) = connection.run().await {
            connection.stream.abort();
        }
    }

    async fn run(&mut self) -> Result<(), Fate> {
        match self.serve_all().await {
            // It says so from memory that is there, and what was asked for is asked for again.
            Err(Fate::NoMemory) => {
                self.site.count(true);
                self.write_bytes(response::NO_MEMORY).await?;
                self.linger().await
            }
            served => served,
        }
    }

    async fn serve_all(&mut self) -> Result<(), Fate> {
        let mut turn = 0;
        let mut first = true;
        loop {
            let answer = match self.request(first).await? {
                Ok(answer) => answer,
                Err(code) => return self.refuse(code).await,
            };
            first = false;
            if answer.waits && self.input.len() == answer.head_len {
                match answer.what {
                    // Whether the body still comes is not known then, so the connection ends.
                    Err(code) => return self.refuse(code).await,
                    Ok(_) => self.write_bytes(response::CONTINUE).await?,
                }
            }
            if let Err(code) = self.skip(answer.head_len, answer.body).await? {
                return self.refuse(code).await;
            }
            self.respond(&answer).await?;
            if answer.after == After::Close {
                return Ok(());
            }
            turn += 1;
            if turn % TURN == 0 {
                yield_now().await;
            }
        }
    }

    /// The next request's answer, or the code of the error that is to be reported.
    async fn request(&mut self, first: bool) -> Result<Result<Answer, Code>, Fate> {
        let mut heard = !self.input.is_empty();
        // Its time runs from when the first look at what came has shown that there is more to come.
        let mut since: Option<Instant> = None;
        // Bytes that were there when a request's end was looked for in vain, and when it was parsed in vain.
        let (mut searched, mut parsed) = (0, 0);
        loop {
            if let Some(known) = self.known
                && self.input == self.asked
            {
                return Ok(Ok(known));
            }
            if is_worth_parsing(&self.input, searched, parsed) {
                match request::parse(&self.input) {
                    Ok(Some(request)) => {
                        let mut answer = Answer::to(&request, &self.input);
                        self.known = self.is_worth_keeping(&answer).then_some(answer);
                        if let Some(files) = &self.site.files {
                            // In memory of its own, so that a connection of a VM without a disk is not larger for it.
                            if !ilwaco::has_memory_for(LOOK_BYTES) {
                                return Err(Fate::NoMemory);
                            }
                            match Box::pin(files.answer(&request, &self.input)).await {
                                Ok(None) => {}
                                Ok(found) => (self.found, answer.what) = (found, Ok(What::Found)),
                                Err(code) => answer.what = Err(code),
                            }
                        }
                        return Ok(Ok(answer));
                    }
                    Ok(None) => parsed = self.input.len(),
                    Err(Refusal::LaterMinor) => {
                        request::take_for_1_1(&mut self.input);
                        continue;
                    }
                    Err(refusal) => return Ok(Err(refusal.into())),
                }
            }
            searched = self.input.len();
            let mut limit = SMALL_HEAD;
            if searched >= SMALL_HEAD {
                self.large = self.large.take().or_else(|| self.site.large());
                if self.large.is_none() {
                    return Ok(Err(response::UNAVAILABLE));
                }
                limit = MAX_HEAD;
            }
            let patience = match heard {
                true => REQUEST_TIMEOUT.saturating_sub(since.get_or_insert_with(Instant::now).elapsed()),
                false if first => FIRST_TIMEOUT,
                false => IDLE_TIMEOUT,
            };
            match timeout_by(&mut self.patience, patience, self.stream.read_onto(&mut self.input, limit)).await {
                Ok(read) => {
                    // In the middle of a request, the end is as good as no request.
                    if read? == 0 {
                        return Err(Fate::Close);
                    }
                }
                Err(_) if heard || first => return Ok(Err(response::REQUEST_TIMEOUT)),
                Err(_) => return Err(Fate::Close),
            }
            heard = true;
        }
    }

    /// True when what the client asks for next is compared with the request that is the input, and answered as this one if it is the same.
    fn is_worth_keeping(&self, answer: &Answer) -> bool {
        // What a tree has for it is looked for each time, and whoever leaves does not ask again.
        self.site.files.is_none()
            && answer.after != After::Close
            && answer.body == Body::Bytes(0)
            && answer.head_len == self.input.len()
            && self.input.capacity() <= KEPT
    }

    /// Takes a request's head and body out of what was received. An error when the body is not as it should be.
    async fn skip(&mut self, head_len: usize, body: Body) -> Result<Result<(), Code>, Fate> {
        if self.known.is_some() {
            // It is all that was received.
            core::mem::swap(&mut self.input, &mut self.asked);
            self.input.clear();
            return Ok(Ok(()));
        }
        let mut chunks = None;
        let mut rest = head_len;
        match body {
            Body::Bytes(len) => rest += len,
            Body::Chunked => chunks = Some(Chunked::new(MAX_BODY)),
        }
        let mut since = None;
        loop {
            let mut len = rest.min(self.input.len());
            rest -= len;
            if rest == 0
                && let Some(body) = &mut chunks
            {
                match body.take(&self.input[len..]) {
                    Ok(taken) => len += taken,
                    Err(Fault::Malformed) => return Ok(Err(response::BAD_REQUEST)),
                    Err(Fault::TooLarge) => return Ok(Err(response::CONTENT_TOO_LARGE)),
                }
                if body.is_over() {
                    chunks = None;
                }
            }
            if len == self.input.len() {
                self.input.clear();
            } else {
                self.input.drain(..len);
            }
            if self.large.is_some() && self.input.len() < SMALL_HEAD && ilwaco::has_memory_for(SMALL_HEAD) {
                self.input.shrink_to(SMALL_HEAD);
                self.large = None;
            }
            if rest == 0 && chunks.is_none() {
                return Ok(Ok(()));
            }
            let patience = REQUEST_TIMEOUT.saturating_sub(since.get_or_insert_with(Instant::now).elapsed());
            match timeout(patience, self.stream.read_onto(&mut self.input, SMALL_HEAD)).await {
                Ok(read) if read? > 0 => {}
                Ok(_) => return Err(Fate::Close),
                Err(_) => return Ok(Err(response::REQUEST_TIMEOUT)),
            }
        }
    }

    /// Reports an error behind which nothing more is answered, and sees to it that the client gets to read it.
    async fn refuse(&mut self, code: Code) -> Result<(), Fate> {
        self.site.count(true);
        self.clear_output(HEAD_BYTES)?;
        response::error(&mut self.output, code, After::Close, true, &self.site.moment());
        self.write().await?;
        self.linger().await
    }

    /// Ends the connection, and reads what the client still sends.
    async fn linger(&mut self) -> Result<(), Fate> {
        self.stream.finish();
        // A connection that was closed with the client's bytes unread would stop a client that is still sending.
        self.large = None;
        let since = Instant::now();
        loop {
            // Nobody else could have what is smaller.
            self.input.clear();
            if self.input.capacity() > KEPT {
                self.input = Vec::new();
            }
            let patience = LINGER_TIMEOUT.saturating_sub(since.elapsed()).min(LINGER_SILENCE);
            match timeout(patience, self.stream.read_onto(&mut self.input, KEPT)).await {
                Ok(Err(Error::NoMemory)) => return Ok(()),
                Ok(read) if read? > 0 => {}
                Err(_) if since.elapsed() >= LINGER_TIMEOUT => return Err(Fate::Abort),
                _ => return Ok(()),
            }
            if since.elapsed() >= LINGER_TIMEOUT {
                return Err(Fate::Abort);
            }
        }
    }

    async fn respond(&mut self, answer: &Answer) -> Result<(), Fate> {
        self.site.count(answer.what.is_err());
        let after = answer.after;
        if let Ok(What::Whole(Document::Constant(constant))) = answer.what
            && constant.len() <= JOINED
            && answer.with_body
        {
            // Clients that stay tend to ask for the same again.
            let wanted = Some((constant, self.site.second(), after));
            let is_held = self.held == wanted;
            if is_held || self.clear_output(JOINED_HEAD + constant.len()).is_ok() {
                if !is_held {
                    response::whole(&mut self.output, constant, after, constant.len(), &self.site.moment());
                    self.output.extend_from_slice(constant.bytes(0, JOINED));
                    self.held = wanted;
                }
                return self.write().await;
            }
        }
        self.clear_output(HEAD_BYTES)?;
        match answer.what {
            Ok(What::Whole(Document::Constant(constant))) => {
                response::whole(&mut self.output, constant, after, 0, &self.site.moment());
                self.send_constant(answer, constant, 0, constant.len()).await
            }
            Ok(What::Whole(Document::Index)) => {
                if !ilwaco::has_memory_for(page::MOST_BYTES) {
                    return Err(Fate::NoMemory);
                }
                let page = self.site.index();
                self.send(answer, content_type::HTML, page::HEADERS, &page).await
            }
            Ok(What::Whole(Document::Status | Document::StatusJson)) if !ilwaco::has_memory_for(STATUS_BYTES) => {
                Err(Fate::NoMemory)
            }
            Ok(What::Whole(Document::Status)) => {
                let page = self.site.status(false);
                self.send(answer, content_type::TEXT, NEVER_KEPT, &page).await
            }
            Ok(What::Whole(Document::StatusJson)) => {
                let page = self.site.status(true);
                self.send(answer, content_type::JSON, NEVER_KEPT, &page).await
            }
            Ok(What::Part(constant, start, end)) => {
                response::part(&mut self.output, constant, start, end, after, &self.site.moment());
                self.send_constant(answer, constant, start, end).await
            }
            Ok(What::Found) => match self.found.take() {
                Some(found) => Box::pin(self.send_found(answer, &found)).await,
                None => Err(Fate::Abort),
            },
            Ok(What::NotModified(constant)) => {
                response::not_modified(&mut self.output, constant, after, &self.site.moment());
                self.write().await
            }
            Ok(What::Unchanged) => {
                let code = response::NOT_MODIFIED;
                response::bare(&mut self.output, code, NEVER_KEPT, None, after, &self.site.moment());
                self.write().await
            }
            Ok(What::OutOfRange(constant)) => {
                response::out_of_range(&mut self.output, constant, after, &self.site.moment());
                self.write().await
            }
            Err(code) => {
                response::error(&mut self.output, code, after, answer.with_body, &self.site.moment());
                self.write().await
            }
        }
    }

    /// Sends the head that is in the output and, unless only that was asked for, bytes of a constant document.
    async fn send_constant(
        &mut self,
        answer: &Answer,
        constant: &Constant,
        start: usize,
        end: usize,
    ) -> Result<(), Fate> {
        if !answer.with_body {
            return self.write().await;
        }
        if self.output.len() + end - start <= SEND_BYTES {
            // All of it leaves at once in any case.
            return self.write_constant(constant, start, end).await;
        }
        let sent = self.stream.send(&self.output, constant.repeated(start, end));
        match timeout(WRITE_TIMEOUT, sent).await {
            Ok(Err(Error::NoMemory)) => return self.write_constant(constant, start, end).await,
            Ok(sent) => sent?,
            Err(_) => return Err(Fate::Abort),
        }
        // What is left then is no more than what other answers leave.
        let (mut left, mut quiet) = (self.stream.unsent(), 0);
        while left > SEND_BYTES {
            if let Ok(sent) = timeout(WRITE_TIMEOUT / LOOKS, self.stream.sent(SEND_BYTES)).await {
                return Ok(sent?);
            }
            let now = self.stream.unsent();
            if left - now.min(left) >= PIECE {
                (left, quiet) = (now, 0);
                continue;
            }
            quiet += 1;
            if quiet == LOOKS {
                return Err(Fate::Abort);
            }
        }
        Ok(())
    }

    /// Sends the head that is in the output and bytes of a constant document, in pieces, by way of the connection's own memory.
    async fn write_constant(&mut self, constant: &Constant, start: usize, end: usize) -> Result<(), Fate> {
        self.write().await?;
        let mut at = start;
        while at < end {
            let bytes = constant.bytes(at, end.min(at + PIECE));
            self.write_bytes(bytes).await?;
            at += bytes.len();
        }
        Ok(())
    }

    /// Empties the output, which has room for so many bytes then.
    fn clear_output(&mut self, bytes: usize) -> Result<(), Fate> {
        self.output.clear();
        self.held = None;
        if self.output.capacity() >= bytes {
            return Ok(());
        }
        let has_memory = match bytes <= PROMISED_BYTES - KEPT {
            true => ilwaco::has_promised_memory_for(bytes),
            false => ilwaco::has_memory_for(bytes),
        };
        if !has_memory {
            return Err(Fate::NoMemory);
        }
        // What it has is no larger, and given back before.
        self.output = Vec::new();
        self.output.reserve_exact(bytes);
        Ok(())
    }

    /// Sends a head and, unless only that was asked for, a body.
    async fn send(&mut self, answer: &Answer, content_type: &str, further: &str, body: &[u8]) -> Result<(), Fate> {
        let after = answer.after;
        response::head(&mut self.output, OK, content_type, further, body.len(), after, &self.site.moment());
        self.write().await?;
        if answer.with_body { self.write_bytes(body).await } else { Ok(()) }
    }

    /// Sends the output.
    async fn write(&mut self) -> Result<(), Fate> {
        match timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Fate::Abort),
        }
    }

    /// Sends a piece of a body.
    async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Fate> {
        match timeout(WRITE_TIMEOUT, self.stream.write_all(bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Fate::Abort),
        }
    }
}

/// Header of what is another each time.
const NEVER_KEPT: &str = "\r\nCache-Control: no-store";

/// True when a request may end in `input`, or what is there has doubled: so a client that sends a byte at a time does not have
/// all of them read again for each. `searched`, `parsed`: bytes that were there at the last looks.
#[inline]
fn is_worth_parsing(input: &[u8], searched: usize, parsed: usize) -> bool {
    if parsed == 0 {
        return !input.is_empty();
    }
    let new = &input[searched.saturating_sub(3).min(input.len())..];
    let ends = new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    ends || input.len() >= (2 * parsed).min(MAX_HEAD)
}
