//! What requests are counted by, as 64-bit hashes under a key that is drawn at each start of the
//! process: no value of a client is stored, and nobody outside can choose values that collide.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use config::model::AddressPrefix;

use crate::siphash::siphash13;

/// Makes keys. Its own key is never shown.
pub struct KeyHasher {
    /// One hash function for each kind of part.
    functions: [(u64, u64); Part::COUNT],
    /// Of the scheme that nearly all have.
    bearer: u64,
}

/// How the values of one field or cookie are hashed.
pub struct Values {
    function: (u64, u64),
    /// They begin with a scheme: [`scheme`].
    credentials: bool,
}

#[derive(Clone, Copy)]
enum Part {
    Address,
    Header,
    Cookie,
    Host,
    Route,
    Chain,
    Bucket,
    Scheme,
    Tenant,
}

impl Part {
    const COUNT: usize = 9;
}

/// A client by its address. Equal for all addresses of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub narrow: u64,
    /// Of the wider IPv6 prefix that is counted as well.
    pub wide: Option<u64>,
}

impl Client {
    /// What shares an overflow bucket: the widest prefix, so that one network reaches one bucket.
    pub fn network(&self) -> u64 {
        self.wide.unwrap_or(self.narrow)
    }
}

/// What a limit is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub key: u64,
    /// The same key with the wider IPv6 prefix in the address's place, where one is in it.
    pub aggregate: Option<u64>,
    pub origin: Origin,
    /// The client may draw the key at will (header, cookie, host).
    pub drawn: bool,
}

/// Where a request comes from: an address as numbers, which are copied and compared at once. An
/// IPv4 address that comes mapped (`::ffff:192.0.2.1`) is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    high: u64,
    low: u64,
    /// 4 or 6: a number as well.
    family: u64,
}

impl Origin {
    /// Out of line: an `IpAddr` is sixteen bytes to the compiler, each of them by itself.
    #[inline(never)]
    pub fn of(address: &IpAddr) -> Origin {
        match address.to_canonical() {
            IpAddr::V4(v4) => Origin { high: 0, low: v4.to_bits().into(), family: 4 },
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Origin { high: (bits >> 64) as u64, low: bits as u64, family: 6 }
            }
        }
    }
}

/// Clients as one limit tells them apart. Few requests of a limit by credentials need to know
/// theirs, so nothing is hashed before.
#[derive(Clone)]
pub struct Clients {
    pub hasher: Arc<KeyHasher>,
    prefix: AddressPrefix,
    /// The same as one number.
    cut: u64,
    /// What a tenant's keys begin with; 0: no tenant.
    pub tenant: u64,
}

impl Clients {
    pub fn new(hasher: Arc<KeyHasher>, prefix: AddressPrefix, tenant: u64) -> Clients {
        let AddressPrefix { v4, v6, v6_aggregate } = prefix;
        let (wide, aggregate) = (u8::from(v6_aggregate.is_some()), v6_aggregate.unwrap_or(0));
        let cut = u64::from_le_bytes([v4, v6, wide, aggregate, 1, 0, 0, 0]);
        Clients { hasher, prefix, cut, tenant }
    }

    /// The client here.
    #[inline(always)]
    pub fn at(&self, origin: &Origin) -> Client {
        // Each limit of a route asks, and a connection's next request.
        let asked = Question { key: self.hasher.functions[0].0, cut: self.cut, origin: *origin };
        let (same, client) = LAST.get();
        if same == asked {
            return client;
        }
        let client = self.hasher.client(origin, &self.prefix);
        LAST.set((asked, client));
        client
    }

    /// The key that this overflow bucket has among streams.
    pub fn bucket(&self, index: usize) -> u64 {
        self.hasher.bucket(self.tenant, index)
    }

    /// A key to add parts to.
    pub fn key(&self) -> Key<'_> {
        self.hasher.key_of(self.tenant)
    }
}

impl KeyHasher {
    /// A new random key.
    pub fn random() -> KeyHasher {
        let mut bytes = [0; 16];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            // The standard library has its own source.
            let fallback = RandomState::new();
            bytes[..8].copy_from_slice(&fallback.hash_one(0).to_ne_bytes());
            bytes[8..].copy_from_slice(&fallback.hash_one(1).to_ne_bytes());
        }
        let key = u128::from_ne_bytes(bytes);
        KeyHasher::with_key(key as u64, (key >> 64) as u64)
    }

    fn with_key(k0: u64, k1: u64) -> KeyHasher {
        let derive = |kind: usize| {
            let half = |half: u8| siphash13(k0, k1, &[kind.to_le_bytes()[0], half]);
            (half(0), half(1))
        };
        let mut hasher = KeyHasher { functions: std::array::from_fn(derive), bearer: 0 };
        hasher.bearer = hasher.hash(Part::Scheme, b"bearer");
        hasher
    }

    /// The client here.
    pub fn client(&self, origin: &Origin, prefix: &AddressPrefix) -> Client {
        let bits = u128::from(origin.high) << 64 | u128::from(origin.low);
        if origin.family == 4 {
            return Client { narrow: self.prefix(4, bits << 96, prefix.v4), wide: None };
        }
        let aggregate = prefix.v6_aggregate.filter(|aggregate| *aggregate < prefix.v6);
        Client {
            narrow: self.prefix(6, bits, prefix.v6),
            wide: aggregate.map(|length| self.prefix(6, bits, length)),
        }
    }

    fn prefix(&self, family: u8, bits: u128, length: u8) -> u64 {
        let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
        let mut bytes = [0; 18];
        bytes[0] = family;
        bytes[1] = length;
        bytes[2..].copy_from_slice(&(bits & mask).to_be_bytes());
        self.hash(Part::Address, &bytes)
    }

    /// A key of a tenant, as [`tenant`](Self::tenant) gives it, without parts yet.
    pub fn key_of(&self, tenant: u64) -> Key<'_> {
        Key { hasher: self, key: tenant, aggregate: None, drawn: false }
    }

    /// What the keys of a tenant begin with.
    pub fn tenant(&self, name: &str) -> u64 {
        self.hash(Part::Tenant, name.as_bytes())
    }

    /// How values of this field are hashed, by its lower-case name.
    pub fn header_values(&self, name: &str) -> Values {
        let credentials = name == "authorization";
        Values { function: self.function_of(Part::Header, name), credentials }
    }

    /// How values of this cookie are hashed.
    pub fn cookie_values(&self, name: &str) -> Values {
        Values { function: self.function_of(Part::Cookie, name), credentials: false }
    }

    fn function_of(&self, part: Part, name: &str) -> (u64, u64) {
        let half = |half: u8| self.hash(part, &[name.as_bytes(), &[half]].concat());
        (half(0), half(1))
    }

    /// A scheme of authentication in any case.
    fn scheme(&self, scheme: &[u8]) -> u64 {
        if scheme == b"Bearer" {
            return self.bearer;
        }
        self.hash(Part::Scheme, &scheme.to_ascii_lowercase())
    }

    /// The key that overflow bucket number `index` of this tenant (0: of none) has among streams.
    pub fn bucket(&self, tenant: u64, index: usize) -> u64 {
        self.chain(tenant, self.hash(Part::Bucket, &index.to_le_bytes()))
    }

    fn hash(&self, part: Part, bytes: &[u8]) -> u64 {
        let (k0, k1) = self.functions[part as usize];
        siphash13(k0, k1, bytes)
    }

    /// Both are keyed hashes already, which nobody can choose: one multiplication mixes them.
    fn chain(&self, before: u64, next: u64) -> u64 {
        let (k0, k1) = self.functions[Part::Chain as usize];
        let product = u128::from(before ^ k0).wrapping_mul(u128::from(next ^ k1));
        (product as u64) ^ ((product >> 64) as u64)
    }
}

/// Under which key, cut how, of whom.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Question {
    key: u64,
    cut: u64,
    origin: Origin,
}

impl Question {
    /// Nobody cuts so.
    const NONE: Question =
        Question { key: 0, cut: 0, origin: Origin { high: 0, low: 0, family: 0 } };
}

thread_local! {
    /// What the thread was asked last.
    static LAST: Cell<(Question, Client)> =
        const { Cell::new((Question::NONE, Client { narrow: 0, wide: None })) };
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

/// A combination of parts, one after the other. Other parts, or the same in another order, are
/// another key.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    hasher: &'a KeyHasher,
    key: u64,
    aggregate: Option<u64>,
    drawn: bool,
}

impl Key<'_> {
    #[inline(always)]
    pub fn client(&mut self, client: &Client) -> &mut Self {
        let aggregate = client.wide.map(|wide| self.hasher.chain(self.key, wide));
        self.part(client.narrow);
        self.aggregate = aggregate;
        self
    }

    /// The value of a field or cookie.
    pub fn value(&mut self, of: &Values, value: &[u8]) -> &mut Self {
        let hash = |bytes: &[u8]| siphash13(of.function.0, of.function.1, bytes);
        let hash = match scheme(value).filter(|_| of.credentials) {
            Some((scheme, credentials)) => {
                self.hasher.chain(self.hasher.scheme(scheme), hash(credentials))
            }
            None => hash(value),
        };
        self.drawn = true;
        self.part(hash)
    }

    /// The normalised host. Under a wildcard clients may draw it.
    pub fn host(&mut self, host: &str) -> &mut Self {
        self.drawn = true;
        self.part(self.hasher.hash(Part::Host, host.as_bytes()))
    }

    /// One key for all requests of the route: limits are kept by route anyway.
    pub fn route(&mut self) -> &mut Self {
        self.part(self.hasher.hash(Part::Route, &[]))
    }

    /// The finished key, asked from here.
    #[inline(always)]
    pub fn asked(&self, origin: Origin) -> Asked {
        Asked { key: self.key, aggregate: self.aggregate, origin, drawn: self.drawn }
    }

    #[inline(always)]
    fn part(&mut self, part: u64) -> &mut Self {
        self.key = self.hasher.chain(self.key, part);
        self.aggregate = self.aggregate.map(|key| self.hasher.chain(key, part));
        self
    }
}

/// Scheme and credentials of an `Authorization`. Endpoints read the scheme in any case and skip
/// blanks after it (RFC 9110 §11.1, §11.4): every spelling is the same customer.
fn scheme(value: &[u8]) -> Option<(&[u8], &[u8])> {
    // As everybody writes it.
    if let Some(token) = value.strip_prefix(b"Bearer ")
        && let [b'!'..=u8::MAX, .., b'!'..=u8::MAX] | [b'!'..=u8::MAX] = token
    {
        return Some((b"Bearer", token));
    }
    let (scheme, credentials) = value.split_at(value.iter().position(|b| b" \t".contains(b))?);
    (!scheme.is_empty()).then(|| (scheme, credentials.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(&address.parse().unwrap())
    }

    fn client(hasher: &KeyHasher, address: &str, prefix: &AddressPrefix) -> Client {
        hasher.client(&origin(address), prefix)
    }

    #[test]
    fn addresses_of_one_prefix_are_one_client() {
        let hasher = KeyHasher::random();
        let of = |address| client(&hasher, address, &AddressPrefix::default());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("192.0.2.1").wide, None);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1").narrow, of("2001:db8:0:1::1").narrow);
        assert_eq!(of("2001:db8::1").wide, of("2001:db8:0:ffff::1").wide);
        assert_ne!(of("2001:db8::1").wide, of("2001:db8:1::1").wide);
        let wide = AddressPrefix { v4: 24, v6: 56, v6_aggregate: None };
        let of = |address| client(&hasher, address, &wide);
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:ff::1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:100::1"));
        assert_eq!(of("2001:db8::1").wide, None);
    }

    /// Cut by string as an independent reference.
    #[test]
    fn every_length_cuts_where_it_says() {
        let hasher = KeyHasher::random();
        for length in 16..=128u8 {
            let prefix = AddressPrefix { v4: 32, v6: length, v6_aggregate: None };
            let of = |bits: u128| {
                hasher.client(&Origin::of(&std::net::Ipv6Addr::from_bits(bits).into()), &prefix)
            };
            let base = 0x2001_0db8_5555_5555_5555_5555_5555_5555_u128;
            assert_ne!(of(base), of(base ^ 1 << (128 - length)), "the last bit of /{length}");
            if length < 128 {
                assert_eq!(of(base), of(base ^ 1 << (127 - length)), "the first after /{length}");
            }
        }
    }

    #[test]
    fn parts_cannot_be_confused() {
        let hasher = KeyHasher::random();
        let home = client(&hasher, "2001:db8::1", &AddressPrefix::default());
        let key = || hasher.key_of(0);
        let [a, c, ab, unnamed, authorization] =
            ["a", "c", "ab", "", "authorization"].map(|name| hasher.header_values(name));
        let cookie = hasher.cookie_values("a");
        let keys = [
            key().key,
            key().route().key,
            key().host("a").key,
            key().value(&a, b"b").key,
            key().value(&ab, b"").key,
            key().value(&unnamed, b"ab").key,
            key().value(&cookie, b"b").key,
            key().client(&home).key,
            key().client(&home).route().key,
            key().route().client(&home).key,
            key().value(&a, b"b").value(&c, b"d").key,
            key().value(&c, b"d").value(&a, b"b").key,
            key().value(&a, b"bcd").key,
            key().value(&a, b"b").host("cd").key,
            key().value(&a, b"Bearer x").key,
            key().value(&authorization, b"Bearer x").key,
            key().value(&authorization, b"Basic x").key,
            key().value(&authorization, b"Bearerx").key,
            key().value(&authorization, b"x").key,
            key().value(&authorization, b"Bearer ").key,
        ];
        let distinct: HashSet<u64> = keys.iter().copied().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn an_aggregate_is_the_same_key_of_a_wider_client() {
        let hasher = KeyHasher::random();
        let of = |address: &str| {
            let client = client(&hasher, address, &AddressPrefix::default());
            hasher.key_of(0).host("h").client(&client).route().asked(origin(address))
        };
        let (one, other) = (of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(one.key, other.key);
        assert_eq!(one.aggregate, other.aggregate);
        assert!(one.aggregate.is_some() && one.aggregate != Some(one.key));
        assert_eq!(of("192.0.2.1").aggregate, None);
        let drawn = hasher.key_of(0).value(&hasher.header_values("a"), b"b").asked(one.origin);
        assert_eq!((drawn.aggregate, drawn.drawn), (None, true));
        let client = hasher.client(&one.origin, &AddressPrefix::default());
        assert!(!hasher.key_of(0).client(&client).route().asked(one.origin).drawn);
    }

    #[test]
    fn a_credential_is_one_key_in_every_spelling() {
        let hasher = KeyHasher::random();
        let of = |name: &str, value: &str| {
            hasher.key_of(0).value(&hasher.header_values(name), value.as_bytes()).key
        };
        let usual = of("authorization", "Bearer x y");
        for other in ["bearer x y", "BEARER  x y", "Bearer\tx y", "Bearer x y ", "bearer \t x y\t"]
        {
            assert_eq!(of("authorization", other), usual, "{other:?}");
            assert_ne!(of("a", other), of("a", "Bearer x y"), "{other:?}");
        }
        assert_eq!(of("authorization", "Bearer x"), of("authorization", "bEARER x"));
        assert_ne!(of("authorization", "Bearer x"), of("authorization", "Basic x"));
    }

    #[test]
    fn processes_draw_their_own_key() {
        let key = || {
            let hasher = KeyHasher::random();
            hasher.key_of(0).value(&hasher.header_values("a"), b"b").key
        };
        assert_ne!(key(), key());
        assert_eq!(format!("{:?}", KeyHasher::random()), "KeyHasher");
    }

    proptest! {
        #[test]
        fn equal_parts_make_equal_keys(name in "[a-z]{1,8}", value: Vec<u8>, other: Vec<u8>) {
            let hasher = KeyHasher::with_key(1, 2);
            let of = |value: &[u8]| hasher.key_of(0).value(&hasher.header_values(&name), value).key;
            prop_assert_eq!(of(&value), of(&value.clone()));
            prop_assert_eq!(value == other, of(&value) == of(&other));
        }
    }
}
