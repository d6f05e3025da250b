//! Waiting for the CA to look at the challenges, and finding out what it did not like.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, OrderStatus};
use tokio::time::{Instant, sleep};

use super::failure::{Class, Failure, Step};
use super::order::Order;
use super::patiently;
use super::problem::Problem;

/// The pause between two looks grows to this many times the first one.
const SLOWEST: u32 = 5;

/// Nobody waits longer, and a clock cannot overflow by it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What the CA says of one name.
struct Verdict {
    name: String,
    status: AuthorizationStatus,
    error: Option<Problem>,
}

impl Order {
    /// Waits until every name is proven; at most `limit`, and the last request on top of it.
    /// Otherwise tells for each name that failed what the CA said about it.
    pub async fn validated(&mut self, limit: Duration) -> Result<(), Vec<Failure>> {
        let mut pause = self.pause(limit);
        loop {
            match self.refresh_in(Step::Validate).await {
                Ok(OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid) => {
                    return Ok(());
                }
                Ok(OrderStatus::Invalid) => return Err(self.invalid_names().await),
                Ok(OrderStatus::Pending) => {}
                Err(failure) if pause.may_follow(&failure) => {}
                Err(failure) => return Err(vec![failure]),
            }
            if !pause.wait().await {
                return Err(self.late_names(limit).await);
            }
        }
    }

    async fn invalid_names(&mut self) -> Vec<Failure> {
        let verdicts = match self.verdicts().await {
            Ok(verdicts) => verdicts,
            Err(failure) => return vec![failure],
        };
        let failed = verdicts.into_iter().filter_map(|verdict| match verdict.status {
            AuthorizationStatus::Pending | AuthorizationStatus::Valid => None,
            status => Some(verdict.failure(status)),
        });
        let failed: Vec<Failure> = failed.collect();
        // An order can be given up as a whole: it was too slow, or an address is blocked.
        if failed.is_empty() { vec![self.rejected(Step::Validate)] } else { failed }
    }

    /// The time is up and the order is pending: some CAs leave a failed challenge so.
    async fn late_names(&mut self, limit: Duration) -> Vec<Failure> {
        let verdicts = match self.verdicts().await {
            Ok(verdicts) => verdicts,
            Err(failure) => return vec![failure],
        };
        let late = |name: &str| {
            let why = format!("the CA has not looked at it within {} s", limit.as_secs());
            Failure::new(Class::Unavailable, Step::Validate, why).about(name)
        };
        let failed = verdicts.into_iter().filter_map(|verdict| match verdict.status {
            AuthorizationStatus::Valid => None,
            AuthorizationStatus::Pending if verdict.error.is_none() => Some(late(&verdict.name)),
            status => Some(verdict.failure(status)),
        });
        let failed: Vec<Failure> = failed.collect();
        if failed.is_empty() {
            let why = "all names are proven, the order is still not ready";
            return vec![Failure::new(Class::Unavailable, Step::Validate, why)];
        }
        failed
    }

    /// Reads every authorization again: what was read before the challenges says nothing.
    async fn verdicts(&mut self) -> Result<Vec<Verdict>, Failure> {
        let inner = &mut self.inner;
        patiently!(Step::Validate, read_verdicts(inner))
    }

    pub(super) fn pause(&self, limit: Duration) -> Pause {
        Pause::new(self.ca.limits().poll, Instant::now() + limit.min(LONGEST))
    }
}

async fn read_verdicts(
    order: &mut instant_acme::Order,
) -> Result<Vec<Verdict>, instant_acme::Error> {
    let mut verdicts = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(handle) = authorizations.next().await {
        let mut handle = handle?;
        let state = handle.refresh().await?;
        verdicts.push(Verdict {
            name: state.identifier().to_string(),
            status: state.status,
            error: state.challenges.iter().find_map(|c| c.error.clone()).map(Problem::from),
        });
    }
    Ok(verdicts)
}

impl Verdict {
    fn failure(self, status: AuthorizationStatus) -> Failure {
        let failure = match self.error {
            Some(problem) => Failure::from_problem(Step::Validate, problem, None, None),
            None => {
                let class = match status {
                    AuthorizationStatus::Invalid => Class::Validation,
                    _ => Class::OrderGone,
                };
                let why = format!("the authorization is {status:?}, the CA does not say why");
                Failure::new(class, Step::Validate, why.to_lowercase())
            }
        };
        failure.about(&self.name)
    }
}

/// The rhythm of looking at an order until a deadline. The last look is at the deadline.
pub(super) struct Pause {
    next: Duration,
    most: Duration,
    deadline: Instant,
}

impl Pause {
    fn new(first: Duration, deadline: Instant) -> Pause {
        Pause { next: first, most: first.saturating_mul(SLOWEST), deadline }
    }

    /// False when the time is up.
    pub async fn wait(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.next.min(left)).await;
        self.next = (self.next.saturating_mul(3) / 2).min(self.most);
        true
    }

    /// The network or the CA has a bad moment, and there is time to look again.
    pub fn may_follow(&self, failure: &Failure) -> bool {
        failure.class == Class::Unavailable
            && failure.retry_at.is_none()
            && Instant::now() < self.deadline
    }
}
