//! Names of hosts: what a server that DHCP or the boot arguments name says of them (RFC 1034, RFC 1035).
//!
//! A stub resolver: it asks servers that follow delegations themselves. Nothing is kept: a program that asks often keeps what it was
//! told. What a server says is believed where it comes from the address and port that was asked, to a port and with a number that
//! nobody else can know (RFC 5452), and repeats the question.

use super::servers::Servers;
use super::stack::Stack;
use super::{Error, UdpSocket, with};
use crate::net::TcpStream;
use crate::time::{Duration, timeout};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData, DnsRepr,
};

/// How long each of them may take: in the first round, the second, and the last.
const ROUNDS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Addresses of a name that are taken of each family.
const ADDRESSES: usize = 8;
/// Names that one name may stand for, one after the other.
const ALIASES: usize = 8;
/// Records of an answer that are looked at.
const RECORDS: usize = 64;
/// Bytes of an answer: in a datagram (RFC 1035 4.2.1), and over a connection.
const DATAGRAM: usize = 512;
const LARGEST: usize = 4096;
/// Bytes of a name and of a label of it, as they are sent (RFC 1035 2.3.4).
const NAME: usize = 255;
const LABEL: usize = 63;
const PORT: u16 = 53;

impl Stack {
    /// These are asked, if there are any, whatever others say.
    pub(super) fn give_name_servers(&mut self, list: Vec<IpAddr>) {
        self.servers = (!list.is_empty()).then(|| Box::new(Servers { list, given: true }));
    }

    /// Somebody else says that these are to be asked.
    pub(super) fn learn_name_servers(&mut self, list: Vec<IpAddr>) {
        if !list.is_empty() && self.servers.as_ref().is_none_or(|servers| !servers.given) {
            self.servers = Some(Box::new(Servers { list, given: false }));
        }
    }

    /// Who is asked for names.
    pub(super) fn name_servers(&self) -> &[IpAddr] {
        self.servers.as_ref().map_or(&[], |servers| &servers.list)
    }
}

/// A name in the form in which it is sent, with small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(Vec<u8>);

impl Name {
    /// The name of a host, with or without a dot at its end. `None` for what no host can be called.
    fn new(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let labels = text.split('.').map(|label| {
            let fits = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            fits.then_some(label.as_bytes())
        });
        Name::of(labels)
    }

    /// A name in a message.
    fn read(packet: &DnsPacket<&[u8]>, bytes: &[u8]) -> Option<Name> {
        Name::of(packet.parse_name(bytes).map(Result::ok))
    }

    fn of<'a>(labels: impl Iterator<Item = Option<&'a [u8]>>) -> Option<Name> {
        let mut name = Vec::new();
        for label in labels {
            let label = label.filter(|label| (1..=LABEL).contains(&label.len()))?;
            if name.len() + 1 + label.len() + 1 > NAME {
                return None;
            }
            name.push(u8::try_from(label.len()).ok()?);
            name.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        if name.is_empty() {
            return None;
        }
        name.push(0);
        Some(Name(name))
    }
}

/// What is asked.
#[derive(Clone, Debug)]
struct Question {
    id: u16,
    name: Name,
    kind: DnsQueryType,
}

/// What a server says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Addresses(Vec<IpAddr>),
    /// The name stands for another one, of which nothing is said.
    Alias(Name),
    /// There is such a name, without an address of this family.
    None,
    NoSuchName,
    /// The answer does not fit into a datagram.
    Truncated,
    /// The server cannot or does not want to say.
    Fault,
}

impl Question {
    fn message(&self) -> Vec<u8> {
        let repr = DnsRepr {
            transaction_id: self.id,
            opcode: DnsOpcode::Query,
            flags: DnsFlags::RECURSION_DESIRED,
            question: DnsQuestion { name: &self.name.0, type_: self.kind },
        };
        let mut message = vec![0; repr.buffer_len()];
        repr.emit(&mut DnsPacket::new_unchecked(message.as_mut_slice()));
        message
    }

    /// What a message says; `None` for one that is no answer to this.
    fn judge(&self, message: &[u8]) -> Option<Said> {
        let packet = DnsPacket::new_checked(message).ok()?;
        let flags = packet.flags();
        if packet.transaction_id() != self.id
            || !flags.contains(DnsFlags::RESPONSE)
            || packet.opcode() != DnsOpcode::Query
            || packet.question_count() != 1
        {
            return None;
        }
        let (mut rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
        if question.type_ != self.kind || Name::read(&packet, question.name)? != self.name {
            return None;
        }
        if flags.contains(DnsFlags::TRUNCATED) {
            return Some(Said::Truncated);
        }
        let missing = match packet.rcode() {
            DnsRcode::NoError => Said::None,
            DnsRcode::NXDomain => Said::NoSuchName,
            _ => return Some(Said::Fault),
        };
        let mut records = Vec::new();
        for _ in 0..usize::from(packet.answer_record_count()).min(RECORDS) {
            let Ok((behind, record)) = DnsRecord::parse(rest) else { return Some(Said::Fault) };
            rest = behind;
            if let Some(owner) = Name::read(&packet, record.name) {
                records.push((owner, record.data));
            }
        }
        let mut name = &self.name;
        let mut alias;
        for _ in 0..ALIASES {
            let of_name = || records.iter().filter(|(owner, _)| owner == name).map(|(_, data)| data);
            let addresses: Vec<IpAddr> = of_name().filter_map(|data| self.address(data)).take(ADDRESSES).collect();
            if !addresses.is_empty() {
                return Some(Said::Addresses(addresses));
            }
            let next = of_name().find_map(|data| match data {
                DnsRecordData::Cname(bytes) => Name::read(&packet, bytes),
                _ => None,
            });
            let Some(next) = next else { break };
            alias = next;
            name = &alias;
        }
        Some(if missing == Said::None && *name != self.name { Said::Alias(name.clone()) } else { missing })
    }

    /// The address in a record, if it is of the family that was asked for.
    fn address(&self, data: &DnsRecordData<'_>) -> Option<IpAddr> {
        match *data {
            DnsRecordData::A(address) if self.kind == DnsQueryType::A => Some(address.into()),
            // An IPv4 address in disguise is none (RFC 4291 2.5.5.2).
            DnsRecordData::Aaaa(address) if self.kind == DnsQueryType::Aaaa && address.to_ipv4_mapped().is_none() => {
                Some(address.into())
            }
            _ => None,
        }
    }
}

/// The addresses of a host, at least one: of its name as the servers know it, or of an address that is written out. Those of IPv6
/// come first, and are asked for where this VM has an address that is good for more than its own link.
///
/// # Errors
/// [`Error::InvalidInput`] for what can be no name, [`Error::NoNameServer`] when none is known, [`Error::NoSuchName`] when there is no
/// such name or it has no address that could be used, [`Error::TimedOut`] when no server says anything to it.
pub async fn lookup(host: &str) -> Result<Vec<IpAddr>, Error> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let name = Name::new(host).ok_or(Error::InvalidInput)?;
    let (servers, has_v4, has_v6) =
        with(|stack| Ok((stack.name_servers().to_vec(), stack.link.own.v4 != 0, stack.link.own.net != 0)))?;
    if servers.is_empty() {
        return Err(Error::NoNameServer);
    }
    let mut addresses = Vec::new();
    let mut failure = Error::NoSuchName;
    for (kind, wanted) in [(DnsQueryType::Aaaa, has_v6), (DnsQueryType::A, has_v4)] {
        if wanted {
            match resolve(name.clone(), kind, &servers).await {
                Ok(found) => addresses.extend(found),
                Err(error) => failure = error,
            }
        }
    }
    if addresses.is_empty() { Err(failure) } else { Ok(addresses) }
}

impl TcpStream {
    /// Connects to a host by its name, or by an address that is written out: to the first of its addresses that takes the connection.
    ///
    /// # Errors
    /// Those of [`lookup`], and that of the last address.
    pub async fn connect_to(host: &str, port: u16) -> Result<TcpStream, Error> {
        let mut failure = Error::NoSuchName;
        for address in lookup(host).await? {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The addresses of one family, whatever names that one stands for.
async fn resolve(name: Name, kind: DnsQueryType, servers: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let mut name = name;
    for _ in 0..ALIASES {
        match ask(&name, kind, servers).await? {
            Said::Addresses(addresses) => return Ok(addresses),
            Said::Alias(next) => name = next,
            Said::None => return Ok(Vec::new()),
            _ => break,
        }
    }
    Err(Error::NoSuchName)
}

/// Asks one server after the other until one has something to say.
async fn ask(name: &Name, kind: DnsQueryType, servers: &[IpAddr]) -> Result<Said, Error> {
    for patience in ROUNDS {
        for &server in servers {
            match timeout(patience, ask_server(name, kind, SocketAddr::new(server, PORT))).await {
                Ok(Ok(said)) if said != Said::Fault => return Ok(said),
                Ok(Err(Error::NoNetwork)) => return Err(Error::NoNetwork),
                // Perhaps another one.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Err(Error::TimedOut)
}

/// Asks a server, with a port and a number that are new each time. Waits without end.
async fn ask_server(name: &Name, kind: DnsQueryType, server: SocketAddr) -> Result<Said, Error> {
    let (socket, id) = open()?;
    let question = Question { id, name: name.clone(), kind };
    socket.send_to(&question.message(), server).await?;
    let mut message = [0; DATAGRAM];
    loop {
        let (len, from) = socket.recv_from(&mut message).await?;
        if from != server {
            continue;
        }
        match question.judge(&message[..len]) {
            Some(Said::Truncated) => break,
            Some(said) => return Ok(said),
            None => {}
        }
    }
    drop(socket);
    ask_by_stream(&question, server).await
}

/// The same over a connection (RFC 7766), for answers that do not fit into a datagram.
async fn ask_by_stream(question: &Question, server: SocketAddr) -> Result<Said, Error> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.message();
    let len = u16::try_from(message.len()).map_err(|_| Error::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes()[..], &message].concat()).await?;
    let mut answer = Vec::new();
    loop {
        if let Some((len, message)) = answer.split_first_chunk()
            && let Some(message) = message.get(..usize::from(u16::from_be_bytes(*len)))
        {
            let said = question.judge(message).unwrap_or(Said::Fault);
            return Ok(if said == Said::Truncated { Said::Fault } else { said });
        }
        if stream.read_onto(&mut answer, LARGEST).await? == 0 {
            return Ok(Said::Fault);
        }
    }
}

/// A socket at a port that nobody knows, and a number.
fn open() -> Result<(UdpSocket, u16), Error> {
    for _ in 0..16 {
        let secret = with(|stack| Ok(stack.secret()))?;
        let [a, b, c, d, ..] = secret.to_ne_bytes();
        match UdpSocket::bind(1024 + u16::from_ne_bytes([a, b]) % 64_512) {
            Ok(socket) => return Ok((socket, u16::from_ne_bytes([c, d]))),
            Err(Error::AddrInUse) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;

    fn question(name: &str, kind: DnsQueryType) -> Question {
        Question { id: 7, name: Name::new(name).expect("a name"), kind }
    }

    /// An answer with these records: owner, type, data.
    fn answer(question: &Question, flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut message = question.message();
        message[2..4].copy_from_slice(&flags);
        message[6..8].copy_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
        for (owner, kind, data) in records {
            let len = u16::try_from(data.len()).expect("short");
            message.extend([owner, &kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 9], &len.to_be_bytes(), data].concat());
        }
        message
    }

    const FINE: [u8; 2] = [0x81, 0x80];
    /// Where the question's name is.
    const ASKED: &[u8] = &[0xc0, 12];

    #[test]
    fn names() {
        let name = |text: &str| Name::new(text).map(|name| name.0);
        assert_eq!(name("Www.Example."), Some(b"\x03www\x07example\0".to_vec()));
        let label = "x".repeat(63);
        let longest = [label.as_str(), &label, &label, &"x".repeat(61)].join(".");
        assert_eq!(name(&longest).map(|name| name.len()), Some(255));
        for text in ["", ".", "a..b", "a b", "ä.example", &"x".repeat(64), &(longest.clone() + "x"), "a/b"] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn answers() {
        let a = question("www.example", DnsQueryType::A);
        let judge = |flags, records: &[(&[u8], u16, &[u8])]| a.judge(&answer(&a, flags, records));
        let one = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(judge(FINE, &[(ASKED, 1, &[192, 0, 2, 1])]), Some(Said::Addresses(vec![one])));
        let other = b"\x05other\x07example\0";
        // Whichever comes first.
        for records in [
            [(ASKED, 5, &other[..]), (&other[..], 1, &[192, 0, 2, 1][..])],
            [(&other[..], 1, &[192, 0, 2, 1][..]), (ASKED, 5, &other[..])],
        ] {
            assert_eq!(judge(FINE, &records), Some(Said::Addresses(vec![one])));
        }
        let alias = Name(other.to_vec());
        assert_eq!(judge(FINE, &[(ASKED, 5, other)]), Some(Said::Alias(alias)));
        assert_eq!(judge(FINE, &[]), Some(Said::None));
        assert_eq!(judge(FINE, &[(other, 1, &[192, 0, 2, 1])]), Some(Said::None), "somebody else's");
        assert_eq!(judge(FINE, &[(ASKED, 28, &[1; 16])]), Some(Said::None), "not asked for");
        assert_eq!(judge(FINE, &[(ASKED, 1, &[1; 5])]), Some(Said::Fault));
        assert_eq!(judge([0x81, 0x83], &[]), Some(Said::NoSuchName));
        assert_eq!(judge([0x81, 0x83], &[(ASKED, 5, other)]), Some(Said::NoSuchName), "the other one is not");
        assert_eq!(judge([0x81, 0x82], &[]), Some(Said::Fault));
        assert_eq!(judge([0x83, 0x80], &[]), Some(Said::Truncated));
        assert_eq!(judge(FINE, &[(ASKED, 5, ASKED)]), Some(Said::None), "its own alias");
        let many = vec![(ASKED, 1, &[192, 0, 2, 1][..]); 20];
        assert_eq!(judge(FINE, &many), Some(Said::Addresses(vec![one; ADDRESSES])));
        let aaaa = question("www.example", DnsQueryType::Aaaa);
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4];
        assert_eq!(aaaa.judge(&answer(&aaaa, FINE, &[(ASKED, 28, &mapped)])), Some(Said::None));
    }

    #[test]
    fn what_answers_something_else_is_nothing() {
        let a = question("www.example", DnsQueryType::A);
        let good = answer(&a, FINE, &[(ASKED, 1, &[192, 0, 2, 1])]);
        for (at, value, why) in [
            (1, 8, "another number"),
            (2, 1, "a question"),
            (2, 0x91, "no query"),
            (5, 2, "two questions"),
            (13, b'x', "another name"),
            (26, 28, "another type"),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(a.judge(&bad), None, "{why}");
        }
        for len in 0..good.len() {
            assert!(matches!(a.judge(&good[..len]), None | Some(Said::Fault)), "{len}");
        }
        let mut large = good.clone();
        large[13] = b'W';
        assert!(matches!(a.judge(&large), Some(Said::Addresses(_))), "large letters are small ones");
    }

    proptest! {
        #[test]
        fn any_bytes(mut message in prop::collection::vec(any::<u8>(), 0..200), rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let a = question("www.example", DnsQueryType::A);
            let _ = a.judge(&message);
            // And behind a question that is ours.
            let mut good = answer(&a, FINE, &[]);
            good[7] = 3;
            good.extend(&rest);
            let _ = a.judge(&good);
            message.truncate(100);
            let _ = Name::new(&String::from_utf8_lossy(&message));
        }
    }
}
