//! What is left of each limit: for people, and made once for many certificates.

use std::collections::HashMap;
use std::fmt;

use super::windows::{self, Of, registered_domain};
use super::{Event, Kind, Ledger, Limits, Request};

/// What counts at one moment, by account and limit.
#[derive(Debug)]
pub struct Usage<'a> {
    now: i64,
    times: HashMap<(&'a str, Of<'a>), Vec<i64>>,
}

/// One limit, and how much of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The limit in words, its number first: `300 orders in 3 hours`.
    pub limit: String,
    pub left: u32,
}

/// `299 of 300 orders in 3 hours`.
impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.left, self.limit)
    }
}

impl<'a> Usage<'a> {
    pub fn of(ledger: &'a Ledger, now: i64) -> Usage<'a> {
        let mut times: HashMap<(&'a str, Of<'a>), Vec<i64>> = HashMap::new();
        for event in ledger.entries() {
            for of in counted(event) {
                times.entry((event.account.as_str(), of)).or_default().push(event.at.min(now));
            }
        }
        Usage { now, times }
    }

    /// What is left of every limit that the request has to fit into.
    pub fn left(&self, limits: &Limits, request: &Request<'a>) -> Vec<Left> {
        let windows = windows::of(limits, request).into_iter();
        windows
            .map(|window| {
                let limit = window.to_string();
                let from = self.now.saturating_sub(window.span);
                let times = self.times.get(&(request.account, window.of));
                let used = times.into_iter().flatten().filter(|at| **at > from).count();
                // A limit of 0 is taken as 1.
                let most = window.limit.max(1);
                Left { limit, left: most.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)) }
            })
            .collect()
    }
}

/// The limits that an event counts towards.
fn counted(event: &Event) -> Vec<Of<'_>> {
    match event.kind {
        Kind::Order => vec![Of::Orders],
        Kind::Failed => event.hosts.iter().map(|host| Of::Host(host)).collect(),
        Kind::Issued => {
            let mut all = vec![Of::Set(event.set.iter().map(String::as_str).collect())];
            if !event.renewal {
                let mut domains: Vec<&str> =
                    event.set.iter().map(|name| registered_domain(name)).collect();
                domains.sort_unstable();
                domains.dedup();
                all.extend(domains.into_iter().map(Of::Domain));
            }
            all
        }
    }
}
