//! Behaviour over simulated time.

mod exact;
mod flood;
mod places;
mod reload;
mod streams;
mod sweep;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use config::model::{AddressPrefix, KeyPart, LimitKey, Missing, Rate, RateLimit};
use config::value::Name;

use super::clock::HandClock;
use super::{Key, Limit, LimitRegistry, Origin, Owner, Pass, Refuse, Verdict};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// By header: `rate` per `per`, `burst` at once.
fn spec(rate: u32, per: Duration, burst: u32) -> RateLimit {
    RateLimit {
        name: name("credential"),
        key: LimitKey(vec![vec![KeyPart::Header("authorization".into())]]),
        rate: Some(Rate { count: count(rate), per }),
        burst: count(burst),
        concurrent: None,
        missing: Missing::ClientIp,
        prefix: AddressPrefix::default(),
        exempt: Vec::new(),
        dry_run: false,
        status: 429,
        legacy_fields: false,
        announce: false,
    }
}

fn by_address(spec: RateLimit) -> RateLimit {
    RateLimit { key: LimitKey(vec![vec![KeyPart::ClientIp]]), ..spec }
}

/// A registry of its own, at a time of its own.
struct Lab {
    clock: HandClock,
    registry: LimitRegistry<HandClock>,
    keys: usize,
}

impl Lab {
    fn new(keys: usize) -> Lab {
        let clock = HandClock::default();
        Lab { registry: LimitRegistry::new(clock.clone()), clock, keys }
    }

    fn limit(&mut self, spec: &RateLimit) -> Limit<HandClock> {
        self.registry.limit(Owner::Route(name("proxy")), None, spec, self.keys)
    }
}

/// The credential of this number, from this address.
fn ask(limit: &Limit<HandClock>, address: IpAddr, credential: u64) -> Verdict {
    let values = limit.clients.hasher.header_values("authorization");
    let mut key = limit.key();
    check(limit, key.value(&values, &credential.to_le_bytes()), address)
}

fn ask_address(limit: &Limit<HandClock>, address: IpAddr) -> Verdict {
    check(limit, limit.key().client(&limit.client(&Origin::of(&address))), address)
}

fn check(limit: &Limit<HandClock>, key: &Key<'_>, address: IpAddr) -> Verdict {
    let nothing_to_say = Verdict::Pass(Pass { left: None, stream: None, would_refuse: None });
    limit.check(&key.asked(Origin::of(&address)), limit.now()).unwrap_or(nothing_to_say)
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// The /64 of this number.
fn v6(network: u64) -> IpAddr {
    Ipv6Addr::from_bits((0x2001_0db8_0000_0000_u128 + u128::from(network)) << 64 | 1).into()
}

fn passed(verdict: Verdict) -> Pass {
    match verdict {
        Verdict::Pass(pass) => pass,
        Verdict::Refuse(refuse) => panic!("refused: {refuse:?}"),
    }
}

fn refused(verdict: Verdict) -> Refuse {
    match verdict {
        Verdict::Refuse(refuse) => refuse,
        Verdict::Pass(pass) => panic!("passed: {pass:?}"),
    }
}

fn passes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Pass(_))
}
