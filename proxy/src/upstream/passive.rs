//! What requests met at an endpoint: failures in a row eject it for a growing, bounded time. Then
//! one request at a time is its trial.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use config::model::Ejection;

/// A trial without verdict is repeated after this time, in case nobody reports one.
const TRIAL_MS: u64 = 30_000;

/// What requests met, in one atomic: written by every worker.
#[derive(Default)]
pub struct Passive(AtomicU64);

/// Ejections of one upstream are decided one after the other, so that never too many endpoints
/// are out. Nobody waits: who finds it taken lets the next failure decide.
#[derive(Default)]
pub struct EjectionGate(AtomicBool);

/// Nobody else decides while this lives.
struct Deciding<'a>(&'a AtomicBool);

impl EjectionGate {
    fn try_enter(&self) -> Option<Deciding<'_>> {
        let entered =
            self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        entered.then(|| Deciding(&self.0))
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveState {
    Passing,
    /// Out until then, in process milliseconds.
    Ejected {
        until_ms: u64,
    },
    /// The ejection is over, one request may try.
    Trial,
    /// That request is under way.
    Trying,
}

#[cfg(test)]
impl EjectionGate {
    /// Looks while nobody is ejected.
    pub fn closed<T>(&self, look: impl FnOnce() -> T) -> T {
        loop {
            if let Some(_deciding) = self.try_enter() {
                return look();
            }
            std::hint::spin_loop();
        }
    }
}

impl Passive {
    pub fn state(&self, now_ms: u64) -> PassiveState {
        let word = self.word();
        match word.phase {
            Phase::Passing => PassiveState::Passing,
            Phase::Ejected if now_ms < word.time_ms => {
                PassiveState::Ejected { until_ms: word.time_ms }
            }
            Phase::Trying if now_ms < word.time_ms => PassiveState::Trying,
            Phase::Ejected | Phase::Trying => PassiveState::Trial,
        }
    }

    /// Out or on trial: counts for `max_share`.
    pub fn out(&self) -> bool {
        self.word().phase != Phase::Passing
    }

    /// A request got an answer that is no failure. True: this ends an ejection.
    pub fn success(&self, now_ms: u64) -> bool {
        if self.0.load(Ordering::Relaxed) & (PHASE_MASK | FAILURES_MASK) == 0 {
            return false;
        }
        let former = self.update(|word| match word.phase {
            Phase::Passing => Some(Word { failures: 0, ..word }),
            // Of a request that was sent before.
            Phase::Ejected if now_ms < word.time_ms => None,
            Phase::Ejected | Phase::Trying => Some(word.passing(now_ms)),
        });
        former.is_some_and(|word| word.phase != Phase::Passing)
    }

    /// Something better than a request knows that it is well: ends an ejection at once.
    pub fn reinstate(&self, now_ms: u64) {
        self.update(|word| (word.phase != Phase::Passing).then(|| word.passing(now_ms)));
    }

    /// A request failed. `room`: whether one more may be out; asked only when this failure would
    /// eject, behind the gate, and it may look at all endpoints. Answers how long the endpoint is
    /// out if this failure ejected it.
    pub fn failure(
        &self,
        policy: &Ejection,
        now_ms: u64,
        gate: &EjectionGate,
        room: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let threshold = policy.failures.clamp(1, u32::from(u16::MAX)) as u16;
        let former = self.update(|word| match word.phase {
            // Of a request that was sent before.
            Phase::Ejected => None,
            Phase::Trying => Some(word.ejected(policy, now_ms)),
            Phase::Passing if word.failures + 1 >= threshold => None,
            Phase::Passing => Some(Word { failures: word.failures + 1, ..word }),
        });
        match former {
            Some(word) if word.phase == Phase::Trying => Some(length(policy, word.times)),
            Some(_) => None,
            None => self.eject(policy, threshold, now_ms, gate, room),
        }
    }

    fn eject(
        &self,
        policy: &Ejection,
        threshold: u16,
        now_ms: u64,
        gate: &EjectionGate,
        room: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let due = |word: Word| word.phase == Phase::Passing && word.failures + 1 >= threshold;
        if !due(self.word()) {
            return None;
        }
        let _deciding = gate.try_enter()?;
        if !room() {
            // From the start, so that not every further failure looks at all endpoints.
            self.update(|word| due(word).then_some(Word { failures: 0, ..word }));
            return None;
        }
        let settled = |word: Word| word.settled(policy, now_ms);
        let former =
            self.update(|word| due(word).then(|| settled(word).ejected(policy, now_ms)))?;
        Some(length(policy, settled(former).times))
    }

    /// Takes the trial. False: another request has it, or there is none to take.
    pub fn claim_trial(&self, now_ms: u64) -> bool {
        let claimed = self.update(|word| {
            let due = word.phase != Phase::Passing && now_ms >= word.time_ms;
            due.then(|| word.at(Phase::Trying, now_ms.saturating_add(TRIAL_MS)))
        });
        claimed.is_some()
    }

    /// The trial ended without verdict (the client left, say): the next request may try.
    pub fn abandon(&self, now_ms: u64) {
        self.update(|word| (word.phase == Phase::Trying).then(|| word.at(Phase::Ejected, now_ms)));
    }

    fn word(&self) -> Word {
        Word::unpack(self.0.load(Ordering::Relaxed))
    }

    /// The word before the change; `None`: no change.
    fn update(&self, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let change = |former| change(Word::unpack(former)).map(Word::pack);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).ok().map(Word::unpack)
    }
}

/// An ejection after `times` in a row before it.
fn length(policy: &Ejection, times: u8) -> Duration {
    let factor = 1u32.checked_shl(u32::from(times)).unwrap_or(u32::MAX);
    policy.time.saturating_mul(factor).min(policy.max_time)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const PHASE_MASK: u64 = 0b11 << 62;
const TIME_BITS: u32 = 38;
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;
const FAILURES_MASK: u64 = 0xffff;

/// Two bits of phase, 38 of process milliseconds (eight years), 8 of ejections in a row, 16 of
/// failures in a row.
#[derive(Clone, Copy)]
struct Word {
    phase: Phase,
    /// Passing: since when, if it was ejected before. Ejected, trying: until when.
    time_ms: u64,
    times: u8,
    failures: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Passing,
    Ejected,
    Trying,
}

impl Word {
    fn unpack(word: u64) -> Word {
        let phase = match word >> 62 {
            0 => Phase::Passing,
            1 => Phase::Ejected,
            _ => Phase::Trying,
        };
        Word {
            phase,
            time_ms: word >> 24 & TIME_MAX,
            times: (word >> 16) as u8,
            failures: word as u16,
        }
    }

    fn pack(self) -> u64 {
        (self.phase as u64) << 62
            | self.time_ms.min(TIME_MAX) << 24
            | u64::from(self.times) << 16
            | u64::from(self.failures)
    }

    fn at(self, phase: Phase, time_ms: u64) -> Word {
        Word { phase, time_ms, ..self }
    }

    fn passing(self, now_ms: u64) -> Word {
        Word { failures: 0, ..self.at(Phase::Passing, now_ms) }
    }

    fn ejected(self, policy: &Ejection, now_ms: u64) -> Word {
        let until_ms = now_ms.saturating_add(milliseconds(length(policy, self.times)));
        Word {
            times: self.times.saturating_add(1),
            failures: 0,
            ..self.at(Phase::Ejected, until_ms)
        }
    }

    /// Forgets former ejections after a good spell as long as the last of them.
    fn settled(self, policy: &Ejection, now_ms: u64) -> Word {
        let spell = milliseconds(length(policy, self.times.saturating_sub(1)));
        let good = now_ms >= self.time_ms.saturating_add(spell);
        Word { times: if good { 0 } else { self.times }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Ejection = Ejection {
        failures: 3,
        time: Duration::from_secs(10),
        max_time: Duration::from_secs(60),
        max_share: 50,
    };

    fn fail(passive: &Passive, now_ms: u64) -> Option<Duration> {
        passive.failure(&POLICY, now_ms, &EjectionGate::default(), || true)
    }

    /// Fails until ejected.
    fn eject(passive: &Passive, now_ms: u64) -> Duration {
        (0..3).find_map(|_| fail(passive, now_ms)).expect("ejected")
    }

    #[test]
    fn failures_in_a_row_eject() {
        let passive = Passive::default();
        assert_eq!((fail(&passive, 0), fail(&passive, 0)), (None, None));
        assert!(!passive.success(1));
        assert_eq!((fail(&passive, 2), fail(&passive, 2)), (None, None));
        assert_eq!(fail(&passive, 3), Some(Duration::from_secs(10)));
        assert_eq!(passive.state(3), PassiveState::Ejected { until_ms: 10_003 });
        // Requests that were under way.
        assert_eq!((fail(&passive, 4), passive.success(4)), (None, false));
        assert_eq!(passive.state(10_002), PassiveState::Ejected { until_ms: 10_003 });
        assert_eq!(passive.state(10_003), PassiveState::Trial);
    }

    #[test]
    fn one_request_is_the_trial() {
        let passive = Passive::default();
        assert!(!passive.claim_trial(0));
        eject(&passive, 0);
        assert!(!passive.claim_trial(9_999));
        assert_eq!(fail(&passive, 10_000), None, "sent before the ejection");
        assert!(passive.claim_trial(10_000) && !passive.claim_trial(10_000));
        assert_eq!(passive.state(10_000), PassiveState::Trying);
        passive.abandon(10_001);
        assert!(passive.claim_trial(10_001));
        assert!(!passive.claim_trial(40_000) && passive.claim_trial(40_001), "never reported");
        assert!(passive.success(40_002) && !passive.success(40_002));
        assert_eq!(passive.state(40_002), PassiveState::Passing);
        passive.abandon(40_003);
        assert!(!passive.out());
    }

    #[test]
    fn ejections_grow_to_a_bound_and_shrink_after_a_good_spell() {
        let (passive, mut now_ms) = (Passive::default(), 0);
        let mut times = vec![eject(&passive, now_ms).as_secs()];
        for _ in 0..300 {
            now_ms += times.last().expect("one") * 1000;
            assert!(passive.claim_trial(now_ms));
            times.push(fail(&passive, now_ms).expect("the trial failed").as_secs());
        }
        assert_eq!(times[..5], [10, 20, 40, 60, 60]);
        assert!(times[5..].iter().all(|time| *time == 60));
        now_ms += 60_000;
        assert!(passive.claim_trial(now_ms) && passive.success(now_ms));
        assert_eq!(eject(&passive, now_ms + 59_999).as_secs(), 60, "good for too short a time");
        now_ms += 59_999 + 60_000;
        assert!(passive.claim_trial(now_ms) && passive.success(now_ms));
        assert_eq!(eject(&passive, now_ms + 60_000).as_secs(), 10);
    }

    #[test]
    fn without_room_it_stays_and_the_count_starts_again() {
        let (passive, gate) = (Passive::default(), EjectionGate::default());
        let asked = std::cell::Cell::new(0);
        let fail = || {
            passive.failure(&POLICY, 0, &gate, || {
                asked.set(asked.get() + 1);
                false
            })
        };
        assert!((0..9).all(|_| fail().is_none()));
        assert_eq!(asked.get(), 3);
        assert!(!passive.out());
    }

    #[test]
    fn a_taken_gate_leaves_the_decision_to_the_next_failure() {
        let (passive, gate) = (Passive::default(), EjectionGate::default());
        let fail = || passive.failure(&POLICY, 0, &gate, || true);
        {
            let _taken = gate.try_enter();
            assert!((0..9).all(|_| fail().is_none()));
        }
        assert!(fail().is_some());
    }

    #[test]
    fn reinstating_ends_an_ejection_at_once() {
        let passive = Passive::default();
        eject(&passive, 0);
        passive.reinstate(1);
        assert_eq!(passive.state(1), PassiveState::Passing);
        assert_eq!(eject(&passive, 2).as_secs(), 20, "no good spell yet");
    }

    proptest! {
        /// Whatever happens: no ejection is shorter than the first or longer than the longest, and
        /// an endpoint that always succeeds from some time on is back then.
        #[test]
        fn ejections_are_bounded(events in prop::collection::vec((0u64..30_000, 0u8..4), 0..200)) {
            let (passive, mut now_ms) = (Passive::default(), 0);
            for (pause, event) in events {
                now_ms += pause;
                let ejected = match event {
                    0 => { passive.success(now_ms); None }
                    1 => { passive.claim_trial(now_ms); None }
                    _ => fail(&passive, now_ms),
                };
                if let Some(time) = ejected {
                    prop_assert!(time >= POLICY.time && time <= POLICY.max_time);
                    let until_ms = now_ms + time.as_millis() as u64;
                    prop_assert_eq!(passive.state(now_ms), PassiveState::Ejected { until_ms });
                }
            }
            now_ms += 60_000;
            passive.success(now_ms);
            prop_assert_eq!(passive.state(now_ms), PassiveState::Passing);
        }

        #[test]
        fn words_keep_what_they_hold(phase in 0u64..3, time_ms in 0..=TIME_MAX, times: u8, failures: u16) {
            let word = phase << 62 | time_ms << 24 | u64::from(times) << 16 | u64::from(failures);
            let unpacked = Word::unpack(word);
            prop_assert_eq!(unpacked.pack(), word);
            prop_assert_eq!((unpacked.time_ms, unpacked.times), (time_ms, times));
            prop_assert_eq!((unpacked.phase as u64, unpacked.failures), (phase, failures));
        }
    }
}
