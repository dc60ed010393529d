//! Numbers of messages, and of reasons (RFC 4250, 4.1 and 4.2).

pub(crate) const DISCONNECT: u8 = 1;
pub(crate) const IGNORE: u8 = 2;
pub(crate) const UNIMPLEMENTED: u8 = 3;
pub(crate) const DEBUG: u8 = 4;
pub(crate) const SERVICE_REQUEST: u8 = 5;
pub(crate) const SERVICE_ACCEPT: u8 = 6;
/// RFC 8308.
pub(crate) const EXT_INFO: u8 = 7;
pub(crate) const KEXINIT: u8 = 20;
pub(crate) const NEWKEYS: u8 = 21;
/// RFC 5656.
pub(crate) const ECDH_INIT: u8 = 30;
pub(crate) const ECDH_REPLY: u8 = 31;
pub(crate) const USERAUTH_REQUEST: u8 = 50;
pub(crate) const USERAUTH_FAILURE: u8 = 51;
pub(crate) const USERAUTH_SUCCESS: u8 = 52;
pub(crate) const USERAUTH_PK_OK: u8 = 60;
pub(crate) const GLOBAL_REQUEST: u8 = 80;
pub(crate) const REQUEST_FAILURE: u8 = 82;
pub(crate) const CHANNEL_OPEN: u8 = 90;
pub(crate) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub(crate) const CHANNEL_OPEN_FAILURE: u8 = 92;
pub(crate) const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub(crate) const CHANNEL_DATA: u8 = 94;
pub(crate) const CHANNEL_EXTENDED_DATA: u8 = 95;
pub(crate) const CHANNEL_EOF: u8 = 96;
pub(crate) const CHANNEL_CLOSE: u8 = 97;
pub(crate) const CHANNEL_REQUEST: u8 = 98;
pub(crate) const CHANNEL_SUCCESS: u8 = 99;
pub(crate) const CHANNEL_FAILURE: u8 = 100;

/// Why a channel is not opened (RFC 4250, 4.3).
pub(crate) mod open_failure {
    pub(crate) const PROHIBITED: u32 = 1;
    pub(crate) const UNKNOWN_TYPE: u32 = 3;
    pub(crate) const SHORTAGE: u32 = 4;
}

/// Why a connection ends (RFC 4250, 4.2).
pub mod reason {
    /// The client does not follow the protocol.
    pub const PROTOCOL_ERROR: u32 = 2;
    /// There is no algorithm that both know, or a key is none.
    pub const KEY_EXCHANGE_FAILED: u32 = 3;
    /// A packet is not as it was sent.
    pub const MAC_ERROR: u32 = 5;
    /// It asks for a service that there is not.
    pub const SERVICE_NOT_AVAILABLE: u32 = 7;
    /// It speaks another version.
    pub const VERSION_NOT_SUPPORTED: u32 = 8;
    /// The server has enough.
    pub const BY_APPLICATION: u32 = 11;
    /// It has tried too many keys.
    pub const NO_MORE_AUTH_METHODS: u32 = 14;
}
