//! Networks of clients, for lists that say who may and who is not counted.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{ValueError, is_decimal, quote};

/// Reads `10.0.0.0/8`, `2001:db8::/32`, or an address: that one alone (/32, /128).
///
/// # Errors
/// Bits outside the network (is the address meant, or the network?), netmasks, networks without
/// their prefix length, IPv4 addresses in IPv6 form (clients have them in IPv4 form).
pub(crate) fn network(text: &str) -> Result<IpNet, ValueError> {
    let error = |what: &str| {
        let expected = "an address or a network";
        ValueError::new(expected, format!("{} {what}", quote(text)))
    };
    let address = text.parse::<IpAddr>().ok().map(IpNet::from);
    let Some(net) = text.parse::<IpNet>().ok().or(address) else {
        return Err(error("is neither an address nor a network").help(instead_of(text)));
    };
    if let IpNet::V6(v6) = &net
        && v6.prefix_len() >= MAPPED
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let help = match Ipv4Net::new(v4, v6.prefix_len() - MAPPED) {
            Ok(v4) if v4.prefix_len() == 32 => format!("write `{}`", v4.addr()),
            Ok(v4) => format!("write `{v4}`"),
            Err(_) => ANY.to_owned(),
        };
        return Err(error("is an IPv4 address in IPv6 form").help(help));
    }
    if net.trunc() != net {
        let help =
            format!("write `{}` for the network, `{}` for the address", net.trunc(), net.addr());
        return Err(error("has bits outside its network").help(help));
    }
    Ok(net)
}

/// An address that looks like the start of a network: `10.0.0.0`, `2001:db8::`.
pub(crate) fn looks_like_a_network(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.prefix_len() == 32 && v4.addr().octets().ends_with(&[0]),
        IpNet::V6(v6) => v6.prefix_len() == 128 && v6.addr().segments().ends_with(&[0, 0, 0, 0]),
    }
}

fn instead_of(text: &str) -> String {
    if ["all", "any", "*", "everyone", "public"].contains(&text.to_ascii_lowercase().as_str()) {
        return "write `0.0.0.0/0` and `::/0` for everybody".to_owned();
    }
    if text.contains("://") || text.to_ascii_lowercase().contains(|c: char| c > 'f' && c <= 'z') {
        return "names are not looked up: write addresses or networks".to_owned();
    }
    let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
    if let (Ok(IpAddr::V4(address)), Some(Ok(mask))) =
        (address.parse(), mask.map(str::parse::<Ipv4Addr>))
        && let Ok(net) = Ipv4Net::with_netmask(address, mask)
    {
        return format!("write `{}`", net.trunc());
    }
    let bytes: Vec<&str> = address
        .split('.')
        .take_while(|byte| is_decimal(byte) && byte.parse::<u8>().is_ok())
        .collect();
    let rest = address.split('.').skip(bytes.len()).all(|byte| byte.is_empty() || byte == "*");
    match bytes.as_slice() {
        [a] if rest && mask.is_none() && address.contains('.') => format!("write `{a}.0.0.0/8`"),
        [a, b] if rest && mask.is_none() => format!("write `{a}.{b}.0.0/16`"),
        [a, b, c] if rest && mask.is_none() => format!("write `{a}.{b}.{c}.0/24`"),
        _ => ANY.to_owned(),
    }
}

/// Bits before the IPv4 address in an IPv4-mapped one (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;
const ANY: &str = "write `10.0.0.0/8`, `192.0.2.1` or `2001:db8::/32`";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_and_addresses() {
        for (text, net) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text), Ok(net.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, help) in [
            ("10.1.2.3/8", "write `10.0.0.0/8` for the network, `10.1.2.3` for the address"),
            (
                "2001:db8::1/32",
                "write `2001:db8::/32` for the network, `2001:db8::1` for the address",
            ),
            ("10.0.0.0/255.0.0.0", "write `10.0.0.0/8`"),
            ("10.1.2.0/255.255.255.0", "write `10.1.2.0/24`"),
            ("10.", "write `10.0.0.0/8`"),
            ("192.168", "write `192.168.0.0/16`"),
            ("192.0.2", "write `192.0.2.0/24`"),
            ("192.0.2.*", "write `192.0.2.0/24`"),
            ("::ffff:192.0.2.1", "write `192.0.2.1`"),
            ("::ffff:10.0.0.0/104", "write `10.0.0.0/8`"),
            ("all", "write `0.0.0.0/0` and `::/0` for everybody"),
            ("example.com", "names are not looked up: write addresses or networks"),
            ("10.0.0.0/33", ANY),
            ("10", ANY),
            ("", ANY),
        ] {
            let why = network(text).unwrap_err();
            assert_eq!(why.help.as_deref(), Some(help), "{text}");
        }
    }

    #[test]
    fn addresses_that_look_like_networks() {
        for (text, looks) in [
            ("10.0.0.0", true),
            ("10.0.0.1", false),
            ("10.0.0.0/8", false),
            ("2001:db8::", true),
            ("2001:db8::1", false),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(looks_like_a_network(&network(text).unwrap()), looks, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9a-f:./*é]{0,24}") {
            if let Ok(net) = network(&text) {
                prop_assert_eq!(net.trunc(), net);
            }
        }
    }
}
