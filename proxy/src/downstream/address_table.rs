//! Open connections per client address: IPv4 /32, IPv6 /64.

use std::net::IpAddr;

use dashmap::DashMap;

/// Bounded by the number of open connections: an entry is removed with its last connection.
#[derive(Default)]
pub struct AddressTable {
    open: DashMap<AddressKey, usize>,
}

/// IPv4 addresses whole, IPv6 by /64 (what one customer line is given).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u64, bool);

impl AddressKey {
    pub fn of(address: IpAddr) -> AddressKey {
        match address.to_canonical() {
            IpAddr::V4(v4) => AddressKey(u64::from(v4.to_bits()), false),
            IpAddr::V6(v6) => AddressKey((v6.to_bits() >> 64) as u64, true),
        }
    }
}

impl AddressTable {
    /// Counts one more connection, unless the address has `limit` already.
    #[must_use]
    pub fn enter(&self, key: AddressKey, limit: usize) -> bool {
        let mut count = self.open.entry(key).or_insert(0);
        if *count >= limit {
            return false;
        }
        *count += 1;
        true
    }

    pub fn leave(&self, key: AddressKey) {
        self.open.remove_if_mut(&key, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_per_prefix_and_forgets_the_last() {
        let table = AddressTable::default();
        let a = AddressKey::of("2001:db8::1".parse().unwrap());
        let b = AddressKey::of("2001:db8::ffff".parse().unwrap());
        let c = AddressKey::of("2001:db8:0:1::1".parse().unwrap());
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert!(table.enter(a, 2) && table.enter(b, 2));
        assert!(!table.enter(a, 2));
        table.leave(a);
        assert!(table.enter(b, 2));
        table.leave(a);
        table.leave(a);
        assert!(table.is_empty());
    }

    #[test]
    fn mapped_v4_is_v4() {
        let mapped = AddressKey::of("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped, AddressKey::of("192.0.2.1".parse().unwrap()));
    }
}
