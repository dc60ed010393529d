//! Crimes on request: `GET /crimes` lists them, `GET /crime/NAME` commits one. For a person with curl; the tests give each
//! crime a VM of its own.

use crate::judge::{Verdict, commit};
use crate::machine::{peek64, set32, set64};
use crate::register;
use crate::table::{CRIMES, Crime, Expect, Family, find};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::println;
use ilwaco::time::{Duration, timeout};

/// Bytes of a request at most.
const REQUEST_BYTES: usize = 1024;
/// How long a client may take to send one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves for ever on port 80, one connection after the other.
pub async fn serve() -> u64 {
    let listener = match TcpListener::bind(80) {
        Ok(listener) => listener,
        Err(error) => {
            println!("hostile: cannot serve: {error}");
            return 1;
        }
    };
    println!("hostile: at your command on port 80: /crimes, /crime/NAME");
    loop {
        let Ok(mut stream) = listener.accept().await else { continue };
        // A client that goes away in between has only itself to blame.
        let _ = timeout(PATIENCE, answer(&mut stream)).await;
    }
}

async fn answer(stream: &mut TcpStream) -> Result<(), Error> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_onto(&mut request, REQUEST_BYTES).await? == 0 {
            break;
        }
    }
    let (status, body) = match path(&request) {
        Some("/crimes") => ("200 OK", list()),
        Some(path) => match path.strip_prefix("/crime/").and_then(find) {
            Some(crime) if needs_own_vm(crime) => (
                "409 Conflict",
                format(format_args!(
                    "{} would cut this connection: start a VM with crime={}\n",
                    crime.name, crime.name
                )),
            ),
            Some(crime) => {
                if matches!(crime.expect, Expect::Ends(_) | Expect::Told(_) | Expect::Runs) {
                    // Nobody is left to answer afterwards.
                    respond(stream, "202 Accepted", "it is the last that you hear of this VM\n").await?;
                    stream.flush().await?;
                }
                let verdict = undisturbed(crime);
                println!("hostile: {}: {verdict}", crime.name);
                let status = if matches!(verdict, Verdict::Contained(_)) { "200 OK" } else { "500 Escaped" };
                (status, format(format_args!("{}: {verdict}\n", crime.name)))
            }
            None => ("404 Not Found", String::from("there is /crimes and /crime/NAME\n")),
        },
        None => ("400 Bad Request", String::from("only GET is understood\n")),
    };
    respond(stream, status, &body).await
}

/// The path of a GET request.
fn path(request: &[u8]) -> Option<&str> {
    let line = request.split(|&byte| byte == b'\r').next()?;
    let mut words = core::str::from_utf8(line).ok()?.split(' ');
    (words.next() == Some("GET")).then(|| words.next()).flatten()
}

fn list() -> String {
    let mut list = String::new();
    for crime in CRIMES {
        let _ = writeln!(list, "{:12} {:28} {}", crime.family.name(), crime.name, crime.what);
    }
    list
}

fn format(text: core::fmt::Arguments) -> String {
    alloc::fmt::format(text)
}

async fn respond(stream: &mut TcpStream, status: &str, body: &str) -> Result<(), Error> {
    let head = format(format_args!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// Crimes that take the rings away from Ilwaco.
fn needs_own_vm(crime: &Crime) -> bool {
    matches!(crime.family, Family::Rings | Family::Frames)
}

/// Commits a crime, and puts back what Ilwaco has written to the register page.
fn undisturbed(crime: &'static Crime) -> Verdict {
    let [enabled, entry, stack] = [register!(enabled), register!(fault_entry), register!(fault_stack)].map(peek64);
    let verdict = commit(crime, false);
    set32(register!(upcalls_on), 0);
    set64(register!(enabled), enabled);
    set64(register!(fault_entry), entry);
    set64(register!(fault_stack), stack);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(path(b"GET /crime/ud2 HTTP/1.1\r\nHost: x\r\n\r\n"), Some("/crime/ud2"));
        assert_eq!(path(b"GET"), None);
        assert_eq!(path(b"POST /crimes HTTP/1.1\r\n\r\n"), None);
        assert_eq!(path(b"GET \xff HTTP/1.1\r\n"), None);
        assert_eq!(path(b""), None);
    }

    #[test]
    fn the_list_names_all() {
        let list = list();
        assert_eq!(list.lines().count(), CRIMES.len());
        assert!(list.contains("instructions cpuid "));
    }
}
