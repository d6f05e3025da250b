//! The one thing that a request may have to wait for before it is forwarded or answered: a
//! password's verdict, which another thread works out. What depends on it comes after it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::access::Decision;
use crate::limit::Moment;
use crate::request::limit::charge;
use crate::request::plan::{AnswerKind, Gate, Terms};
use crate::request::policy::{busy, unauthorized};
use crate::request::record::Record;
use crate::timer::Timer;

/// A verdict takes no longer than this: the queue for it is short.
const PATIENCE: Duration = Duration::from_secs(10);

/// Passes the gate of these terms, if there is one; what is granted goes to the record. Ends with
/// the timer as well, which a drain and the route's removal fire.
pub async fn pass(terms: &mut Terms, record: &mut Record, timer: &Timer) -> Result<(), AnswerKind> {
    let Some(gate) = terms.gate.take() else { return Ok(()) };
    let Gate { verdict, route, charges } = *gate;
    timer.set(PATIENCE);
    let mut verdict = pin!(verdict);
    let right = poll_fn(|cx| match verdict.as_mut().poll(cx) {
        Poll::Pending if timer.check(cx).is_some() => Poll::Ready(None),
        other => other,
    })
    .await;
    timer.clear();
    let decision = match right {
        Some(true) => Decision::Granted,
        Some(false) => Decision::Wrong,
        None => Decision::Busy,
    };
    record.auth(&route, decision);
    match decision {
        Decision::Granted => {}
        Decision::Wrong => return Err(unauthorized(&route)),
        _ => return Err(busy()),
    }
    let passed = charge(charges, Moment::now(), terms);
    record.hold(terms);
    passed
}
