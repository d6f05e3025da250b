//! What the keeper tells: which certificate serves what, what comes next and why, what failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::slot::Told;
use crate::ledger::Left;
use crate::store::Stored;

/// The state of everything that is wanted, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub role: Role,
    pub rows: Vec<Row>,
    /// Files that were skipped, writes that failed: one sentence each.
    pub problems: Vec<String>,
    /// The CA's clock less ours, seconds, where that is more than [`SKEW_ALARM`].
    pub clock_skew: Option<i64>,
    /// Orders and questions to CAs that are under way.
    pub tasks: usize,
    /// Orders since the start, by issuer name and result.
    pub orders: BTreeMap<(String, OrderResult), u64>,
}

/// Who orders and writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing is wanted, or nothing is known yet.
    #[default]
    Idle,
    /// This process.
    Owner,
    /// Another process: this one serves what is stored and answers challenges statelessly.
    Reader,
    /// This process gave the right away, on its way out.
    Released,
    /// The state directory cannot be used.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderResult {
    Issued,
    /// A name could not be validated.
    Invalid,
    /// The CA refused: limits, account, policy.
    Refused,
    /// The CA could not be reached or did not answer properly.
    Unavailable,
    /// This side failed: disk, key.
    Local,
}

/// One wanted certificate.
#[derive(Clone, Debug)]
pub struct Row {
    pub label: String,
    pub names: Vec<String>,
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// What serves the names: one certificate for all of them, or the best for each. Empty: a
    /// placeholder.
    pub serving: Vec<Arc<Stored>>,
    /// For each of `serving`: the name of the issuer that made it, [`IMPORTED`], or [`FORMER`].
    pub made_by: Vec<String>,
    /// Names that no certificate covers.
    pub missing: Vec<String>,
    /// An order is under way or waits to be brought home.
    pub ordering: bool,
    /// The certificate serves from memory: it could not be written yet.
    pub unsaved: bool,
    /// Unix seconds at which the certificate that serves is to be renewed.
    pub renews_at: Option<i64>,
    /// Unix seconds of the next attempt or renewal; 0: now.
    pub next_at: i64,
    /// What it waits for.
    pub next_why: String,
    /// Failures in a row.
    pub failures: u32,
    pub last_failure: Option<Told>,
    /// Certificates issued for exactly these names within 7 days.
    pub issued_this_week: usize,
    /// As many may be, unless an operator forces it.
    pub per_week: Option<u32>,
    /// What is left of every limit of the issuer for the next order.
    pub budget: Vec<Left>,
}

impl Role {
    pub fn word(&self) -> &'static str {
        match self {
            Role::Idle => "idle",
            Role::Owner => "owner",
            Role::Reader => "reader",
            Role::Released => "released",
            Role::Broken(_) => "broken",
        }
    }
}

impl OrderResult {
    pub fn word(self) -> &'static str {
        match self {
            OrderResult::Issued => "issued",
            OrderResult::Invalid => "invalid",
            OrderResult::Refused => "refused",
            OrderResult::Unavailable => "unavailable",
            OrderResult::Local => "local",
        }
    }
}

impl Row {
    /// The certificate that covers all names, or the first of several.
    pub fn leaf(&self) -> Option<&Arc<Stored>> {
        self.serving.first()
    }
}

/// A difference that is believed, and told.
pub(super) fn alarming(skew: i64) -> Option<i64> {
    (skew.abs() > SKEW_ALARM).then_some(skew)
}

/// Seconds of difference above which the CA's clock is believed instead of ours.
pub const SKEW_ALARM: i64 = 600;

/// Of a certificate that no CA was asked for here.
pub const IMPORTED: &str = "imported";
/// Of a certificate of a CA that is not in the configuration any more.
pub const FORMER: &str = "former";
