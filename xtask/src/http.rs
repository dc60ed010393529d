//! A small HTTP/1.1 client for asking whether services answer, and for testing how.

use crate::error::{Context, Result, fail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest header block and line that is taken.
const MAX_HEAD: u64 = 64 * 1024;
/// Longest body that is taken.
const MAX_BODY: usize = 16 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header field; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection on which several requests can follow each other.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; every later step may take `timeout` at most.
    pub fn open(address: SocketAddr, timeout: Duration) -> Result<Connection> {
        let stream =
            TcpStream::connect_timeout(&address, timeout).context(|| format!("cannot connect to {address}"))?;
        let what = || format!("cannot use the connection to {address}");
        stream.set_read_timeout(Some(timeout)).context(what)?;
        stream.set_write_timeout(Some(timeout)).context(what)?;
        stream.set_nodelay(true).context(what)?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context(|| "cannot send a request".into())
    }

    /// Sends a request and takes its answer.
    pub fn request(&mut self, method: &str, path: &str) -> Result<Response> {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: foraker\r\n\r\n").as_bytes())?;
        self.response(method == "HEAD").context(|| format!("{method} {path}"))
    }

    /// Takes the next answer; `head` when it has no body whatever its header says.
    pub fn response(&mut self, head: bool) -> Result<Response> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let Some(status) = status else { fail!("\"{line}\" is no status line") };
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((key, value)) = line.split_once(':') else { fail!("\"{line}\" is no header field") };
            headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if head {
            return Ok(response);
        }
        let length = match response.header("content-length") {
            Some(text) => Some(text.parse::<usize>().context(|| format!("Content-Length \"{text}\""))?),
            None => None,
        };
        match length {
            _ if response.status == 204 => {}
            Some(length) if length > MAX_BODY => fail!("a body of {length} bytes is too long"),
            Some(length) => {
                response.body = vec![0; length];
                self.reader
                    .read_exact(&mut response.body)
                    .context(|| format!("cannot read a body of {length} bytes"))?;
            }
            None => {
                let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
                let body = &mut response.body;
                (&mut self.reader).take(limit).read_to_end(body).context(|| "cannot read the body".into())?;
            }
        }
        Ok(response)
    }

    /// True when the other end has closed the connection, or closes it within the timeout, without another byte.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let count = (&mut self.reader).take(MAX_HEAD).read_until(b'\n', &mut line);
        if count.context(|| "cannot read the answer".into())? == 0 {
            fail!("the connection was closed without an answer");
        }
        let text = String::from_utf8_lossy(&line);
        match text.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None => fail!("\"{}\" does not end in CR LF", text.trim_end()),
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Response> {
    Connection::open(address, timeout)?.request("GET", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that says `answer` to whoever connects, and closes.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn answers_are_taken_apart() {
        let address =
            server("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX: y \r\n\r\nno\nHTTP/1.1 200 OK\r\n\r\nrest");
        let mut connection = Connection::open(address, Duration::from_secs(5)).unwrap();
        let first = connection.request("GET", "/").unwrap();
        assert_eq!((first.status, &first.body[..], first.header("x")), (404, &b"no\n"[..], Some("y")));
        let second = connection.response(false).unwrap();
        assert_eq!((second.status, &second.body[..]), (200, &b"rest"[..]));
        assert!(connection.is_closed());
    }

    #[test]
    fn nonsense_is_an_error() {
        for answer in ["", "hello\r\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"] {
            assert!(get(server(answer), "/", Duration::from_secs(5)).is_err(), "{answer:?}");
        }
    }
}
