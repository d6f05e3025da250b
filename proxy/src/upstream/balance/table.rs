//! What is computed once per set of endpoints, on the control thread.

use config::model::Balance;

use super::rng::{Rng, mix, scale};
use super::sticky::ID_LEN;
use super::{maglev, schedule, sticky};
use crate::upstream::endpoint::Member;

/// [`Balance`] without what keys are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Hash,
}

/// Belongs to exactly the members it was made for. Equal weights cost nothing; others up to
/// 256 KiB and 4 bytes a member, `hash` 256 KiB to 4 MiB, sticky ids 20 bytes a member.
#[derive(Default)]
pub struct Table {
    pub(super) policy: Policy,
    /// Turns by weight; empty: everybody in turn.
    schedule: Box<[u32]>,
    maglev: Box<[u32]>,
    sticky: Box<[([u8; ID_LEN], u32)]>,
}

impl Table {
    /// `sticky`: the upstream's name when a sticky cookie is configured.
    pub fn new(balance: &Balance, sticky: Option<&str>, members: &[Member]) -> Table {
        let policy = match balance {
            Balance::RoundRobin => Policy::RoundRobin,
            Balance::LeastRequest => Policy::LeastRequest,
            Balance::PeakEwma => Policy::PeakEwma,
            Balance::Hash(_) => Policy::Hash,
        };
        let hashed = policy == Policy::Hash;
        Table {
            policy,
            schedule: schedule::schedule(members),
            maglev: if hashed { maglev::table(members) } else { Box::default() },
            sticky: sticky.map(|name| sticky::ids(name, members)).unwrap_or_default(),
        }
    }

    /// The position of the member a sticky cookie names, for [`super::Pick::sticky`].
    pub fn by_sticky(&self, id: &[u8]) -> Option<usize> {
        sticky::find(&self.sticky, id)
    }

    /// Whether all `members` have the same weight.
    pub(super) fn equal(&self) -> bool {
        self.schedule.is_empty()
    }

    /// Whose turn it is.
    pub(super) fn nth(&self, turn: usize, members: usize) -> usize {
        match self.schedule.len() {
            0 => turn.checked_rem(members).unwrap_or(0),
            len => self.schedule.get(turn % len).map_or(0, |at| *at as usize),
        }
    }

    /// Drawn by weight.
    pub(super) fn draw(&self, rng: &Rng, members: usize) -> usize {
        match self.schedule.len() {
            0 => rng.below(members),
            len => self.schedule.get(rng.below(len)).map_or(0, |at| *at as usize),
        }
    }

    /// Whose a key is: the owner first, then others, drawn by the key. (Not the places that
    /// follow: the same two endpoints stand side by side again and again.)
    pub(super) fn owners(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let draws = std::iter::successors(Some(key), |key| Some(mix(*key)));
        draws.map_while(|key| self.maglev.get(scale(key, self.maglev.len())).map(|at| *at as usize))
    }
}
