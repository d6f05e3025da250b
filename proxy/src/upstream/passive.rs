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
        entered.then_some(Deciding(&self.0))
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
