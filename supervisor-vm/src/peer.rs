//! What the machine has for those who log in.

use crate::keys::{Keys, fingerprint};
use crate::node::Node;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use ilwaco::time::Duration;
use ssh::SigningKey;

/// How long a client may do nothing.
pub const IDLE: Duration = Duration::from_secs(600);

/// The status of a command that the core or the supervisor refuses.
pub const FAILED: u32 = 1;
/// The status of a line that is no command.
pub const NO_COMMAND: u32 = 2;
/// The status of what was stopped by Ctrl-C or a signal, as shells have it.
pub const INTERRUPTED: u32 = 130;

/// The server.
pub struct Server {
    node: Rc<Node>,
    keys: Keys,
    host: SigningKey,
    /// Logins at the moment.
    pub sessions: Cell<usize>,
}

impl Server {
    /// A server with this host key.
    pub fn new(node: Rc<Node>, keys: Keys, secret: &[u8; 32]) -> Server {
        let host = SigningKey::from_bytes(secret);
        Server { node, keys, host, sessions: Cell::new(0) }
    }

    /// What is asked and told about.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The same, for what outlives a login.
    pub fn shared_node(&self) -> Rc<Node> {
        self.node.clone()
    }

    /// Its host key.
    pub fn host(&self) -> SigningKey {
        self.host.clone()
    }

    /// The fingerprint of its host key.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.host.verifying_key().as_bytes())
    }

    /// Whether the owner of this key may log in.
    pub fn admits(&self, key: &[u8; 32]) -> bool {
        self.keys.has(key)
    }
}
