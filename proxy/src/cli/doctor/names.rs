//! DNS of every host in routes and certificates: whether it leads to this machine. What a CA sees of
//! each is `acme check`'s; this asks once per name, all of them within half a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use acme::doctor::{is_own, reserved, source_towards};
use config::merge::Accepted;
use config::model::CertificateSource;
use config::value::HostPattern;
use hickory_resolver::proto::rr::Name;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::line::{Level, Report};
use crate::cli::acme_check::is_public;
use crate::cli::orders::orders;
use crate::control::resolve::Question;
use crate::control::resolve::lookup::{ByName, Outcome, ask};
use crate::control::resolve::system::{Paths, System};
use crate::wording::counted;

pub async fn look(accepted: &Accepted, report: &mut Report) {
    let hosts = hosts(accepted);
    let system = match System::read(&Paths::from_environment()) {
        Ok(system) => Arc::new(system),
        Err(why) => {
            let text = format!("no resolver can be made: {why}");
            return report.error(CHECK, text, "/etc/resolv.conf");
        }
    };
    let of_public_ca = of_public_ca(accepted).await;
    let own = Own::find();
    let deadline = Instant::now() + ALL;
    let mut waiting = hosts.into_iter();
    let mut asking = JoinSet::new();
    let mut groups: BTreeMap<Finding, Vec<String>> = BTreeMap::new();
    loop {
        while asking.len() < AT_ONCE
            && let Some(host) = waiting.next()
        {
            let system = system.clone();
            asking.spawn(async move { (answer(&system, &host).await, host) });
        }
        match timeout_at(deadline, asking.join_next()).await {
            Ok(Some(Ok((answer, host)))) => {
                let public = of_public_ca.contains(&host.to_string());
                let finding = judge(&answer, &host, public, &own);
                groups.entry(finding).or_default().push(host.to_string());
            }
            Ok(Some(Err(_))) => {}
            Ok(None) => break,
            Err(_) => {
                let left = waiting.len() + asking.len();
                let left = counted(left, "name was", "names were");
                let text = format!("unknown: {left} not answered in {} s", ALL.as_secs());
                report.warn(CHECK, text, "a DNS server that answers faster".to_owned());
                break;
            }
        }
    }
    for (Finding { level, text, fix }, names) in groups {
        report.add(CHECK, level, format!("{}: {text}", shortened(&names)), fix);
    }
}

/// Of routes and of certificates; addresses need no DNS.
fn hosts(accepted: &Accepted) -> BTreeSet<HostPattern> {
    let routes = accepted.routes.values().flat_map(|route| &route.value.hosts);
    let certificates = accepted.certificates.values();
    let certificates = certificates.filter_map(|entry| match &entry.value.source {
        CertificateSource::Issued { names, .. } => Some(names),
        CertificateSource::Files { .. } => None,
    });
    let all = routes.chain(certificates.flatten()).cloned();
    all.filter(|host| host.to_string().parse::<IpAddr>().is_err()).collect()
}

/// Names that are ordered from a CA on the internet.
async fn of_public_ca(accepted: &Accepted) -> BTreeSet<String> {
    let wanted = orders(accepted).wanted;
    let mut public = BTreeSet::new();
    for (name, issuer) in &wanted.issuers {
        // Without an answer it is taken for one of the internet, as the usual ones are.
        let is_public = timeout(ONE, is_public(&issuer.ca.directory)).await.unwrap_or(true);
        if is_public {
            let of = wanted.certificates.iter().filter(|certificate| certificate.issuer == *name);
            public.extend(of.flat_map(|certificate| certificate.names.iter().cloned()));
        }
    }
    public
}

/// What is known of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// From /etc/hosts.
    File(Vec<IpAddr>),
    Dns(Vec<IpAddr>),
    None(String),
}

async fn answer(system: &System, host: &HostPattern) -> Answer {
    // Any name below a wildcard is as good as another.
    let host = match host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("openclaw-edge-doctor.{parent}"),
    };
    let Ok(name) = Name::from_str_relaxed(&host) else {
        return Answer::None("this is no name".to_owned());
    };
    let file = system.in_hosts_file(&name);
    if !file.is_empty() {
        return Answer::File(file);
    }
    // With the dot: clients do not have our search list.
    let question = Question::Host(format!("{host}.").into());
    match timeout(ONE, ask(system, &question, &ByName::new())).await {
        Ok(Outcome::Found(found)) => {
            let mut ips: Vec<IpAddr> = found.addresses.iter().map(|one| one.address.ip()).collect();
            ips.sort_unstable();
            Answer::Dns(ips)
        }
        Ok(Outcome::Empty) => Answer::None("DNS has neither an A nor an AAAA record".to_owned()),
        Ok(Outcome::Failed(why)) => Answer::None(format!("DNS: {why}")),
        Err(_) => Answer::None(format!("DNS has not answered within {} s", ONE.as_secs())),
    }
}

/// This machine's own addresses, as far as they are needed.
struct Own {
    is: fn(IpAddr) -> bool,
    /// What it would connect out from.
    out: Option<IpAddr>,
}

impl Own {
    fn find() -> Own {
        // Documentation addresses (RFC 5737): the default route.
        let out = source_towards(IpAddr::from([192, 0, 2, 1]));
        Own { is: is_own, out: out.filter(|out| !out.is_unspecified()) }
    }

    fn shown(&self) -> String {
        self.out.map_or_else(|| "this machine's address".to_owned(), |out| out.to_string())
    }
}

/// What is told of a name, and the same of others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    level: Level,
    text: String,
    fix: Option<String>,
}

fn judge(answer: &Answer, host: &HostPattern, public_ca: bool, own: &Own) -> Finding {
    let finding = |level, text: String, fix: &str| Finding {
        level,
        text,
        fix: Some(fix.to_owned()).filter(|fix| !fix.is_empty()),
    };
    let ips = match answer {
        Answer::File(ips) => {
            let text = format!("{} by /etc/hosts, which clients do not have", list(ips));
            return finding(Level::Warning, text, "take it out of /etc/hosts and ask again");
        }
        Answer::None(why) => {
            // A wildcard may be meant for names that have records of their own.
            let wildcard = matches!(host, HostPattern::Wildcard(_));
            let level = if wildcard { Level::Warning } else { Level::Error };
            let fix = format!("an A record with {}", own.shown());
            return finding(level, why.clone(), &fix);
        }
        Answer::Dns(ips) => ips,
    };
    let others: Vec<IpAddr> = ips.iter().copied().filter(|ip| !(own.is)(*ip)).collect();
    if let Some(bad) = ips.iter().find(|ip| public_ca && reserved(**ip).is_some()) {
        let text = format!(
            "{bad} is for {}: no CA on the internet reaches it",
            reserved(*bad).unwrap_or_default()
        );
        let fix = "the public address in DNS; then openclaw-edge acme check";
        return finding(Level::Warning, text, fix);
    }
    if others.is_empty() {
        return finding(Level::Ok, format!("{}, this machine", list(ips)), "");
    }
    let behind_nat = own.out.is_none_or(|out| reserved(out).is_some());
    if others.len() == ips.len() && behind_nat {
        let text = format!("{}; this machine has {} behind NAT", list(ips), own.shown());
        let fix =
            "right where that address brings 80 and 443 here: openclaw-edge acme check proves it";
        return finding(Level::Warning, text, fix);
    }
    let text = format!("{} is not this machine ({})", list(&others), own.shown());
    let fix = "right behind a load balancer or on several nodes; else correct the record";
    finding(Level::Warning, text, fix)
}

fn list(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn shortened(names: &[String]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

const CHECK: &str = "dns";
/// For one name.
const ONE: Duration = Duration::from_secs(5);
/// For all.
const ALL: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 32;
/// Names of one line.
const SHOWN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ips: &[&str], public_ca: bool, out: &str) -> (Level, String) {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let own = Own {
            is: |ip| ip == IpAddr::from([192, 0, 2, 1]) || ip == IpAddr::from([10, 0, 0, 5]),
            out: out.parse().ok(),
        };
        let host = HostPattern::parse("app.openclaw.example").unwrap();
        let Finding { level, text, fix } = judge(&Answer::Dns(ips), &host, public_ca, &own);
        assert_eq!(fix.is_none(), level == Level::Ok, "{text}");
        (level, text)
    }

    #[test]
    fn where_a_name_leads() {
        assert_eq!(told(&["192.0.2.1"], true, "192.0.2.1").0, Level::Ok);
        assert_eq!(told(&["10.0.0.5"], false, "10.0.0.5").0, Level::Ok);
        for (ips, public_ca, out, part) in [
            (&["10.0.0.5"][..], true, "10.0.0.5", "private networks"),
            (&["198.51.100.7"], true, "10.0.0.5", "behind NAT"),
            (&["198.51.100.7"], true, "192.0.2.1", "198.51.100.7 is not this machine"),
            (&["192.0.2.1", "198.51.100.7"], true, "192.0.2.1", "198.51.100.7 is not"),
            (&["198.51.100.7"], true, "none", "behind NAT"),
        ] {
            let (level, text) = told(ips, public_ca, out);
            assert_eq!(level, Level::Warning);
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn no_address_is_an_error_but_of_a_wildcard() {
        let own = Own { is: |_| false, out: None };
        let none = Answer::None("DNS: NXDOMAIN".to_owned());
        let level = |host| judge(&none, &HostPattern::parse(host).unwrap(), false, &own).level;
        assert_eq!(level("app.openclaw.example"), Level::Error);
        assert_eq!(level("*.gw.openclaw.example"), Level::Warning);
    }

    #[test]
    fn many_names_are_one_short_line() {
        let names: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
        assert_eq!(shortened(&names), "t0, t1, t2, t3, t4, t5 and 3 more");
        assert_eq!(shortened(&names[..2]), "t0, t1");
    }
}
