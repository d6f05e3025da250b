//! Whether each address of a host leads to this process, and what it means where it does not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dns::Dns;
use super::fetch::{Outcome, fetch};
use super::target::Target;
use super::{Context, Report, address};

pub(super) struct Request<'a> {
    pub host: &'a str,
    pub token: &'a str,
    /// The body that only this process gives.
    pub expected: &'a str,
}

/// One address that did not lead here for want of a connection.
struct Unreached {
    address: IpAddr,
    error: io::Error,
}

pub(super) async fn examine(
    request: &Request<'_>,
    addresses: &[IpAddr],
    context: &Context,
    dns: &Dns,
    report: &mut Report,
) {
    let target = Target::challenge(request.host, request.token);
    let mut unreached = Vec::new();
    for &address in addresses {
        let reserved = address::reserved(address).filter(|_| context.public_ca);
        if let Some(what) = reserved {
            // No failure: inside, DNS may say something else than outside.
            report.hint(format!(
                "{address}, as DNS says here, is reserved for {what}: no public CA reaches it, \
                 and it fails if DNS says the same outside"
            ));
        }
        match Box::pin(fetch(&target, address, request.expected, context, dns)).await {
            Outcome::Ours { redirects } => {
                if reserved.is_none() {
                    report.reached.push(address);
                }
                report.ok(format!("this process answers at {address}{}", after(&redirects)));
            }
            Outcome::NoConnection(error) => unreached.push(Unreached { address, error }),
            other => report_answer(address, other, context, report),
        }
    }
    if unreached.is_empty() {
        return;
    }
    let works_at_home = answers_locally(&target, request, &unreached, context, dns).await;
    for one in &unreached {
        report_unreached(one, works_at_home, context, report);
    }
}

fn after(redirects: &[String]) -> String {
    match redirects {
        [] => String::new(),
        [only] => format!(" after a redirect to {only}"),
        [.., last] => format!(" after {} redirects, the last to {last}", redirects.len()),
    }
}

/// Somebody took the connection and did not give the answer.
fn report_answer(address: IpAddr, outcome: Outcome, context: &Context, report: &mut Report) {
    let port = context.http_port;
    report.problem(match outcome {
        Outcome::Foreign { answer, redirects } => {
            let whose = if address::is_ours(address, context) {
                "something else on this machine answers there"
            } else {
                "another server answers there, or a proxy or router before this one"
            };
            format!("{address} port {port}{}: {whose} ({answer})", after(&redirects))
        }
        Outcome::LostRedirect { why } => format!("{address} port {port}: {why}"),
        Outcome::Silent => {
            let seconds = context.patience.as_secs_f32();
            format!("{address} port {port} takes the connection and gives no answer in {seconds} s")
        }
        Outcome::Broken(why) => format!("{address} port {port} gives no HTTP answer: {why}"),
        Outcome::Ours { .. } | Outcome::NoConnection(_) => return,
    });
}

fn report_unreached(one: &Unreached, works_at_home: bool, context: &Context, report: &mut Report) {
    let Unreached { address, error } = one;
    let port = context.http_port;
    let why = describe(error);
    let is_ours = address::is_ours(*address, context);
    let v4_works = report.reached.iter().any(IpAddr::is_ipv4);
    if address.is_ipv6() && v4_works {
        // A CA's fallback to IPv4 is for connections that fail, which these do.
        report.hint(format!(
            "AAAA {address} {}does not answer on port {port} ({why}): CAs try IPv6 first and go \
             back to IPv4 only because the connection fails; listen there or remove the record",
            if is_ours { "" } else { "is not an address of this machine and " }
        ));
    } else if is_ours {
        report.problem(format!("nothing answers on port {port} of {address}: {why}"));
    } else if address.is_ipv6() && has_no_route(error) {
        report.hint(format!("{address} cannot be tried: this machine has no IPv6 ({why})"));
    } else if works_at_home {
        report.hint(format!(
            "{address} is not on this machine and gives no connection from inside ({why}), while \
             this process answers locally: a router that does not lead back (NAT hairpin), a \
             firewall, or DNS that points elsewhere"
        ));
    } else {
        report.problem(format!(
            "{address} gives no connection on port {port} ({why}), and this process does not \
             answer locally either"
        ));
    }
}

/// From inside, past any router: on loopback, or where this machine would connect from.
async fn answers_locally(
    target: &Target,
    request: &Request<'_>,
    unreached: &[Unreached],
    context: &Context,
    dns: &Dns,
) -> bool {
    let mut homes: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    homes.extend(unreached.iter().filter_map(|one| address::source_towards(one.address)));
    homes.dedup();
    for home in homes {
        let outcome = Box::pin(fetch(target, home, request.expected, context, dns)).await;
        if matches!(outcome, Outcome::Ours { .. }) {
            return true;
        }
    }
    false
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        _ => error.to_string(),
    }
}

fn has_no_route(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, NetworkUnreachable, Unsupported};
    matches!(error.kind(), NetworkUnreachable | AddrNotAvailable | Unsupported)
}
