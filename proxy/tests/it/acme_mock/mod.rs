//! What no real CA does on demand, with the scriptable one: failures of every class for weeks,
//! windows that move, clocks that jump, budgets that run out. What takes hours runs in simulated
//! time, on the keeper itself; the rest on the edge.

mod ari;
mod budget;
mod change;
mod clocks;
mod fallback;
mod outage;
mod policy;
mod served;
mod sim;
mod storage;

use acme::keeper::Row;

use crate::harness::acme::MockCa;
use crate::harness::acme::mock_ca::Endpoint;
use sim::{Sim, real_now};

const APP: &str = "app.openclaw.example";
const API: &str = "api.openclaw.example";
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The CA's times (Unix seconds) of the requests to an endpoint.
fn times(ca: &MockCa, endpoint: Endpoint) -> Vec<i64> {
    ca.requests(endpoint).iter().map(|entry| entry.unix).collect()
}

/// The most of these times within any span of `span` seconds.
fn densest(times: &[i64], span: i64) -> usize {
    let within =
        |start: &i64| times.iter().filter(|at| (*start..start + span).contains(at)).count();
    times.iter().map(within).max().unwrap_or(0)
}

/// The smallest distance between two of them; `i64::MAX`: fewer than two.
fn closest(times: &[i64]) -> i64 {
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(i64::MAX)
}

/// The failure that a row shows, as a person reads it.
fn told(row: &Row) -> String {
    row.last_failure.as_ref().map(|told| told.failure.to_string()).unwrap_or_default()
}
