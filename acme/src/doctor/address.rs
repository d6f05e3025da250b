//! Whose an address is: this machine's, a private network's, or out there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::Context;

/// An interface of this machine has the address.
pub(super) fn is_ours(address: IpAddr, context: &Context) -> bool {
    match &context.own {
        Some(own) => own.contains(&address),
        None => is_own(address),
    }
}

/// An interface of this machine, as far as this network namespace goes, has the address.
pub fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || source_towards(address) == Some(address)
}

/// The address this machine would connect from. The kernel picks the destination itself where that
/// is one of its own, which needs no list of interfaces. Nothing is sent.
pub fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Discard (RFC 863); connecting a UDP socket only chooses a route.
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What the address is reserved for, where no public CA can connect to it (RFC 6890).
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => reserved_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => reserved_v4(v4),
            None => reserved_v6(v6),
        },
    }
}

fn reserved_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, ..] = address.octets();
    if address.is_loopback() {
        Some("the machine itself")
    } else if address.is_private() {
        Some("private networks")
    } else if a == 100 && (64..128).contains(&b) {
        Some("networks behind a provider's NAT")
    } else if address.is_link_local() {
        Some("one link")
    } else if a == 0 || address.is_multicast() || a >= 240 {
        Some("no host")
    } else {
        None
    }
}

fn reserved_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("the machine itself")
    } else if address.is_unique_local() {
        Some("private networks")
    } else if address.is_unicast_link_local() {
        Some("one link")
    } else if address.is_unspecified() || address.is_multicast() {
        Some("no host")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses() {
        for (address, is_reserved) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("0.0.0.0", true),
            ("255.255.255.255", true),
            ("192.0.2.1", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(reserved(address).is_some(), is_reserved, "{address}");
        }
    }

    #[test]
    fn the_kernel_knows_its_own() {
        let context = Context::default();
        assert!(is_ours("127.0.0.1".parse().unwrap(), &context));
        assert!(is_ours("127.9.9.9".parse().unwrap(), &context));
        assert!(!is_ours("192.0.2.77".parse().unwrap(), &context));
        // The address of the way out, where there is one, is ours.
        if let Some(source) = source_towards("192.0.2.77".parse().unwrap()) {
            assert!(is_ours(source, &context));
        }
    }
}
