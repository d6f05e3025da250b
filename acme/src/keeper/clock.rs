//! What time it is: this machine's, unless a CA knows better.

use std::time::{Duration, Instant};

use super::finish::{Finished, Outcome};
use super::run::Run;
use super::view::{Role, SKEW_ALARM};
use super::wanted::Issuer;

impl Run {
    /// A clock that is far off makes everything due, or nothing: the CA's is believed then.
    pub(super) async fn look_at_clock(&mut self) {
        self.notice_jump();
        if std::mem::take(&mut self.new_owner)
            && let Some(store) = self.store.clone()
        {
            // A clock may be wrong from the start; a CA without an account has nothing to lose.
            let known =
                |issuer: &Issuer| matches!(store.account(&issuer.ca.directory), Ok(Some(_)));
            self.ask_for_time(known);
        }
        if self.doubts_clock() {
            // Nothing is forgotten by a time that may be wrong.
            return;
        }
        let told = self.sessions.clock_skew().await.or(self.skew);
        // Once believed it is believed until it is well within bounds: no to and fro at the edge.
        let alarm = if self.skew.is_some() { SKEW_ALARM / 2 } else { SKEW_ALARM };
        let skew = told.filter(|skew| skew.abs() > alarm);
        if skew.is_some() != self.skew.is_some() {
            match skew {
                Some(off) => tracing::error!(
                    "this machine's clock is off by {} s (the CA's is right); put it right",
                    -off
                ),
                None => tracing::info!("the clock is right again"),
            }
            self.slots.values_mut().for_each(|slot| slot.due_at = 0);
            self.stale = true;
        }
        self.skew = skew;
        let now = self.now();
        if now < self.seen_at {
            tracing::warn!("the clock was set back by {} s", self.seen_at - now);
            self.slots.values_mut().for_each(|slot| slot.settle(now));
            self.held.clear();
        }
        self.ledger.settle(now);
        self.seen_at = now;
    }

    /// Whether orders wait for a CA's word on the time.
    pub(super) fn doubts_clock(&self) -> bool {
        self.new_owner || self.doubt.is_some_and(|since| since.elapsed() < DOUBT)
    }

    /// A clock that was set far off: every certificate looks expired and the ledger empty. One that
    /// was put right, or a machine that has slept, looks the same: a CA is asked before anything
    /// is ordered.
    fn notice_jump(&mut self) {
        let (local, now) = ((self.settings.clock)(), (self.settings.uptime)());
        let Some((before, then)) = self.looked.replace((local, now)) else { return };
        let passed = i64::try_from(now.saturating_sub(then).as_secs()).unwrap_or(i64::MAX);
        let jump = local.saturating_sub(before).saturating_sub(passed);
        if jump.abs() <= JUMP {
            return;
        }
        tracing::warn!("the clock has jumped by {jump} s");
        // What was known of it was about the time before.
        let asked = self.sessions.close();
        self.skew = None;
        self.stale = true;
        self.ask_for_time(|issuer| asked.contains(&issuer.ca.directory));
    }

    /// One of these CAs is asked before anything is ordered.
    fn ask_for_time(&mut self, which: impl Fn(&Issuer) -> bool) {
        let Some(store) = self.store.clone().filter(|_| self.role == Role::Owner) else { return };
        let issuers: Vec<Issuer> =
            self.wanted.issuers.values().filter(|issuer| which(issuer)).cloned().collect();
        if issuers.is_empty() {
            return;
        }
        self.doubt = Some(Instant::now());
        let sessions = self.sessions.clone();
        let handle = self.tasks.spawn(async move {
            for issuer in issuers {
                if sessions.get(&store, &issuer).await.is_ok() {
                    break;
                }
            }
            Finished::other(String::new(), Outcome::ClockAsked)
        });
        self.running.insert(handle.id(), String::new());
    }
}

/// Seconds. What is less leaves most of a week in the ledger, and the CA's next answer tells.
const JUMP: i64 = 2 * 24 * 3600;
/// A CA's word on the time is waited for this long.
const DOUBT: Duration = Duration::from_secs(60);
