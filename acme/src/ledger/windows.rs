//! The limits as windows over events.

use std::fmt;
use std::net::IpAddr;

use super::{Event, HOUR, Kind, Limits, Request, THREE_HOURS, WEEK};

/// At most `limit` events of `of` in any `span` seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window<'a> {
    pub of: Of<'a>,
    pub span: i64,
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of<'a> {
    Orders,
    /// Certificates of one exact set, sorted.
    Set(Vec<&'a str>),
    /// New certificates of one registered domain.
    Domain(&'a str),
    /// Failed validations of one host.
    Host(&'a str),
}

impl Window<'_> {
    /// Whether an event of the same account counts here.
    pub(super) fn counts(&self, event: &Event) -> bool {
        match &self.of {
            Of::Orders => event.kind == Kind::Order,
            Of::Set(set) => event.kind == Kind::Issued && event.set == *set,
            Of::Domain(domain) => {
                event.kind == Kind::Issued
                    && !event.renewal
                    && event.set.iter().any(|name| registered_domain(name) == *domain)
            }
            Of::Host(host) => event.kind == Kind::Failed && event.hosts.iter().any(|h| h == host),
        }
    }
}

impl fmt::Display for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        let span = match self.span {
            HOUR => "in an hour",
            THREE_HOURS => "in 3 hours",
            _ => "in 7 days",
        };
        match &self.of {
            Of::Orders => write!(f, "{limit} orders {span}"),
            Of::Set(_) => write!(f, "{limit} certificates for these names {span}"),
            Of::Domain(domain) => write!(f, "{limit} new certificates under {domain} {span}"),
            Of::Host(host) => write!(f, "{limit} failed validations of {host} {span}"),
        }
    }
}

/// Every window that a request has to fit into.
pub(super) fn of<'a>(limits: &Limits, request: &Request<'a>) -> Vec<Window<'a>> {
    let mut windows = vec![Window { of: Of::Orders, span: THREE_HOURS, limit: limits.orders_3h }];
    if !request.forced {
        let mut set: Vec<&str> = request.set.iter().map(String::as_str).collect();
        set.sort_unstable();
        let hour = Window { of: Of::Set(set.clone()), span: HOUR, limit: limits.per_set_hour };
        windows.push(hour);
        windows.push(Window { of: Of::Set(set), span: WEEK, limit: limits.per_set_week });
    }
    if !request.renewal {
        let mut domains: Vec<&str> = request.set.iter().map(|n| registered_domain(n)).collect();
        domains.sort_unstable();
        domains.dedup();
        let limit = limits.per_domain_week;
        windows.extend(domains.into_iter().map(|domain| Window {
            of: Of::Domain(domain),
            span: WEEK,
            limit,
        }));
    }
    let limit = limits.failures_per_host_hour;
    windows.extend(request.set.iter().map(|host| Window { of: Of::Host(host), span: HOUR, limit }));
    windows
}

/// When one more event fits into a window. `times`: of those that count, oldest first, none after
/// `now`. An event at `t` counts until `t + span`, exclusive. A limit of 0 is taken as 1.
pub(super) fn free_at(times: &[i64], span: i64, limit: u32, now: i64) -> i64 {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    // The event that has to leave the window so that `limit - 1` are left in it.
    let leaving = times.len().checked_sub(limit).and_then(|index| times.get(index));
    leaving.map_or(now, |time| time.saturating_add(span).max(now))
}

/// The last two labels. Where a public suffix has two of its own (`co.uk`) this throws domains
/// together that a CA counts apart: never more is asked for than the CA allows, and the
/// public-suffix list, which grows old, is not needed.
pub(super) fn registered_domain(name: &str) -> &str {
    if name.parse::<IpAddr>().is_ok() {
        return name;
    }
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let second = dots.nth(1);
    second.and_then(|at| name.get(at + 1..)).unwrap_or(name)
}
