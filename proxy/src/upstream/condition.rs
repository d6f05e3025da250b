//! Whether an endpoint can be used, and why not: what health checks say, what requests met, what
//! the operator wants. Atomics, because the control thread and every worker write.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::model::Ejection;

use super::endpoint::Member;
use super::passive::{EjectionGate, Passive, PassiveState};

/// The condition of one endpoint.
pub struct Condition {
    health: AtomicU8,
    drained: AtomicBool,
    gone: AtomicBool,
    /// Process milliseconds since which it takes traffic (again): slow start runs from here.
    since_ms: AtomicU64,
    passive: Passive,
    /// Why the last health check failed.
    error: ArcSwapOption<String>,
}

/// What health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nobody asks.
    Unchecked = 0,
    /// No verdict yet: used only while nothing better is there.
    Starting = 1,
    Healthy = 2,
    Unhealthy = 3,
}

/// What balancing makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    Yes,
    /// For one request, after an ejection.
    Trial,
    /// When there is nothing better.
    Starting,
    /// When there is nobody else at all.
    No,
    /// Drained or gone.
    Never,
}

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Healthy,
    Unchecked,
    Starting,
    Unhealthy,
    /// For this long from now.
    Ejected(Duration),
    /// The ejection is over, requests try it one by one.
    Trial,
    Drained,
    Gone,
}

impl Condition {
    pub fn new(now_ms: u64) -> Condition {
        Condition {
            health: AtomicU8::new(Health::Unchecked as u8),
            drained: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            since_ms: AtomicU64::new(now_ms),
            passive: Passive::default(),
            error: ArcSwapOption::empty(),
        }
    }

    pub fn usable(&self, now_ms: u64) -> Usable {
        if self.drained() || self.gone() {
            return Usable::Never;
        }
        match (self.health(), self.passive.state(now_ms)) {
            (Health::Unhealthy, _) | (_, PassiveState::Ejected { .. } | PassiveState::Trying) => {
                Usable::No
            }
            (Health::Starting, _) => Usable::Starting,
            (Health::Healthy | Health::Unchecked, PassiveState::Trial) => Usable::Trial,
            (Health::Healthy | Health::Unchecked, PassiveState::Passing) => Usable::Yes,
        }
    }

    /// The first of its reasons: the operator's, then the health check's, then the requests'.
    pub fn why(&self, now_ms: u64) -> Why {
        match (self.health(), self.passive.state(now_ms)) {
            _ if self.gone() => Why::Gone,
            _ if self.drained() => Why::Drained,
            (Health::Unhealthy, _) => Why::Unhealthy,
            (_, PassiveState::Ejected { until_ms }) => {
                Why::Ejected(Duration::from_millis(until_ms.saturating_sub(now_ms)))
            }
            (_, PassiveState::Trial | PassiveState::Trying) => Why::Trial,
            (Health::Starting, PassiveState::Passing) => Why::Starting,
            (Health::Healthy, PassiveState::Passing) => Why::Healthy,
            (Health::Unchecked, PassiveState::Passing) => Why::Unchecked,
        }
    }

    /// A request got an answer that is no failure. True: this was the trial that ends an ejection;
    /// the endpoint starts slowly.
    pub fn success(&self, now_ms: u64) -> bool {
        let back = self.passive.success(now_ms);
        if back {
            self.restart(now_ms);
        }
        back
    }

    /// A request failed (see [`Ejection::failures`]). `members`: the set in use now. Answers how
    /// long the endpoint is out if this failure ejected it. At most `max_share` percent of the
    /// members are out at once, rounded down, and somebody else can always be used.
    pub fn failure(
        &self,
        policy: &Ejection,
        now_ms: u64,
        gate: &EjectionGate,
        members: &[Member],
    ) -> Option<Duration> {
        let room = || {
            let others = || members.iter().map(|member| &member.endpoint.condition);
            let out = others().filter(|one| one.passive.out()).count();
            let most = members.len().saturating_mul(usize::from(policy.max_share)) / 100;
            let usable = |one: &Condition| one.usable(now_ms) == Usable::Yes;
            out < most && others().any(|one| !std::ptr::eq(one, self) && usable(one))
        };
        self.passive.failure(policy, now_ms, gate, room)
    }

    /// Takes the trial of an endpoint whose ejection is over; false: another request has it.
    pub fn claim_trial(&self, now_ms: u64) -> bool {
        self.passive.claim_trial(now_ms)
    }

    /// The trial ended without verdict.
    pub fn abandon(&self, now_ms: u64) {
        self.passive.abandon(now_ms);
    }

    /// Whether requests have put it out, on trial included.
    pub fn ejected(&self) -> bool {
        self.passive.out()
    }

    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Starting,
            2 => Health::Healthy,
            3 => Health::Unhealthy,
            _ => Health::Unchecked,
        }
    }

    /// The control thread's verdict; an endpoint that recovers starts slowly, and what requests
    /// met before does not count.
    pub fn set_health(&self, health: Health, now_ms: u64) {
        let former = self.health.swap(health as u8, Ordering::Relaxed);
        if health == Health::Healthy && former != Health::Healthy as u8 {
            if former == Health::Unhealthy as u8 {
                self.passive.reinstate(now_ms);
            }
            self.restart(now_ms);
        }
    }

    /// Why the last health check failed, for people; `None`: it did not.
    pub fn error(&self) -> Option<Arc<String>> {
        self.error.load_full()
    }

    pub fn set_error(&self, error: Option<String>) {
        self.error.store(error.map(Arc::new));
    }

    /// The operator takes it out, or back in.
    pub fn set_drained(&self, drained: bool, now_ms: u64) {
        if self.drained.swap(drained, Ordering::Relaxed) && !drained {
            self.restart(now_ms);
        }
    }

    pub fn drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// It is no member of its upstream any more (or is again): idle connections are closed.
    pub fn set_gone(&self, gone: bool, now_ms: u64) {
        if self.gone.swap(gone, Ordering::Relaxed) && !gone {
            self.restart(now_ms);
        }
    }

    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Slow start begins anew.
    pub fn restart(&self, now_ms: u64) {
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }
}

impl Why {
    /// For metrics and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Why::Healthy => "healthy",
            Why::Unchecked => "unchecked",
            Why::Starting => "starting",
            Why::Unhealthy => "unhealthy",
            Why::Ejected(_) => "ejected",
            Why::Trial => "trial",
            Why::Drained => "drained",
            Why::Gone => "gone",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Rounded up: "0 s" would look like the end of it.
            Why::Ejected(left) => write!(f, "ejected for {} s", left.as_millis().div_ceil(1000)),
            other => f.write_str(other.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::upstream::balance::Rng;
    use crate::upstream::balance::tests::{EJECTION, eject, members};

    const POLICY: Ejection = Ejection { max_share: 50, ..EJECTION };

    fn fail(members: &[Member], at: usize, gate: &EjectionGate, now_ms: u64) -> bool {
        members[at].endpoint.condition.failure(&POLICY, now_ms, gate, members).is_some()
    }

    fn out(members: &[Member]) -> usize {
        members.iter().filter(|member| member.endpoint.condition.ejected()).count()
    }

    #[test]
    fn at_most_the_share_is_out_rounded_down() {
        for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (10, 5)] {
            let (members, gate) = (members(&vec![1; count]), EjectionGate::default());
            let ejected = (0..count).filter(|at| fail(&members, *at, &gate, 0)).count();
            assert_eq!((ejected, out(&members)), (most, most));
        }
    }

    #[test]
    fn the_last_usable_one_stays() {
        let (members, gate) = (members(&[1; 4]), EjectionGate::default());
        members[1].endpoint.condition.set_health(Health::Unhealthy, 0);
        members[2].endpoint.condition.set_drained(true, 0);
        assert!(fail(&members, 0, &gate, 0));
        assert!(!fail(&members, 3, &gate, 0));
    }

    /// Who leaves the set takes its ejection along, who stays keeps it.
    #[test]
    fn the_share_is_of_the_present_members() {
        let (all, gate) = (members(&[1; 6]), EjectionGate::default());
        assert!((0..3).all(|at| fail(&all, at, &gate, 0)) && !fail(&all, 3, &gate, 0));
        assert!(!fail(&all[1..], 3, &gate, 0), "two of five");
        assert!(fail(&all[2..], 1, &gate, 0), "one of four");
    }

    #[test]
    fn a_trial_that_succeeds_starts_slowly() {
        let condition = Condition::new(0);
        eject(&condition, 1_000);
        assert_eq!(condition.usable(1_000), Usable::No);
        assert_eq!(condition.usable(11_000), Usable::Trial);
        assert!(condition.claim_trial(11_000));
        assert_eq!(condition.usable(11_000), Usable::No);
        assert!(condition.success(11_500));
        assert_eq!((condition.usable(11_500), condition.since_ms()), (Usable::Yes, 11_500));
        assert!(!condition.success(12_000));
        assert_eq!(condition.since_ms(), 11_500);
    }

    #[test]
    fn a_recovery_seen_by_health_checks_ends_an_ejection() {
        let condition = Condition::new(0);
        eject(&condition, 0);
        condition.set_health(Health::Healthy, 1);
        assert_eq!(condition.why(1).code(), "ejected", "it was not known to be down");
        condition.set_health(Health::Unhealthy, 2);
        condition.set_health(Health::Healthy, 3);
        assert_eq!(condition.why(3), Why::Healthy);
    }

    #[test]
    fn people_are_told_the_first_reason() {
        let condition = Condition::new(0);
        assert_eq!(condition.why(0).to_string(), "unchecked");
        condition.set_health(Health::Starting, 0);
        assert_eq!(condition.why(0).to_string(), "starting");
        eject(&condition, 0);
        assert_eq!(condition.why(1).to_string(), "ejected for 10 s");
        assert_eq!(condition.why(9_999).to_string(), "ejected for 1 s");
        assert_eq!(condition.why(10_000).to_string(), "trial");
        condition.set_health(Health::Unhealthy, 0);
        condition.set_error(Some("connection refused".to_owned()));
        assert_eq!(condition.why(0).to_string(), "unhealthy");
        assert_eq!(condition.error().as_deref().map(String::as_str), Some("connection refused"));
        condition.set_drained(true, 0);
        assert_eq!(condition.why(0).to_string(), "drained");
        condition.set_gone(true, 0);
        assert_eq!(condition.why(0).to_string(), "gone");
    }

    proptest! {
        /// Never more out than allowed, whatever happens to whom, and drained ones are never used.
        #[test]
        fn the_share_holds(
            count in 1usize..12, share in 0u8..=100,
            events in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8, 0u64..20_000), 0..300)
        ) {
            let policy = Ejection { max_share: share, ..POLICY };
            let (members, gate) = (members(&vec![1; count]), EjectionGate::default());
            let mut now_ms = 0;
            for (at, event, pause) in events {
                let condition = &at.get(&members).endpoint.condition;
                match event {
                    0 => { condition.success(now_ms); }
                    1 => { condition.claim_trial(now_ms); }
                    2 => condition.set_drained(!condition.drained(), now_ms),
                    3 => now_ms += pause,
                    _ => { condition.failure(&policy, now_ms, &gate, &members); }
                }
                prop_assert!(out(&members) <= count * usize::from(share) / 100);
                prop_assert!(out(&members) < count);
                prop_assert!(!condition.drained() || condition.usable(now_ms) == Usable::Never);
            }
        }
    }

    #[test]
    fn threads_never_eject_more_than_the_share() {
        let (members, gate) = (members(&[1; 9]), EjectionGate::default());
        let (clock_ms, ejections) = (AtomicU64::new(0), AtomicUsize::new(0));
        let work = |seed: u64| {
            let rng = Rng::new(seed);
            for _ in 0..20_000 {
                let condition = &members[rng.below(members.len())].endpoint.condition;
                let now_ms = clock_ms.fetch_add(100, Ordering::Relaxed);
                match rng.below(4) {
                    0 => drop(condition.success(now_ms)),
                    1 => drop(condition.claim_trial(now_ms)),
                    _ if condition.failure(&POLICY, now_ms, &gate, &members).is_some() => {
                        ejections.fetch_add(1, Ordering::Relaxed);
                        // Nobody else is ejected while the gate is held: these are out at once.
                        assert!(gate.closed(|| out(&members)) <= 4);
                    }
                    _ => {}
                }
            }
        };
        let work = &work;
        thread::scope(|scope| {
            (0..4).for_each(|seed| drop(scope.spawn(move || work(seed))));
        });
        assert!(ejections.into_inner() > 100, "there was something to decide");
    }
}
