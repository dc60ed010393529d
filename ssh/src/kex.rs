//! The exchange of keys: what is offered, and what comes of it (RFC 4253, 7 and 8; RFC 8731).

use crate::end::End;
use crate::number::{KEXINIT, reason};
use crate::packet::Keys;
use crate::wire::{Message, Reader, put_mpint, put_string};
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;
use sha2::{Digest, Sha256};

/// The same exchange has two names.
pub(crate) const EXCHANGES: [&str; 2] = ["curve25519-sha256", "curve25519-sha256@libssh.org"];
pub(crate) const HOST_KEY: &str = "ssh-ed25519";
pub(crate) const CIPHER: &str = "chacha20-poly1305@openssh.com";
/// Nobody uses it, since the cipher has a tag of its own; some clients want the list to have something in it.
const MAC: &str = "hmac-sha2-256";
const COMPRESSION: &str = "none";
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
const EXTENSIONS_CLIENT: &str = "ext-info-c";
/// Bytes of chance in front of an offer.
const COOKIE: usize = 16;
/// Lists in an offer.
const LISTS: usize = 10;

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// It begins numbers anew with each exchange, and says nothing else meanwhile.
    pub(crate) strict: bool,
    /// It wants to hear which signatures are known.
    pub(crate) extensions: bool,
    /// It has guessed wrongly what will be agreed on, and the packet that follows is for nothing.
    pub(crate) guessed_wrongly: bool,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    ///
    /// It is none, or there is nothing in it that is known here.
    pub(crate) fn read(payload: &[u8]) -> Result<Offer, End> {
        let nonsense = || End::protocol("an offer of algorithms makes no sense");
        let mut reader = Reader::new(payload);
        reader.bytes(1 + COOKIE).ok_or_else(nonsense)?;
        let mut lists = [""; LISTS];
        for list in &mut lists {
            *list = reader.text().ok_or_else(nonsense)?;
        }
        let follows = reader.flag().ok_or_else(nonsense)?;
        reader.number().ok_or_else(nonsense)?;
        let [exchanges, keys, to_server, to_client, _, _, packs, unpacks, _, _] = lists;
        let failed = |why| End::new(reason::KEY_EXCHANGE_FAILED, why);
        // The client's order counts.
        if !exchanges.split(',').any(|name| EXCHANGES.contains(&name)) {
            return Err(failed("the client does not know the key exchange curve25519-sha256"));
        }
        if !has(keys, HOST_KEY) {
            return Err(failed("the client does not know host keys ssh-ed25519"));
        }
        if !has(to_server, CIPHER) || !has(to_client, CIPHER) {
            return Err(failed("the client does not know the cipher chacha20-poly1305@openssh.com"));
        }
        if !has(packs, COMPRESSION) || !has(unpacks, COMPRESSION) {
            return Err(failed("the client does not go without compression"));
        }
        let first = |list: &str, known: &[&str]| list.split(',').next().is_some_and(|name| known.contains(&name));
        // Right is what both name first.
        let right = first(exchanges, &EXCHANGES[..1]) && first(keys, &[HOST_KEY]);
        Ok(Offer {
            strict: has(exchanges, STRICT_CLIENT),
            extensions: has(exchanges, EXTENSIONS_CLIENT),
            guessed_wrongly: follows && !right,
        })
    }

    /// What is offered here.
    pub(crate) fn ours(random: &mut ChaCha20Rng) -> Vec<u8> {
        let exchanges = [EXCHANGES[0], EXCHANGES[1], STRICT_SERVER];
        offer(random, &exchanges.join(","))
    }

    /// What a client offers that knows what is known here.
    #[cfg(feature = "client")]
    pub(crate) fn of_client(random: &mut ChaCha20Rng, strict: bool) -> Vec<u8> {
        let strict = if strict { STRICT_CLIENT } else { "ext-info-x" };
        offer(random, &[EXCHANGES[0], EXTENSIONS_CLIENT, strict].join(","))
    }
}

fn offer(random: &mut ChaCha20Rng, exchanges: &str) -> Vec<u8> {
    let mut cookie = [0; COOKIE];
    random.fill_bytes(&mut cookie);
    let mut message = Message::new(KEXINIT);
    message.0.extend(cookie);
    let lists = [exchanges, HOST_KEY, CIPHER, CIPHER, MAC, MAC, COMPRESSION, COMPRESSION, "", ""];
    lists.iter().fold(message, |message, list| message.string(list)).flag(false).number(0).0
}

fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|other| other == name)
}

/// A key as it is sent.
pub(crate) fn key_blob(key: &[u8; 32]) -> Vec<u8> {
    blob(key)
}

/// A signature as it is sent.
pub(crate) fn signature_blob(signature: &[u8; 64]) -> Vec<u8> {
    blob(signature)
}

fn blob(bytes: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    put_string(&mut blob, HOST_KEY.as_bytes());
    put_string(&mut blob, bytes);
    blob
}

/// The key, or the signature, of N bytes that was sent.
pub(crate) fn read_blob<const N: usize>(blob: &[u8]) -> Option<[u8; N]> {
    let mut reader = Reader::new(blob);
    let of_kind = reader.string()? == HOST_KEY.as_bytes();
    let bytes = reader.string()?.try_into().ok()?;
    (of_kind && reader.rest().is_empty()).then_some(bytes)
}

/// What the hash of an exchange begins with: who is who, and what both have offered.
pub(crate) fn transcript(client: &[u8], server: &[u8], offered: &[u8], offers: &[u8]) -> Sha256 {
    [client, server, offered, offers].into_iter().fold(Sha256::new(), hash_string)
}

fn hash_string(hash: Sha256, bytes: &[u8]) -> Sha256 {
    hash.chain_update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()).chain_update(bytes)
}

/// What an exchange has come to.
pub(crate) struct Secret {
    /// The secret that both share, as it is hashed.
    shared: Vec<u8>,
    /// The hash of the exchange.
    pub(crate) hash: [u8; 32],
}

impl Secret {
    /// Of the beginning of a hash, the host's key, both halves of the exchange, and what comes of these.
    pub(crate) fn new(begun: Sha256, host: &[u8], halves: [&[u8; 32]; 2], shared: &[u8; 32]) -> Secret {
        let mut number = Vec::new();
        put_mpint(&mut number, shared);
        let hash = [host, halves[0], halves[1]].into_iter().fold(begun, hash_string).chain_update(&number);
        Secret { shared: number, hash: hash.finalize().into() }
    }

    /// The keys of one direction (RFC 4253, 7.2): `b'C'` to the server, `b'D'` from it.
    pub(crate) fn keys(&self, direction: u8, session: &[u8; 32]) -> Keys {
        let begun = Sha256::new().chain_update(&self.shared).chain_update(self.hash);
        let first: [u8; 32] = begun.clone().chain_update([direction]).chain_update(session).finalize().into();
        let second: [u8; 32] = begun.chain_update(first).finalize().into();
        Keys::new(&[first, second])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer_of(change: impl Fn(usize, &'static str) -> &'static str, follows: bool) -> Vec<u8> {
        let lists = [
            "curve25519-sha256,kex-strict-c-v00@openssh.com",
            HOST_KEY,
            CIPHER,
            CIPHER,
            "",
            "",
            "none",
            "none",
            "",
            "",
        ];
        let mut message = Message::new(KEXINIT);
        message.0.extend([0; COOKIE]);
        let numbered = lists.into_iter().enumerate();
        numbered.fold(message, |message, (at, list)| message.string(change(at, list))).flag(follows).number(0).0
    }

    #[test]
    fn what_both_know_is_found_among_others() {
        let read = |payload: Vec<u8>| Offer::read(&payload);
        assert_eq!(
            read(offer_of(|_, list| list, false)),
            Ok(Offer { strict: true, extensions: false, guessed_wrongly: false })
        );
        let other =
            |at, list| if at == 0 { "sntrup761x25519-sha512,curve25519-sha256@libssh.org,ext-info-c" } else { list };
        assert_eq!(read(offer_of(other, true)), Ok(Offer { strict: false, extensions: true, guessed_wrongly: true }));
        for at in [0, 1, 2, 3, 6, 7] {
            let end = read(offer_of(|other, list| if at == other { "curve25519-sha25" } else { list }, false));
            assert_eq!(end.map_err(|end| end.reason), Err(reason::KEY_EXCHANGE_FAILED), "{at}");
        }
        let whole = offer_of(|_, list| list, false);
        for len in 0..whole.len() {
            assert!(Offer::read(&whole[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        assert_eq!(read_blob(&key_blob(&[7; 32])), Some([7_u8; 32]));
        assert_eq!(read_blob::<64>(&key_blob(&[7; 32])), None);
        assert_eq!(read_blob::<32>(&[key_blob(&[7; 32]), alloc::vec![0]].concat()), None);
        assert_eq!(read_blob::<32>(&[0, 0, 0, 200]), None);
    }
}
