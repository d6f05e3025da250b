//! Lists of allowed and denied networks, compiled: which of them speaks for an address.

use std::net::IpAddr;

use ipnet::IpNet;

/// Both lists as one table. The longest matching prefix decides; of equal ones the denial.
pub struct Addresses {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// What holds for an address that no network has.
    unlisted: bool,
}

impl Addresses {
    /// Without an allowed network, everybody is allowed who is not denied.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Addresses {
        let allowed = allow.iter().map(|net| (net, true));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, allows) in allowed.chain(deny.iter().map(|net| (net, false))) {
            match span(net, allows) {
                (true, span) => v4.push(span),
                (false, span) => v6.push(span),
            }
        }
        Addresses { v4: Ranges::new(v4).of_ipv4(), v6: Ranges::new(v6), unlisted: allow.is_empty() }
    }

    /// What a network says about the address; `None`: no network has it. A mapped IPv4 address
    /// (`::ffff:192.0.2.1`) is the IPv4 address.
    pub fn listed(&self, address: IpAddr) -> Option<bool> {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        }
    }

    pub fn allows(&self, address: IpAddr) -> bool {
        self.listed(address).unwrap_or(self.unlisted)
    }
}

/// A network as the numbers of its addresses.
#[derive(Clone, Copy)]
struct Span {
    first: u128,
    last: u128,
    allows: bool,
}

/// With whether it is IPv4.
fn span(net: &IpNet, allows: bool) -> (bool, Span) {
    let (first, host_bits, v4) = match (net.network().to_canonical(), net.prefix_len()) {
        (IpAddr::V4(first), len) => {
            // As mapped: 96 bits come before.
            let len = if net.addr().is_ipv4() { len } else { len.saturating_sub(96) };
            (u128::from(first.to_bits()), 32 - u32::from(len), true)
        }
        (IpAddr::V6(first), len) => (first.to_bits(), 128 - u32::from(len), false),
    };
    // All 128 bits cannot be shifted out at once.
    let size = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    (v4, Span { first, last: first | size, allows })
}

/// Networks nest or are apart, so they cut the numbers into pieces of one verdict each: a lookup
/// is one binary search whatever the lengths of the prefixes.
struct Ranges<N> {
    /// Where a piece begins; rising.
    starts: Box<[N]>,
    verdicts: Box<[Option<bool>]>,
}

impl Ranges<u128> {
    fn new(mut spans: Vec<Span>) -> Ranges<u128> {
        // Wider ones first, so that those inside come after; of equal ones the denial last.
        spans.sort_by_key(|span| (span.first, std::cmp::Reverse(span.last), span.allows as u8 ^ 1));
        let mut pieces = Pieces::default();
        let mut open: Vec<Span> = Vec::new();
        for span in spans {
            while let Some(done) = open.pop_if(|outer| outer.last < span.first) {
                pieces.resume(done.last, open.last());
            }
            pieces.begin(span.first, Some(span.allows));
            open.push(span);
        }
        while let Some(done) = open.pop() {
            pieces.resume(done.last, open.last());
        }
        Ranges { starts: pieces.starts.into(), verdicts: pieces.verdicts.into() }
    }

    /// Without what begins after the last address.
    fn of_ipv4(&self) -> Ranges<u32> {
        let pieces = self.starts.iter().zip(&self.verdicts);
        let (starts, verdicts): (Vec<u32>, Vec<_>) = pieces
            .filter_map(|(start, verdict)| Some((u32::try_from(*start).ok()?, *verdict)))
            .unzip();
        Ranges { starts: starts.into(), verdicts: verdicts.into() }
    }
}

impl<N: Ord + Copy> Ranges<N> {
    #[inline(always)]
    fn find(&self, number: N) -> Option<bool> {
        let after = self.starts.partition_point(|start| *start <= number);
        after.checked_sub(1).and_then(|piece| self.verdicts[piece])
    }
}

#[derive(Default)]
struct Pieces {
    starts: Vec<u128>,
    verdicts: Vec<Option<bool>>,
}

impl Pieces {
    fn begin(&mut self, start: u128, verdict: Option<bool>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.verdicts.pop();
        }
        self.starts.push(start);
        self.verdicts.push(verdict);
    }

    /// After the last number of a network, the one around it goes on.
    fn resume(&mut self, last: u128, outer: Option<&Span>) {
        if let Some(start) = last.checked_add(1) {
            self.begin(start, outer.map(|span| span.allows));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn allows(addresses: &Addresses, ip: &str) -> bool {
        addresses.allows(ip.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides_and_equal_ones_deny() {
        let addresses = Addresses::new(
            &nets(&["192.0.2.0/24", "192.0.2.66/32", "198.51.100.0/24", "2001:db8::/32"]),
            &nets(&["192.0.2.64/26", "198.51.100.0/24", "2001:db8:bad::/48"]),
        );
        for (ip, allowed) in [
            ("192.0.2.1", true),
            ("192.0.2.63", true),
            ("192.0.2.64", false),
            ("192.0.2.66", true),
            ("192.0.2.127", false),
            ("192.0.2.128", true),
            ("192.0.3.0", false),
            ("198.51.100.7", false),
            ("2001:db8::1", true),
            ("2001:db8:bad::1", false),
            ("2001:db8:bae::", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(allows(&addresses, ip), allowed, "{ip}");
        }
        assert_eq!(addresses.listed("203.0.113.1".parse().unwrap()), None);
    }

    #[test]
    fn without_an_allow_list_everybody_else_is_allowed() {
        let addresses = Addresses::new(&[], &nets(&["192.0.2.66/32"]));
        assert!(!allows(&addresses, "192.0.2.66"));
        assert!(allows(&addresses, "192.0.2.67"));
        assert!(allows(&addresses, "2001:db8::1"));
        assert_eq!(addresses.listed("192.0.2.67".parse().unwrap()), None);
        assert!(allows(&Addresses::new(&[], &[]), "192.0.2.1"));
    }

    #[test]
    fn mapped_v4_is_v4_in_addresses_and_networks() {
        let addresses = Addresses::new(&nets(&["192.0.2.0/24", "::ffff:198.51.100.0/120"]), &[]);
        assert!(allows(&addresses, "::ffff:192.0.2.9"));
        assert!(allows(&addresses, "198.51.100.255"));
        assert!(!allows(&addresses, "198.51.101.0"));
        // All of IPv6 is not all of IPv4.
        assert!(!allows(&Addresses::new(&nets(&["::/0"]), &[]), "::ffff:192.0.2.9"));
        assert!(!allows(&Addresses::new(&nets(&["0.0.0.0/0"]), &[]), "2001:db8::1"));
    }

    #[test]
    fn the_ends_of_the_number_line() {
        let all = Addresses::new(&nets(&["0.0.0.0/0", "::/0"]), &nets(&["255.255.255.255/32"]));
        for (ip, allowed) in [
            ("0.0.0.0", true),
            ("255.255.255.254", true),
            ("255.255.255.255", false),
            ("::", true),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ] {
            assert_eq!(allows(&all, ip), allowed, "{ip}");
        }
    }

    #[test]
    fn ten_thousand_networks_cost_fifteen_steps() {
        let list: Vec<IpNet> = (0..10_000u32)
            .map(|n| IpNet::new(Ipv4Addr::from_bits(0x0a00_0000 + n * 512).into(), 24).unwrap())
            .collect();
        let addresses = Addresses::new(&list, &[]);
        // Each network and the gap behind it.
        assert_eq!(addresses.v4.starts.len(), 20_000);
        assert!(allows(&addresses, "10.0.2.1") && !allows(&addresses, "10.0.3.1"));
    }

    /// One network after the other.
    fn oracle(allow: &[IpNet], deny: &[IpNet], ip: IpAddr) -> bool {
        let longest = |list: &[IpNet]| {
            list.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).max()
        };
        match (longest(allow), longest(deny)) {
            (None, None) => allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    /// Few bits differ, so that networks nest and touch.
    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..64, 24u8..=32, any::<bool>()).prop_map(|(host, len, high)| {
            let base = if high { 0xffff_ffc0 } else { 0xc000_0200 };
            IpNet::new(Ipv4Addr::from_bits(base | host).into(), len).unwrap()
        });
        let v6 = (0u128..64, 120u8..=128, any::<bool>()).prop_map(|(host, len, high)| {
            let base = if high { u128::MAX << 6 } else { 0x2001_0db8 << 96 };
            IpNet::new(Ipv6Addr::from_bits(base | host).into(), len).unwrap()
        });
        let wide =
            prop_oneof![Just("0.0.0.0/0"), Just("::/0"), Just("128.0.0.0/1"), Just("8000::/1")]
                .prop_map(|net| net.parse().unwrap());
        prop_oneof![8 => v4, 8 => v6, 1 => wide]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn agrees_with_the_slow_way(
            allow in proptest::collection::vec(net(), 0..12),
            deny in proptest::collection::vec(net(), 0..12),
        ) {
            let addresses = Addresses::new(&allow, &deny);
            let around = |net: &IpNet| [net.network(), net.broadcast(), net.addr()];
            let near = allow.iter().chain(&deny).flat_map(around);
            let hosts = (0u32..256).map(|n| IpAddr::from(Ipv4Addr::from_bits(0xc000_0200 | n)));
            for ip in near.chain(hosts) {
                prop_assert_eq!(addresses.allows(ip), oracle(&allow, &deny, ip), "{}", ip);
            }
        }
    }
}
