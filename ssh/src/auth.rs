//! Logging in, with a key (RFC 4252).

use crate::kex::{HOST_KEY, read_blob};
use crate::number::USERAUTH_REQUEST;
use crate::wire::{Message, Reader};
use alloc::vec::Vec;
use ed25519_dalek::{Signature, VerifyingKey};

/// The service that a key is shown for.
pub(crate) const SERVICE: &str = "ssh-connection";
/// The only way.
pub(crate) const METHOD: &str = "publickey";

/// What a client asks for.
pub(crate) enum Attempt<'a> {
    /// What else there is but a key, or a kind of key that is not known.
    Other,
    /// Whether this user may show this key.
    Query { user: &'a str, key: [u8; 32] },
    /// The key was shown: it has signed this.
    Signed { user: &'a str, key: [u8; 32], signature: [u8; 64], text: Vec<u8> },
}

/// Reads a request. `None` where it makes no sense.
pub(crate) fn read<'a>(payload: &'a [u8], session: &[u8; 32]) -> Option<Attempt<'a>> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    let (user, service, method) = (reader.text()?, reader.text()?, reader.text()?);
    if service != SERVICE || method != METHOD {
        return Some(Attempt::Other);
    }
    let (is_signed, kind, blob) = (reader.flag()?, reader.string()?, reader.string()?);
    let Some(key) = (if kind == HOST_KEY.as_bytes() { read_blob(blob) } else { None }) else {
        return Some(Attempt::Other);
    };
    if !is_signed {
        return Some(Attempt::Query { user, key });
    }
    let signature = read_blob(reader.string()?)?;
    Some(Attempt::Signed { user, key, signature, text: text(session, user, blob) })
}

/// What is signed: the session first, so that the signature is worth nothing elsewhere.
pub(crate) fn text(session: &[u8; 32], user: &str, blob: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    crate::wire::put_string(&mut text, session);
    let message = Message::new(USERAUTH_REQUEST).string(user).string(SERVICE).string(METHOD);
    text.extend(message.flag(true).string(HOST_KEY).string(blob).0);
    text
}

/// Whether a signature is the key's.
pub(crate) fn is_signed_by(key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(text, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 4252, 7 has it: where the session were missing, a signature could be shown elsewhere.
    #[test]
    fn what_is_signed_begins_with_the_session() {
        let text = text(&[9; 32], "admin", b"blob");
        let mut is = [&[0, 0, 0, 32][..], &[9; 32], &[50]].concat();
        for part in [&b"admin"[..], b"ssh-connection", b"publickey"] {
            crate::wire::put_string(&mut is, part);
        }
        is.push(1);
        crate::wire::put_string(&mut is, b"ssh-ed25519");
        crate::wire::put_string(&mut is, b"blob");
        assert_eq!(text, is);
    }
}
