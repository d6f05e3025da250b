//! What the policies promise, over random sets of endpoints.

mod choice;
mod hash;
mod load;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::model::{Balance, Ejection, HashKey};

use super::{Pick, Picked, Rng, Table};
use crate::upstream::condition::{Condition, Health};
use crate::upstream::endpoint::{Endpoint, Load, Member, Target};
use crate::upstream::keep_alive::KeepAlive;
use crate::upstream::passive::EjectionGate;

/// Process milliseconds at which the tests ask. Endpoints are as old.
pub const NOW: u64 = 1_000_000;

/// Members with ids from 1, at 192.0.2.0/24 (and above, for many), none of them busy.
pub fn members(weights: &[u32]) -> Vec<Member> {
    (1..).zip(weights).map(|(id, weight)| member(id, *weight)).collect()
}

fn member(id: u32, weight: u32) -> Member {
    let [_, _, high, low] = id.to_be_bytes();
    let address = SocketAddr::from(([192, 0, 2 + high, low], 8080));
    let endpoint = Endpoint {
        target: Target::Tcp(address),
        text: address.to_string().into(),
        host: address.ip().to_string().into(),
        id,
        condition: Condition::new(0),
        load: Load::default(),
        keep_alive: KeepAlive::default(),
    };
    Member { endpoint: Arc::new(endpoint), weight }
}

pub fn by_hash() -> Balance {
    Balance::Hash(HashKey::Path)
}

/// A question without anything special about it.
pub fn ask<'a>(members: &'a [Member], table: &'a Table, rng: &'a Rng) -> Pick<'a> {
    Pick {
        members,
        table,
        now_ms: NOW,
        slow_start_ms: 0,
        key: None,
        sticky: None,
        turn: 0,
        rng,
        tried: &[],
        limit: None,
    }
}

/// How often everybody is picked, over turns from `turns`.
pub fn counts(pick: &mut Pick<'_>, turns: std::ops::Range<usize>) -> Vec<usize> {
    let mut counts = vec![0; pick.members.len()];
    for turn in turns {
        pick.turn = turn;
        counts[position(pick.pick())] += 1;
    }
    counts
}

/// The position of a picked endpoint (ids start at 1).
pub fn position(picked: Picked<'_>) -> usize {
    picked.endpoint().expect("an endpoint").id as usize - 1
}

pub const EJECTION: Ejection = Ejection {
    failures: 1,
    time: Duration::from_secs(10),
    max_time: Duration::from_secs(300),
    max_share: 100,
};

/// Ejects for ten seconds, whoever else is out.
pub fn eject(condition: &Condition, now_ms: u64) {
    let others = members(&[1, 1]);
    let ejected = condition.failure(&EJECTION, now_ms, &EjectionGate::default(), &others);
    assert!(ejected.is_some());
}

pub fn fail_check(member: &Member) {
    member.endpoint.condition.set_health(Health::Unhealthy, 0);
}

/// Whether `count` of `total` is within four standard deviations of `share`.
pub fn near(count: usize, total: usize, share: f64) -> bool {
    let (count, total) = (count as f64, total as f64);
    (count - total * share).abs() <= 4.0 * (total * share * (1.0 - share)).sqrt() + 1.0
}
