//! Whether a request may be sent again: never where the endpoint may have acted on it, unless that
//! does no harm or the route asks for it.

use super::{Attempt, Attempts, CLOSED};
use crate::exchange::upload::Upload;
use crate::request::cause::{Cause, Rejection};

impl Attempts {
    /// Whether an answer with this status is to be replaced by that of another endpoint
    /// (`routes.NAME.retry`). It counts against the budget when it says so.
    pub fn replaces(&self, status: u16, upload: &Upload) -> bool {
        self.target.retry.statuses.contains(&status)
            && self.rules.repeatable
            && upload.replayable()
            && self.may_send_again()
    }

    /// Whether the request is sent again after this end of an attempt, `touched` telling whether
    /// any byte of an answer had come. If so everything is ready for [`Attempts::acquire`].
    pub async fn again(
        &mut self,
        attempt: &mut Attempt,
        rejection: Rejection,
        touched: bool,
        upload: &mut Upload,
    ) -> bool {
        let why = self.reason(attempt, rejection, touched, upload).await;
        let Some(reason) = why else { return false };
        if !upload.rewind() {
            return false;
        }
        self.next(attempt, reason);
        true
    }

    /// The same for an answer that is to be replaced; it was decided by [`Attempts::replaces`].
    pub fn replace(&mut self, attempt: &Attempt, upload: &mut Upload) -> bool {
        let possible = upload.rewind();
        if possible {
            attempt.replaced(&self.local);
            self.next(attempt, "status");
        }
        possible
    }

    fn next(&mut self, attempt: &Attempt, reason: &'static str) {
        self.count_retry(reason);
        self.again += 1;
        self.fresh = true;
        if reason != "stale_connection" {
            self.tried.push(attempt.connection.endpoint.id);
            self.met = true;
        }
    }

    /// Why it is safe, and allowed, to send the request once more.
    async fn reason(
        &self,
        attempt: &mut Attempt,
        rejection: Rejection,
        touched: bool,
        upload: &Upload,
    ) -> Option<&'static str> {
        if touched || !upload.replayable() {
            return None;
        }
        match rejection.cause {
            Cause::UpstreamClosed if attempt.connection.io.unprocessed() => {
                (self.again < self.most()).then_some("refused_stream")
            }
            Cause::UpstreamClosed if self.stale(attempt, rejection, upload).await => {
                Some("stale_connection")
            }
            Cause::UpstreamClosed => {
                (self.rules.repeatable && self.may_send_again()).then_some("closed")
            }
            Cause::FirstByteTimeout if self.target.retry.timeout => {
                (self.rules.repeatable && self.may_send_again()).then_some("timeout")
            }
            _ => None,
        }
    }

    /// Whether a pooled connection had died, and another one may have the request.
    async fn stale(&self, attempt: &mut Attempt, rejection: Rejection, upload: &Upload) -> bool {
        attempt.connection.reused
            && !self.fresh
            && (upload.untouched()
                || self.rules.idempotent
                || (rejection == CLOSED && attempt.never_arrived().await))
    }

    fn most(&self) -> u32 {
        self.upstream().spec.retries.attempts
    }

    /// Within the attempts of the request and the upstream's budget.
    fn may_send_again(&self) -> bool {
        let upstream = self.upstream();
        self.again < self.most()
            && upstream
                .state
                .budget
                .try_retry(upstream.spec.retries.budget, self.local.timers.now_ms())
    }
}
