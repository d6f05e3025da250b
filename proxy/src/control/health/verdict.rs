//! Answers to health checks to a verdict. Pure: time is handed in.
//!
//! A new endpoint is [`Health::Starting`] until its first verdict. Its first good answer makes it
//! healthy at once, whatever `rise` says: it has failed nothing yet. `fall` bad ones in a row make
//! it unhealthy, but not before `start_period` has passed. From then on `fall` bad answers in a row
//! make a healthy endpoint unhealthy and `rise` good ones an unhealthy one healthy.

use config::model::HealthCheck;

use crate::upstream::condition::Health;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// At least 1 each.
    pub rise: u32,
    pub fall: u32,
    pub start_period_ms: u64,
}

#[derive(Clone, Debug)]
pub struct Verdict {
    health: Health,
    /// Answers in a row: good ones if positive, bad ones if negative.
    run: i64,
    /// Process milliseconds.
    started_ms: u64,
}

impl Rules {
    pub fn of(check: &HealthCheck) -> Rules {
        Rules {
            rise: check.rise.max(1),
            fall: check.fall.max(1),
            start_period_ms: u64::try_from(check.start_period.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Verdict {
    pub fn new(now_ms: u64) -> Verdict {
        Verdict { health: Health::Starting, run: 0, started_ms: now_ms }
    }

    /// Answers in a row that were like the last one.
    pub fn in_a_row(&self) -> u64 {
        self.run.unsigned_abs()
    }

    /// Takes an answer in; tells the new verdict where it is another one.
    pub fn answer(&mut self, good: bool, rules: Rules, now_ms: u64) -> Option<Health> {
        self.run = match good {
            true => self.run.max(0).saturating_add(1),
            false => self.run.min(0).saturating_sub(1),
        };
        let (enough_good, enough_bad) =
            (self.run >= i64::from(rules.rise), self.run <= -i64::from(rules.fall));
        let may_fall = now_ms.saturating_sub(self.started_ms) >= rules.start_period_ms;
        let health = match self.health {
            Health::Unhealthy if enough_good => Health::Healthy,
            Health::Healthy if enough_bad => Health::Unhealthy,
            Health::Starting | Health::Unchecked if good => Health::Healthy,
            Health::Starting | Health::Unchecked if enough_bad && may_fall => Health::Unhealthy,
            same => same,
        };
        let changed = health != self.health;
        self.health = health;
        changed.then_some(health)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(rules: Rules, answers: &str) -> String {
        let mut verdict = Verdict::new(0);
        let letter = |(second, answer): (u64, char)| {
            let _ = verdict.answer(answer == '+', rules, second * 1000);
            match verdict.health {
                Health::Healthy => 'h',
                Health::Unhealthy => 'u',
                Health::Starting => 's',
                Health::Unchecked => '?',
            }
        };
        (0..).zip(answers.chars()).map(letter).collect()
    }

    fn rules(rise: u32, fall: u32, start_period_s: u64) -> Rules {
        Rules { rise, fall, start_period_ms: start_period_s * 1000 }
    }

    #[test]
    fn one_good_answer_is_enough_for_a_new_endpoint() {
        assert_eq!(run(rules(3, 3, 0), "+"), "h");
        assert_eq!(run(rules(3, 3, 0), "--+"), "ssh");
    }

    #[test]
    fn rise_and_fall_count_answers_in_a_row() {
        assert_eq!(run(rules(1, 3, 0), "+--+---+"), "hhhhhhuh");
        assert_eq!(run(rules(2, 2, 0), "+--+-++-+--"), "hhuuuuhhhhu");
        assert_eq!(run(rules(1, 1, 0), "-+-+"), "uhuh");
    }

    #[test]
    fn an_endpoint_has_its_start_period() {
        assert_eq!(run(rules(1, 3, 0), "---"), "ssu");
        // The third answer would have been enough; the sixth second is the first after it.
        assert_eq!(run(rules(1, 3, 5), "------"), "sssssu");
        // Once healthy it has had its time.
        assert_eq!(run(rules(1, 2, 9), "-+--"), "shhu");
    }

    proptest! {
        /// Against a plain reading of the rules over the whole history.
        #[test]
        fn as_documented(
            rise in 1u32..4, fall in 1u32..4, period in 0u64..8,
            answers in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let rules = rules(rise, fall, period);
            let mut verdict = Verdict::new(0);
            let (mut told, mut seen) = (Health::Starting, Vec::new());
            for (second, good) in (0u64..).zip(answers) {
                seen.push(good);
                let change = verdict.answer(good, rules, second * 1000);
                let last = |n: u32, good: bool| {
                    let n = n as usize;
                    seen.len() >= n && seen[seen.len() - n..].iter().all(|one| *one == good)
                };
                let expected = match told {
                    Health::Starting if good => Health::Healthy,
                    Health::Starting if second >= period && last(fall, false) => Health::Unhealthy,
                    Health::Healthy if last(fall, false) => Health::Unhealthy,
                    Health::Unhealthy if last(rise, true) => Health::Healthy,
                    same => same,
                };
                prop_assert_eq!(verdict.health, expected);
                prop_assert_eq!(change, (expected != told).then_some(expected));
                told = expected;
            }
        }
    }
}
