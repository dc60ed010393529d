//! The ports of the operator's VM.

use crate::manifest::model::Port;

/// Its image.
pub const IMAGE: &str = "supervisor-vm";
/// Where it takes logins.
pub const LOGIN: Port = Port::tcp(22);
/// Where it serves figures.
pub const WEB: Port = Port::tcp(80);
/// The ports on the host that are tried first for those of the operator's VM.
pub fn host_port(image: &str, port: Port) -> Option<u16> {
    match port {
        _ if image != IMAGE => None,
        LOGIN => Some(2222),
        WEB => Some(8000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_no_ports_of_their_own() {
        assert_eq!((host_port(IMAGE, LOGIN), host_port(IMAGE, WEB)), (Some(2222), Some(8000)));
        assert_eq!((host_port("httpd", LOGIN), host_port(IMAGE, Port::tcp(7))), (None, None));
    }
}
