//! One request asks for an endpoint. Without allocation; in constant time while a fair part of
//! the endpoints can be used, else in one walk over all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rng::{Rng, mix, unit};
use super::siphash;
use super::table::{Policy, Table};
use super::two;
use crate::upstream::condition::Usable;
use crate::upstream::endpoint::{Endpoint, Member};

/// Draws before all are looked at: as many as there are members, within these bounds.
const MIN_DRAWS: usize = 8;
const MAX_DRAWS: usize = 64;
/// Draws for the second of two.
const SECOND_DRAWS: usize = 4;
/// Share at the beginning of a slow start.
const LEAST_SHARE: f64 = 0.1;

/// What is asked.
pub struct Pick<'a> {
    pub members: &'a [Member],
    /// Made for `members`.
    pub table: &'a Table,
    pub now_ms: u64,
    /// Zero: no slow start.
    pub slow_start_ms: u64,
    /// For `hash`; `None`: balanced in turn.
    pub key: Option<u64>,
    /// From [`Table::by_sticky`]: this one if it can be used and was not tried. At its limit it is
    /// waited for: somewhere else the session would be lost.
    pub sticky: Option<usize>,
    /// Drawn once per request from the cursor that all workers share.
    pub turn: usize,
    pub rng: &'a Rng,
    /// Ids of the endpoints that this request has been to.
    pub tried: &'a [u32],
    /// Requests under way at one endpoint. Only a hint here: who takes the place must count.
    pub limit: Option<usize>,
}

/// What is answered.
#[derive(Clone, Copy)]
pub enum Picked<'a> {
    Endpoint(&'a Arc<Endpoint>),
    /// It was ejected and this request is its trial: `Condition::success` or `failure` must
    /// follow, or `Condition::abandon` without a verdict.
    Trial(&'a Arc<Endpoint>),
    /// Nobody is healthy: all but drained ones are used.
    Panic(&'a Arc<Endpoint>),
    /// All that could be used are at their limits.
    AtLimit,
    /// Nobody is left to try, or there is nobody at all.
    None,
}

impl<'a> Picked<'a> {
    pub fn endpoint(self) -> Option<&'a Arc<Endpoint>> {
        match self {
            Picked::Endpoint(one) | Picked::Trial(one) | Picked::Panic(one) => Some(one),
            Picked::AtLimit | Picked::None => None,
        }
    }
}

impl<'a> Pick<'a> {
    pub fn pick(&self) -> Picked<'a> {
        if let Some(picked) = self.sticky.and_then(|at| self.stay(at)) {
            return picked;
        }
        let found = match (self.table.policy, self.key) {
            (Policy::Hash, Some(key)) => self.owner(key),
            (Policy::RoundRobin | Policy::Hash, _) => self.in_turn(),
            (Policy::LeastRequest, _) => self.better(two::less_busy),
            (Policy::PeakEwma, _) => self.better(|a, b| two::faster(a, b, self.now_ms)),
        };
        found
            .and_then(|member| self.claim(member))
            .or_else(|| self.any(true))
            .or_else(|| self.any(false))
            .unwrap_or(Picked::None)
    }

    fn stay(&self, at: usize) -> Option<Picked<'a>> {
        let member = self.members.get(at)?;
        if !matches!(self.usable(member), Usable::Yes | Usable::Trial) || self.tried(member) {
            return None;
        }
        if self.full(member) { Some(Picked::AtLimit) } else { self.claim(member) }
    }

    fn owner(&self, key: u64) -> Option<&'a Member> {
        let owners = self.table.owners(key).take(MAX_DRAWS);
        owners.filter_map(|at| self.members.get(at)).find(|member| self.accepts(member))
    }

    fn in_turn(&self) -> Option<&'a Member> {
        let member = self.members.get(self.table.nth(self.turn, self.members.len()))?;
        // Not the next in turn: it would get the share of both.
        if self.accepts(member) { Some(member) } else { self.draw().map(|(_, member)| member) }
    }

    /// The better of two. `second_wins` says whether the second is.
    fn better(&self, second_wins: impl Fn(&Member, &Member) -> bool) -> Option<&'a Member> {
        let (at, first) = self.draw()?;
        let second = (0..SECOND_DRAWS)
            .filter_map(|_| self.members.get(self.draw_other(at)))
            .find(|second| !std::ptr::eq(*second, first) && self.accepts(second));
        match second {
            Some(second) if second_wins(first, second) => Some(second),
            _ => Some(first),
        }
    }

    fn draw(&self) -> Option<(usize, &'a Member)> {
        let len = self.members.len();
        (0..len.clamp(MIN_DRAWS, MAX_DRAWS))
            .filter_map(|_| {
                let at = self.table.draw(self.rng, len);
                self.members.get(at).map(|member| (at, member))
            })
            .find(|(_, member)| self.accepts(member))
    }

    /// Drawn by weight; with equal weights never the same again.
    fn draw_other(&self, first: usize) -> usize {
        let len = self.members.len();
        if self.table.equal() && len > 1 {
            return (first + 1 + self.rng.below(len - 1)) % len;
        }
        self.table.draw(self.rng, len)
    }

    fn accepts(&self, member: &Member) -> bool {
        matches!(self.usable(member), Usable::Yes | Usable::Trial)
            && !self.full(member)
            && !self.tried(member)
            && self.ready(member)
    }

    fn usable(&self, member: &Member) -> Usable {
        member.endpoint.condition.usable(self.now_ms)
    }

    fn full(&self, member: &Member) -> bool {
        self.limit.is_some_and(|max| member.endpoint.load.requests.load(Ordering::Relaxed) >= max)
    }

    fn tried(&self, member: &Member) -> bool {
        self.tried.contains(&member.endpoint.id)
    }

    /// A slow start lets through as much as its share. With a key it is always the same keys, more
    /// and more of them.
    fn ready(&self, member: &Member) -> bool {
        let share = self.share(member);
        share >= 1.0 || share >= self.key.map_or_else(|| self.rng.unit(), |key| unit(mix(!key)))
    }

    /// Of its weight: 0.1 to 1.
    fn share(&self, member: &Member) -> f64 {
        if self.slow_start_ms == 0 {
            return 1.0;
        }
        let age = self.now_ms.saturating_sub(member.endpoint.condition.since_ms());
        if age >= self.slow_start_ms {
            return 1.0;
        }
        LEAST_SHARE + (1.0 - LEAST_SHARE) * age as f64 / self.slow_start_ms as f64
    }

    /// `None`: it is on trial and another request was faster.
    fn claim(&self, member: &'a Member) -> Option<Picked<'a>> {
        let condition = &member.endpoint.condition;
        if condition.usable(self.now_ms) != Usable::Trial {
            return Some(Picked::Endpoint(&member.endpoint));
        }
        condition.claim_trial(self.now_ms).then_some(Picked::Trial(&member.endpoint))
    }

    /// Looks at all. `None`: only when `trials` and another request was faster.
    fn any(&self, trials: bool) -> Option<Picked<'a>> {
        let mut classes = [Class::default(), Class::default(), Class::default()];
        for member in self.members {
            let [good, starting, bad] = &mut classes;
            let class = match self.usable(member) {
                Usable::Yes => good,
                Usable::Trial if trials => good,
                Usable::Starting => starting,
                Usable::Trial | Usable::No => bad,
                Usable::Never => continue,
            };
            class.present = true;
            if self.tried(member) {
                continue;
            }
            if self.full(member) {
                class.full = true;
            } else {
                class.enter(member, self.lot(member));
            }
        }
        let [good, starting, bad] = classes;
        for class in [&good, &starting] {
            match class.first {
                Some((_, member)) => return self.claim(member),
                None if class.full => return Some(Picked::AtLimit),
                None => {}
            }
        }
        if good.present || starting.present {
            return Some(Picked::None);
        }
        Some(match bad.first {
            Some((_, member)) => Picked::Panic(&member.endpoint),
            None if bad.full => Picked::AtLimit,
            None => Picked::None,
        })
    }

    /// The least lot wins: exponentially distributed with the share as its rate, so that everybody
    /// wins as often as its share says. With a key everybody draws the same lot again.
    fn lot(&self, member: &Member) -> f64 {
        let drawn = match self.key {
            Some(key) => unit(mix(key ^ siphash::key(member.endpoint.text.as_bytes()))),
            None => self.rng.unit(),
        };
        -drawn.ln() / (f64::from(member.weight.max(1)) * self.share(member))
    }
}

/// Members of one kind, while all are looked at.
#[derive(Default)]
struct Class<'a> {
    /// With the least lot.
    first: Option<(f64, &'a Member)>,
    /// There is one, tried or not.
    present: bool,
    /// One that was not tried is at its limit.
    full: bool,
}

impl<'a> Class<'a> {
    fn enter(&mut self, member: &'a Member, lot: f64) {
        if self.first.is_none_or(|(least, _)| lot < least) {
            self.first = Some((lot, member));
        }
    }
}
