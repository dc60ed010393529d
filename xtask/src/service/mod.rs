//! The VMs that a machine is asked for: what each serves, where it can be reached, and whether it is ready.

mod line;
mod ready;
mod sample;

pub use ready::{Outcome, wait, wants_information, where_logs_are};
pub use sample::Sample;

use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::Forward;
use crate::manifest::model::{Port, Protocol, Ready, System};
use crate::manifest::options;
use crate::net;
use crate::operator_ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port of a web server.
const HTTP: u16 = 80;
/// The port on the host that the first VM's first port gets when it is free; each further VM has the next one.
const FIRST_PORT: u16 = 18080;
/// How far further ports of a VM are from its first one: as many as VMs in the user-mode network.
const NEXT_PORTS: u16 = 256;

/// A VM that a machine is asked for.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its slot: its place among those asked for, from 0.
    pub slot: usize,
    /// Its image.
    pub image: String,
    /// Its address in the machine's network.
    pub guest: Ipv4Addr,
    /// The ports that it serves.
    pub ports: Vec<Port>,
    /// Where each of them can be reached.
    pub addresses: Vec<SocketAddr>,
    /// The sign that it is ready; none when it is as soon as it runs.
    pub ready: Option<Ready>,
}

impl Vm {
    /// Where its HTTP service is.
    pub fn http(&self) -> Option<SocketAddr> {
        matches!(self.ready, Some(Ready::Http(_))).then(|| self.first_tcp()).flatten()
    }

    /// The URL of its HTTP service, without the port that HTTP has anyway.
    pub fn url(&self) -> Option<String> {
        let address = self.http()?;
        Some(if address.port() == HTTP { format!("http://{}", address.ip()) } else { format!("http://{address}") })
    }

    fn first_tcp(&self) -> Option<SocketAddr> {
        let mut ports = self.ports.iter().zip(&self.addresses);
        ports.find(|(port, _)| port.protocol == Protocol::Tcp).map(|(_, address)| *address)
    }

    /// Where this port of it can be reached.
    pub fn address(&self, port: Port) -> Option<SocketAddr> {
        self.ports.iter().position(|other| *other == port).and_then(|index| self.addresses.get(index)).copied()
    }

    /// Asks its HTTP service whether it is ready; `Ok` for a VM without.
    pub fn ask_http(&self, timeout: Duration) -> Result<()> {
        let (Some(Ready::Http(path)), Some(address)) = (&self.ready, self.http()) else { return Ok(()) };
        match http::get(address, path, timeout) {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => fail!("GET {path} is answered with status {}", answer.status),
            Err(error) => Err(error),
        }
    }
}

/// The VMs that `options`, which are all boot options, ask for, reached at their own addresses.
///
/// # Errors
/// An image that `system` does not know; options that make no sense.
pub fn plan(system: &System, options: &str) -> Result<Vec<Vm>> {
    let images = options::vms(options::value(options, "vms").unwrap_or_default())?;
    let first = match options::address(options, system).unwrap_or_default().split(['/', ',']).next() {
        Some("dhcp" | "") | None => net::FIRST_VM,
        Some(address) => address.parse().context(|| format!("net={address}"))?,
    };
    let vm = |(slot, name): (usize, String)| {
        let Some(image) = system.image.iter().find(|image| image.name == name) else {
            let known: Vec<&str> = system.image.iter().map(|image| image.name.as_str()).collect();
            fail!("`vms=` names the unknown image `{name}`: known are {}", known.join(", "));
        };
        let offset = u32::try_from(slot).context(|| "too many VMs".into())?;
        let guest = Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset));
        let ports = image.ports.clone();
        let addresses = ports.iter().map(|port| SocketAddr::from((guest, port.number))).collect();
        Ok(Vm { slot, image: name, guest, ports, addresses, ready: image.ready.clone() })
    };
    images.into_iter().enumerate().map(vm).collect()
}

/// What the user-mode network has to forward, so that all ports of `vms` can be reached from the host.
///
/// # Errors
/// A VM with a port is outside of that network.
pub fn forwards(vms: &[Vm]) -> Result<Vec<Forward>> {
    let [a, b, c, _] = net::HOST.octets();
    let mut forwards = Vec::new();
    for (place, vm) in vms.iter().enumerate() {
        // Those behind have no port there, or are in no such network.
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        let [x, y, z, _] = vm.guest.octets();
        if [a, b, c] != [x, y, z] && !vm.ports.is_empty() {
            fail!(
                "VM {} would have the address {}, but the user-mode network is {}/{}: ask for fewer VMs or for addresses in it, or use --net tap",
                vm.slot,
                vm.guest,
                Ipv4Addr::new(a, b, c, 0),
                net::PREFIX
            );
        }
        for (port, row) in vm.ports.iter().zip(0_u16..) {
            let host_port = FIRST_PORT.saturating_add(place).saturating_add(row.saturating_mul(NEXT_PORTS));
            let host_port = operator_ports::host_port(&vm.image, *port).unwrap_or(host_port);
            forwards.push(Forward { guest: vm.guest, port: *port, host_port });
        }
    }
    Ok(forwards)
}

/// Notes that `vms` are reached where the user-mode network has put their [`forwards`].
pub fn put(vms: &mut [Vm], addresses: &[SocketAddr]) {
    let places = vms.iter_mut().flat_map(|vm| vm.addresses.iter_mut());
    places.zip(addresses).for_each(|(place, address)| *place = *address);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::workspace::root;

    fn system() -> System {
        manifest::load(&root().join("system.toml")).unwrap()
    }

    #[test]
    fn vms_serve_what_their_images_say() {
        let vms = plan(&system(), "vms=httpd,ask,udp-echo,hostile net=10.0.2.16/24,gw=10.0.2.2").unwrap();
        let ports: Vec<String> =
            vms.iter().map(|vm| vm.ports.iter().map(Port::to_string).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(ports, ["tcp/80", "", "udp/7", "tcp/80"]);
        assert_eq!(vms[2].addresses, ["10.0.2.18:7".parse().unwrap()]);
        let urls: Vec<Option<String>> = vms.iter().map(Vm::url).collect();
        assert_eq!(urls, [Some("http://10.0.2.16".into()), None, None, Some("http://10.0.2.19".into())]);
        assert_eq!(plan(&system(), "vms=httpd*2 net=dhcp").unwrap()[1].guest, Ipv4Addr::new(10, 0, 2, 17));
        assert_eq!(plan(&system(), "vms=").unwrap().len(), 0);
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        assert!(plan(&system(), "vms=httpd net=nonsense").is_err());
        let error = plan(&system(), "vms=httpd,nobody").unwrap_err().to_string();
        assert!(error.contains("unknown image `nobody`: known are httpd, "), "{error}");
    }

    #[test]
    fn each_port_has_a_place_of_its_own_on_the_host() {
        let mut system = system();
        for image in system.image.iter_mut().filter(|image| image.name == "udp-echo") {
            image.ports.push(Port::tcp(7));
        }
        let mut vms = plan(&system, "vms=ask,udp-echo*2,httpd").unwrap();
        let found = forwards(&vms).unwrap();
        let found: Vec<(String, u16)> = found.iter().map(|each| (each.port.to_string(), each.host_port)).collect();
        let expected = [("udp/7", 18081), ("tcp/7", 18337), ("udp/7", 18082), ("tcp/7", 18338), ("tcp/80", 18083)];
        assert_eq!(found, expected.map(|(port, place)| (port.to_owned(), place)));
        let addresses: Vec<SocketAddr> = (1..=5).map(|n| SocketAddr::from((Ipv4Addr::LOCALHOST, n))).collect();
        put(&mut vms, &addresses);
        assert_eq!(
            (vms[2].address(Port::tcp(7)), vms[3].url()),
            (Some(addresses[3]), Some("http://127.0.0.1:5".into()))
        );
    }

    #[test]
    fn addresses_outside_the_user_network_are_refused() {
        let vms = plan(&system(), "vms=ask,httpd net=10.0.3.1/24").unwrap();
        let error = forwards(&vms).unwrap_err().to_string();
        assert!(
            error.contains("VM 1 would have the address 10.0.3.2, but the user-mode network is 10.0.2.0/24"),
            "{error}"
        );
        assert!(forwards(&vms[..1]).unwrap().is_empty(), "what serves nothing may be anywhere");
    }
}
