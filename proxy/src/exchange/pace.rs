//! Byte pacing, the pure core: how many bytes may pass now, and whose turn it is. Time comes in as
//! worker milliseconds, which move on once per timer tick.

use std::collections::VecDeque;

/// Less is not worth a write, and small frames are held against us by HTTP/2 peers: who may pass
/// less waits for more.
const PIECE: u64 = 512;
/// What may pass at once after a silence, as time at the rate.
const BURST_MS: u64 = 100;
/// And at least.
const LEAST_BURST: u64 = 1024;
/// Beyond, a rate is no limit, and its thousandths still fit a counter.
const MOST_RATE: u64 = 1 << 50;

/// A rate that several messages share. All that wait are served in the order in which they began
/// to, each as much as the others.
#[derive(Debug)]
pub struct Pacer {
    /// Bytes per second.
    rate: u64,
    /// Thousandths of bytes that may pass; below zero after more has passed than was asked for.
    level: i64,
    at_ms: u64,
    /// Tickets of the messages that are held, oldest first.
    queue: VecDeque<u64>,
    next: u64,
    /// Holders of older tickets are called at this tick.
    called: u64,
    /// What each of those may pass.
    share: u64,
}

/// What a pacer knows of one message.
#[derive(Debug, Default)]
pub struct Turn {
    ticket: Option<u64>,
    /// What it may pass still, at `at_ms`.
    left: u64,
    at_ms: u64,
}

impl Pacer {
    /// `rate`: bytes per second.
    pub fn new(rate: u64, now_ms: u64) -> Pacer {
        let rate = rate.clamp(1, MOST_RATE);
        Pacer {
            rate,
            level: thousandths(burst(rate)),
            at_ms: now_ms,
            queue: VecDeque::new(),
            next: 1,
            called: 0,
            share: 0,
        }
    }

    pub fn set_rate(&mut self, rate: u64, now_ms: u64) {
        self.refill(now_ms);
        self.rate = rate.clamp(1, MOST_RATE);
        self.level = self.level.min(thousandths(burst(self.rate)));
    }

    /// How many bytes of this message may pass now. 0: it is held, and must ask at the next tick.
    pub fn ask(&mut self, turn: &mut Turn, now_ms: u64) -> u64 {
        self.refill(now_ms);
        if turn.left == 0 || turn.at_ms != now_ms {
            turn.left = self.grant(turn);
            turn.at_ms = now_ms;
        }
        turn.left = turn.left.min(self.whole());
        if turn.left == 0 && self.place(turn).is_none() {
            turn.ticket = Some(self.next);
            self.queue.push_back(self.next);
            self.next += 1;
        }
        turn.left
    }

    /// So many have passed. More than was granted is made up for by waiting.
    pub fn pass(&mut self, turn: &mut Turn, bytes: u64) {
        turn.left = turn.left.saturating_sub(bytes);
        self.level = self.level.saturating_sub(thousandths(bytes));
    }

    /// The message is over.
    pub fn leave(&mut self, turn: &mut Turn) {
        if let Some(place) = self.place(turn) {
            self.queue.remove(place);
        }
        turn.ticket = None;
    }

    /// Nothing distinguishes it from a new one.
    pub fn rested(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        self.queue.is_empty() && self.level == thousandths(burst(self.rate))
    }

    fn grant(&mut self, turn: &mut Turn) -> u64 {
        match self.place(turn) {
            Some(place) if self.queue.get(place).is_some_and(|ticket| *ticket < self.called) => {
                self.queue.remove(place);
                turn.ticket = None;
                self.share
            }
            Some(_) => 0,
            None if self.queue.is_empty() && self.whole() >= PIECE => self.whole(),
            None => 0,
        }
    }

    fn place(&self, turn: &Turn) -> Option<usize> {
        turn.ticket.and_then(|ticket| self.queue.binary_search(&ticket).ok())
    }

    fn whole(&self) -> u64 {
        u64::try_from(self.level / 1000).unwrap_or(0)
    }

    /// At a new tick: adds what is due, and calls those who wait.
    fn refill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        if elapsed == 0 {
            return;
        }
        self.at_ms = now_ms;
        // Bytes per second, times milliseconds.
        let due = i64::try_from(self.rate.saturating_mul(elapsed)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(due).min(thousandths(burst(self.rate)));
        // Who was called and did not come is not waited for.
        while self.queue.front().is_some_and(|ticket| *ticket < self.called) {
            self.queue.pop_front();
        }
        let waiting = self.queue.len() as u64;
        self.share = self.whole().checked_div(waiting).unwrap_or(0).max(PIECE);
        let places = usize::try_from(self.whole() / self.share).unwrap_or(usize::MAX);
        self.called = self.queue.get(places).copied().unwrap_or(self.next);
    }
}

fn burst(rate: u64) -> u64 {
    (rate * BURST_MS / 1000).max(LEAST_BURST)
}

fn thousandths(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK_MS: u64 = 50;

    /// What passes of messages that always want more, one tick after the other, each piece as
    /// (time, message, bytes). `order` tells who asks first.
    fn pieces(rate: u64, messages: usize, ticks: u64, order: &[usize]) -> Vec<(u64, usize, u64)> {
        let mut pacer = Pacer::new(rate, 1000);
        let mut turns: Vec<Turn> = (0..messages).map(|_| Turn::default()).collect();
        let mut passed = Vec::new();
        for tick in 0..ticks {
            let now_ms = 1000 + tick * TICK_MS;
            for at in 0..messages {
                let who = order.get(at).copied().unwrap_or(at) % messages;
                loop {
                    let room = pacer.ask(&mut turns[who], now_ms);
                    if room == 0 {
                        break;
                    }
                    pacer.pass(&mut turns[who], room);
                    passed.push((now_ms, who, room));
                }
            }
        }
        passed
    }

    fn total(pieces: &[(u64, usize, u64)], who: usize) -> u64 {
        pieces.iter().filter(|piece| piece.1 == who).map(|piece| piece.2).sum()
    }

    #[test]
    fn one_message_gets_the_rate() {
        for rate in [1024, 3000, 10_000, 1 << 20, 1 << 30] {
            let got = total(&pieces(rate, 1, 20 * 60 + 1, &[]), 0);
            let most = rate * 60 + burst(rate);
            assert!(got <= most && got + PIECE >= rate * 60, "{got} of {rate}/s in a minute");
        }
    }

    #[test]
    fn a_burst_is_a_tenth_of_a_second() {
        for (rate, most) in
            [(1024, 1024), (10_240, 1024), (20_480, 2048), (1 << 20, (1 << 20) / 10)]
        {
            let mut pacer = Pacer::new(rate, 0);
            let mut turn = Turn::default();
            assert_eq!(pacer.ask(&mut turn, 0), most);
            pacer.pass(&mut turn, most);
            assert_eq!(pacer.ask(&mut turn, 0), 0);
            assert!(!pacer.rested(0));
            // A day of silence saves no more up than that.
            assert_eq!(pacer.ask(&mut turn, 86_400_000), most);
        }
    }

    #[test]
    fn messages_share_whoever_asks_first() {
        for (rate, messages) in [(1 << 20, 2), (1 << 20, 7), (4096, 3), (1024, 100)] {
            let passed = pieces(rate, messages, 20 * 600, &[]);
            let each: Vec<u64> = (0..messages).map(|who| total(&passed, who)).collect();
            let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
            assert!(most - least <= burst(rate) + 2 * PIECE, "{messages} at {rate}/s: {each:?}");
            let due = rate * 600;
            let all: u64 = each.iter().sum();
            assert!(all + burst(rate) >= due, "{all} of {due} at {rate}/s by {messages}");
        }
    }

    /// One that is silent, or gone, does not keep its share from the others.
    #[test]
    fn nobody_waits_for_the_absent() {
        let mut pacer = Pacer::new(100_000, 0);
        let (mut busy, mut silent, mut gone) = Default::default();
        let first = pacer.ask(&mut busy, 0);
        pacer.pass(&mut busy, first);
        for turn in [&mut busy, &mut silent, &mut gone] {
            assert_eq!(pacer.ask(turn, 0), 0);
        }
        pacer.leave(&mut gone);
        let mut passed = 0;
        for now_ms in (50..=10_000).step_by(50) {
            while let room @ 1.. = pacer.ask(&mut busy, now_ms) {
                pacer.pass(&mut busy, room);
                passed += room;
            }
        }
        assert!(passed > 980_000, "{passed} bytes in 10 s");
        assert_eq!(pacer.ask(&mut silent, 10_000), 0);
        let share = pacer.ask(&mut silent, 10_050);
        assert!(share >= 2500, "a share of two is {share}");
    }

    #[test]
    fn what_passed_unasked_is_waited_for() {
        let mut pacer = Pacer::new(10_000, 0);
        let mut turn = Turn::default();
        pacer.pass(&mut turn, 1024 + 10_000);
        let early = (0..=1000).step_by(50).filter(|now| pacer.ask(&mut turn, *now) > 0).count();
        assert_eq!(early, 0);
        assert!(pacer.ask(&mut turn, 1100) > 0);
    }

    #[test]
    fn a_new_rate_holds_from_now_on() {
        let mut pacer = Pacer::new(1 << 20, 0);
        pacer.set_rate(20_480, 0);
        let mut turn = Turn::default();
        assert_eq!(pacer.ask(&mut turn, 0), 2048);
        pacer.pass(&mut turn, 2048);
        pacer.set_rate(1 << 20, 0);
        assert_eq!(pacer.ask(&mut turn, 0), 0);
        assert_eq!(pacer.ask(&mut turn, 50), (1 << 20) / 20);
    }

    #[test]
    fn any_rate_and_any_time_are_counted() {
        for rate in [0, 1, u64::MAX] {
            let mut pacer = Pacer::new(rate, 0);
            let mut turn = Turn::default();
            pacer.pass(&mut turn, u64::MAX);
            pacer.pass(&mut turn, u64::MAX);
            pacer.ask(&mut turn, u64::MAX);
            pacer.set_rate(u64::MAX, u64::MAX);
            assert_eq!(pacer.ask(&mut turn, u64::MAX), 0);
            assert!(!pacer.rested(u64::MAX));
        }
    }

    /// One step of a life: time that passes, and who wants how much at most.
    fn steps() -> impl Strategy<Value = Vec<(u64, usize, u64)>> {
        let wait = prop_oneof![3 => Just(0u64), 3 => Just(50u64), 1 => 1u64..3000];
        let wanted = prop_oneof![Just(u64::MAX), 1u64..2000, Just(1u64)];
        prop::collection::vec((wait, 0usize..5, wanted), 1..300)
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_due(rate in 1024u64..10_000_000, steps in steps()) {
            let mut pacer = Pacer::new(rate, 0);
            let mut turns: [Turn; 5] = Default::default();
            let (mut now_ms, mut passed) = (0, Vec::new());
            for (wait, who, wanted) in steps {
                now_ms += wait;
                let bytes = pacer.ask(&mut turns[who], now_ms).min(wanted);
                pacer.pass(&mut turns[who], bytes);
                passed.push((now_ms, bytes));
            }
            for first in 0..passed.len() {
                let mut sum = 0;
                for (at_ms, bytes) in &passed[first..] {
                    sum += bytes;
                    let window_ms = at_ms - passed[first].0;
                    prop_assert!(sum * 1000 <= rate * window_ms + burst(rate) * 1000);
                }
            }
        }

        /// Whatever has happened, who asks at every tick is served, and in bounded time.
        #[test]
        fn nobody_is_stuck(
            rate in 1024u64..10_000_000,
            steps in steps(),
            order in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
        ) {
            let mut pacer = Pacer::new(rate, 0);
            let mut turns: [Turn; 5] = Default::default();
            let mut now_ms = 0;
            for (wait, who, wanted) in steps {
                now_ms += wait;
                let bytes = pacer.ask(&mut turns[who], now_ms).min(wanted);
                pacer.pass(&mut turns[who], bytes);
            }
            let mut served = [false; 5];
            // Each waits for the others' pieces, which are of the rate.
            let ticks = 5 * (PIECE * 1000).div_ceil(rate * TICK_MS) + 10;
            for _ in 0..ticks {
                now_ms += TICK_MS;
                for who in &order {
                    while let room @ 1.. = pacer.ask(&mut turns[*who], now_ms) {
                        pacer.pass(&mut turns[*who], room);
                        served[*who] = true;
                    }
                }
            }
            prop_assert_eq!(served, [true; 5]);
        }
    }
}
