//! A route that is closed for a while.

use std::net::IpAddr;
use std::time::Duration;

use config::model::Maintenance;

/// Whether the route is closed to a request from `origin`, and then when it is worth another try.
pub fn closed(maintenance: &Maintenance, origin: IpAddr) -> Option<Duration> {
    let origin = origin.to_canonical();
    let served = maintenance.allow.iter().any(|net| net.contains(&origin));
    (!served).then_some(maintenance.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_are_served() {
        let nets = ["192.0.2.0/28", "2001:db8::/64"];
        let closed_for = |allow: &[&str], ip: &str| {
            let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
            let maintenance = Maintenance { retry_after: Duration::from_secs(90), allow };
            closed(&maintenance, ip.parse().unwrap()).map(|wait| wait.as_secs())
        };
        for (ip, wait) in [
            ("192.0.2.15", None),
            ("::ffff:192.0.2.1", None),
            ("2001:db8::1", None),
            ("192.0.2.16", Some(90)),
            ("2001:db8:0:1::1", Some(90)),
        ] {
            assert_eq!(closed_for(&nets, ip), wait, "{ip}");
            assert_eq!(closed_for(&[], ip), Some(90), "{ip}");
        }
    }
}
