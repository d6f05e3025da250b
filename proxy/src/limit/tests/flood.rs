//! Many addresses and many credentials: memory is bounded, and who is known notices nothing.

use super::*;

/// Scaled to what a debug build does in seconds: the whole of it (1,000,000 networks, 10,000,000
/// credentials, 100,000 keys) runs against the real process.
const KEYS: usize = 4_000;
const NETWORKS: u64 = 40_000;
const CREDENTIALS: u64 = 400_000;
const SECONDS: u64 = 180;

/// A good key at its full rate, one that comes back every minute, and a flood between them.
#[test]
fn a_flood_refuses_nobody_who_is_known() {
    let mut lab = Lab::new(KEYS);
    let mut limit = lab.limit(&spec(10, SECOND, 20));
    let (good, returning) = (u64::MAX, u64::MAX - 1);
    for _ in 0..2 {
        passed(ask(&limit, v4(1), good));
        passed(ask(&limit, v4(2), returning));
        lab.clock.advance(2 * SECOND);
    }
    let mut most = 0;
    let mut credential = 0;
    for second in 0..SECONDS {
        for tenth in 0..10 {
            for _ in 0..CREDENTIALS / SECONDS / 10 {
                credential += 1;
                ask(&limit, v6(credential * 7 % NETWORKS * 1000), credential);
            }
            passed(ask(&limit, v4(1), good));
            if second % 60 == 59 && tenth == 0 {
                passed(ask(&limit, v4(2), returning));
            }
            lab.clock.advance(Duration::from_millis(100));
            most = most.max(limit.keys());
        }
        lab.registry.sweep();
        if second % 50 == 0 {
            limit = lab.limit(&spec(10, SECOND, 20));
        }
    }
    assert!(most <= KEYS, "{most} keys");
    assert!(most > KEYS / 2, "{most} keys: no flood");
    assert!(limit.evicted().total() > 10_000, "{:?}", limit.evicted());
}

/// Buckets that fill again slowly cannot be evicted: the table stays full, new keys share.
#[test]
fn a_flood_that_fills_the_table_gets_no_free_pass() {
    const BURST: u64 = 3;
    let mut lab = Lab::new(KEYS);
    let limit = lab.limit(&by_address(spec(3, HOUR, 3)));
    let mut got = 0;
    for second in 0..60u64 {
        for n in 0..1_000u64 {
            let network = (second * 1_000 + n) % 20_000 * 65_536;
            got += u64::from(passes(&ask_address(&limit, v6(network))));
        }
        lab.clock.advance(SECOND);
        lab.registry.sweep();
    }
    assert_eq!(limit.keys(), KEYS);
    assert!(limit.overflow().total() > 40_000);
    // Each place and each bucket can have passed its burst, and what 60 s gave back.
    let shares = u64::try_from(KEYS + crate::limit::table::OVERFLOW_BUCKETS).unwrap();
    assert!(got <= shares * BURST, "{got}");
    assert!(got > u64::try_from(KEYS).unwrap(), "{got}");
}
