//! What DNS says, asked as a CA asks: fully qualified, past `/etc/hosts`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::{Context, Report};

/// Addresses of one host that are looked at.
const MAX_ADDRESSES: usize = 8;

pub(super) struct Dns {
    resolver: TokioResolver,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL: broken servers of the name, or a wrong signature. CAs see it too.
    Server(String),
    /// Our way to DNS: says nothing about a CA's.
    Ours(String),
}

impl Dns {
    pub fn new(context: &Context) -> Result<Dns, String> {
        let mut builder = if context.nameservers.is_empty() {
            TokioResolver::builder_tokio().map_err(|e| e.to_string())?
        } else {
            let servers = context.nameservers.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.attempts = 1;
        options.timeout = context.patience;
        let resolver = builder.build().map_err(|e| e.to_string())?;
        Ok(Dns { resolver, patience: context.patience * 2 })
    }

    /// Of both families, IPv6 first, as a CA tries them; what is wrong is reported.
    pub async fn addresses(&self, host: &str, report: &mut Report) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let (v6, v4) =
            tokio::join!(self.lookup(host, RecordType::AAAA), self.lookup(host, RecordType::A));
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut failures = Vec::new();
        for (kind, answer) in [("AAAA", v6), ("A", v4)] {
            match answer {
                Ok(records) => addresses.extend(records.iter().filter_map(RData::ip_addr)),
                Err(failure) => failures.push((kind, failure)),
            }
        }
        if addresses.len() > MAX_ADDRESSES {
            report.hint(format!(
                "{host} has {} addresses; the first {MAX_ADDRESSES} are looked at",
                addresses.len()
            ));
            addresses.truncate(MAX_ADDRESSES);
        }
        report_addresses(host, &addresses, &failures, report);
        addresses
    }

    /// Addresses alone, for the target of a redirect.
    pub async fn first_address(&self, host: &str) -> Option<IpAddr> {
        let mut ignored = Report::default();
        self.addresses(host, &mut ignored).await.first().copied()
    }

    /// Records of one type; none of it is no error.
    pub async fn lookup(&self, host: &str, kind: RecordType) -> Result<Vec<RData>, Failure> {
        let asked = self.resolver.lookup(format!("{host}."), kind);
        match tokio::time::timeout(self.patience, asked).await {
            Ok(Ok(answer)) => {
                let records = answer.answers().iter().filter(|record| record.record_type() == kind);
                Ok(records.map(|record| record.data.clone()).collect())
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => match none.response_code {
                ResponseCode::NXDomain => Err(Failure::NoSuchName),
                ResponseCode::NoError => Ok(Vec::new()),
                code => Err(refusal(code)),
            },
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Err(refusal(code)),
            Ok(Err(other)) => Err(Failure::Ours(other.to_string())),
            Err(_) => Err(Failure::Ours("no answer in time".to_owned())),
        }
    }
}

/// What else than SERVFAIL comes is the resolver's own: it refuses this client, say.
fn refusal(code: ResponseCode) -> Failure {
    match code {
        ResponseCode::ServFail => Failure::Server("SERVFAIL".to_owned()),
        other => Failure::Ours(format!("the DNS server answers {other}")),
    }
}

fn report_addresses(
    host: &str,
    addresses: &[IpAddr],
    failures: &[(&str, Failure)],
    report: &mut Report,
) {
    if !addresses.is_empty() {
        let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        report.ok(format!("DNS: {host} is {}", list.join(", ")));
    }
    match failures {
        [] if addresses.is_empty() => {
            report.problem(format!("DNS has neither an A nor an AAAA record for {host}"));
        }
        [] => {}
        [.., (_, Failure::NoSuchName)] if addresses.is_empty() => {
            report.problem(format!("DNS does not know {host} (NXDOMAIN)"));
        }
        [.., (kind, Failure::Server(code))] if addresses.is_empty() => {
            report.problem(format!("DNS: the {kind} record of {host} fails with {code}"));
        }
        [.., (_, Failure::Ours(why))] if addresses.is_empty() => {
            report.hint(format!("DNS could not be asked for {host}: {why}"));
        }
        some => {
            for (kind, failure) in some {
                report.hint(format!("DNS: the {kind} record of {host} fails: {failure}"));
            }
        }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::NoSuchName => f.write_str("NXDOMAIN"),
            Failure::Server(why) | Failure::Ours(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(addresses: &[&str], failures: &[(&str, Failure)]) -> String {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let mut report = Report::default();
        report_addresses("a.example", &addresses, failures, &mut report);
        report.conclude("a.example").details()
    }

    #[test]
    fn what_is_said_of_each_failure() {
        let nothing = [("AAAA", Failure::NoSuchName), ("A", Failure::NoSuchName)];
        assert!(reported(&[], &nothing).contains("problem DNS does not know a.example (NXDOMAIN)"));
        assert!(reported(&[], &[]).contains("problem DNS has neither an A nor an AAAA"));
        let broken = || refusal(ResponseCode::ServFail);
        let both = [("AAAA", broken()), ("A", broken())];
        assert!(reported(&[], &both).contains("problem DNS: the A record of a.example fails with"));
        // One family is enough for a CA.
        let half = reported(&["192.0.2.1"], &[("AAAA", broken())]);
        assert!(half.contains("hint    DNS: the AAAA record of a.example fails: SERVFAIL"));
        assert!(!half.contains("problem"));
        let ours = || refusal(ResponseCode::Refused);
        let refused = reported(&[], &[("AAAA", ours()), ("A", ours())]);
        assert!(refused.contains("hint    DNS could not be asked"), "{refused}");
    }
}
