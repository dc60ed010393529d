//! Sending what the tree has. Content goes from the disk into a piece of memory, and from there to the client, piece by piece.

use super::{Connection, Fate};
use crate::answer::Answer;
use crate::condition::Verdict;
use crate::entry::{Entry, Found};
use crate::response::{self, Code};
use alloc::format;
use alloc::vec::Vec;
use file_tree::BLOCK;

impl Connection {
    /// Answers with what the tree has.
    pub(super) async fn send_found(&mut self, answer: &Answer, found: &Found) -> Result<(), Fate> {
        let content = match self.begin(answer, found) {
            Ok(content) => content,
            Err(code) => return self.send_error(code, answer).await,
        };
        match content.filter(|_| answer.with_body) {
            None => self.write().await,
            Some((entry, start, end)) => {
                let sent = self.send_content(answer, entry, start, end).await;
                // A connection that waits for the next request holds little.
                self.output = Vec::new();
                sent
            }
        }
    }

    /// Writes the head of an answer into the output, and all of it when no content follows. Otherwise from where up to where content follows.
    fn begin<'a>(&mut self, answer: &Answer, found: &'a Found) -> Result<Option<(&'a Entry, usize, usize)>, Code> {
        let moment = self.site.moment();
        let (output, after) = (&mut self.output, answer.after);
        let (entry, verdict) = match found {
            Found::Moved(place) => {
                let further = format!("\r\nLocation: {place}");
                response::said(output, response::MOVED_PERMANENTLY, &further, after, answer.with_body, &moment);
                return Ok(None);
            }
            Found::File(entry, verdict) => (entry, *verdict),
        };
        let mut further = entry.headers(self.site.second());
        let (code, start, end) = match verdict {
            Verdict::Whole => (response::OK, 0, entry.len()),
            Verdict::Part(start, end) => {
                further.push_str(&entry.range(Some((start, end))));
                (response::PARTIAL_CONTENT, start, end)
            }
            Verdict::NotModified => {
                response::bare(output, response::NOT_MODIFIED, &further, None, after, &moment);
                return Ok(None);
            }
            Verdict::OutOfRange => {
                let code = response::RANGE_NOT_SATISFIABLE;
                response::bare(output, code, &entry.range(None), Some(0), after, &moment);
                return Ok(None);
            }
            Verdict::Failed => return Err(response::PRECONDITION_FAILED),
        };
        response::head(output, code, entry.kind, &further, end - start, after, &moment);
        Ok(Some((entry, start, end)))
    }

    /// Sends the head that is in the output, and the bytes of a file from `start` up to `end`.
    async fn send_content(&mut self, answer: &Answer, entry: &Entry, start: usize, end: usize) -> Result<(), Fate> {
        if !ilwaco::has_memory_for(2 * BLOCK) {
            return self.send_error(response::UNAVAILABLE, answer).await;
        }
        // The first piece leaves with the head, and while it is not there, the answer may still be another one.
        let mut at = start;
        let mut is_first = true;
        while is_first || at < end {
            let len = (BLOCK - at % BLOCK).min(end - at);
            let offset = if is_first { self.output.len() } else { 0 };
            self.output.resize(offset + len, 0);
            let Some(files) = &self.site.files else { return Err(Fate::Abort) };
            let from = u64::try_from(at).unwrap_or(u64::MAX);
            if !files.read(&entry.file, from, &mut self.output[offset..]).await {
                if is_first {
                    return self.send_error(response::INTERNAL_ERROR, answer).await;
                }
                // The client must not take for a whole file what it has got.
                return Err(Fate::Abort);
            }
            self.write_patiently().await?;
            at += len;
            is_first = false;
        }
        Ok(())
    }

    /// Sends the output; the client has the time of a piece for each.
    async fn write_patiently(&mut self) -> Result<(), Fate> {
        let output = core::mem::take(&mut self.output);
        let mut sent = Ok(());
        for piece in output.chunks(super::PIECE) {
            sent = self.write_bytes(piece).await;
            if sent.is_err() {
                break;
            }
        }
        self.output = output;
        sent
    }

    async fn send_error(&mut self, code: Code, answer: &Answer) -> Result<(), Fate> {
        self.output.clear();
        response::error(&mut self.output, code, answer.after, answer.with_body, &self.site.moment());
        self.write().await
    }
}
