//! What a configuration asks for: pairs of files, and names for issuers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use acme::ca::{CaConfig, ChallengeKind, Eab};
use acme::keeper::{self, KeyKind, WantedCertificate};
use acme::ledger::{Limits, Priority};
use config::merge::Accepted;
use config::model::{
    AcmeIssuer, Certificate, CertificateSource, Challenge, Good, Issuer, KeyType, Route,
};
use config::value::{HostPattern, Name};

use super::{FileCertificate, Problem, ca_dir};

/// The certificates that a configuration asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub files: Vec<FileCertificate>,
    /// `certificates:` entries of an internal issuer.
    pub issued: Vec<(String, Vec<HostPattern>)>,
    /// `certificates:` entries of ACME issuers.
    pub ordered: Vec<WantedCertificate>,
    /// ACME issuers by name.
    pub issuers: BTreeMap<String, keeper::Issuer>,
    /// Hosts of routes, when there is a default issuer and any listener speaks TLS. Those that an
    /// entry covers are left out later: what a file covers is known when it is read.
    pub hosts: BTreeSet<HostPattern>,
    /// Those of them that are of tenants.
    pub of_tenants: HashSet<String>,
    /// The default issuer where it is an ACME one, with what it makes.
    pub default: Option<DefaultIssuer>,
    /// Known beforehand.
    pub problems: Vec<Problem>,
    /// Where the internal authority is kept.
    pub ca_dir: PathBuf,
}

/// How hosts without an entry get their certificates from an ACME issuer.
#[derive(Clone, Debug)]
pub struct DefaultIssuer {
    pub name: String,
    pub profile: Option<String>,
    pub key: KeyKind,
}

/// What this configuration asks for.
pub fn wanted(accepted: &Accepted) -> Wanted {
    let global = &accepted.global;
    let mut wanted = Wanted {
        files: files(accepted).collect(),
        ca_dir: ca_dir(&global.state_dir),
        ..Wanted::default()
    };
    let plaintext = global.listeners.values().any(|listener| listener.tls.is_none());
    for (name, issuer) in &global.issuers {
        if let Issuer::Acme(issuer) = issuer {
            wanted.issuers.insert(name.to_string(), keeper_issuer(name, issuer, plaintext));
        }
    }
    for (name, entry) in &accepted.certificates {
        let label = name.to_string();
        match &entry.value.source {
            CertificateSource::Files { .. } => {}
            CertificateSource::Issued { names, issuer, profile, key } => {
                match global.issuers.get(issuer) {
                    Some(Issuer::Internal) => wanted.issued.push((label, names.clone())),
                    Some(Issuer::Acme(of)) => {
                        let profile = profile.clone().or_else(|| of.profile.clone());
                        let key = key_kind(key.unwrap_or(of.key));
                        let tenant = entry.value.tenant.is_some();
                        let order = Order { label, issuer, profile, key, tenant };
                        wanted.order(order, names);
                    }
                    None => {}
                }
            }
        }
    }
    wanted.of_routes(accepted);
    wanted
}

/// `certificates:` entries of files.
pub fn files(accepted: &Accepted) -> impl Iterator<Item = FileCertificate> {
    accepted.certificates.iter().filter_map(|(name, entry)| match &entry.value.source {
        CertificateSource::Files { chain, key } => {
            let (chain, key) = (chain.clone(), key.clone());
            Some(FileCertificate { name: name.to_string(), chain, key })
        }
        CertificateSource::Issued { .. } => None,
    })
}

/// Whether the new configuration may need a certificate that the old one did not: another
/// endpoint of ten thousand tenants is no reason to wait for their certificates.
pub fn needs_more(old: &Accepted, new: &Accepted) -> bool {
    let settings = |accepted: &Accepted| {
        let global = &accepted.global;
        (global.issuers.clone(), global.default_issuer.clone(), global.listeners.clone())
    };
    let certificate = |old: Option<&Arc<Certificate>>, new: &Arc<Certificate>| {
        old.is_none_or(|old| !Arc::ptr_eq(old, new))
    };
    let route = |old: Option<&Arc<Route>>, new: &Arc<Route>| {
        old.is_none_or(|old| {
            !Arc::ptr_eq(old, new) && new.hosts.iter().any(|host| !old.hosts.contains(host))
        })
    };
    settings(old) != settings(new)
        || any(&old.certificates, &new.certificates, certificate)
        || any(&old.routes, &new.routes, route)
}

/// Whether `news` says so of any entry of `new`, given the one of the same name in `old`.
fn any<T>(
    old: &BTreeMap<Name, Good<T>>,
    new: &BTreeMap<Name, Good<T>>,
    news: impl Fn(Option<&Arc<T>>, &Arc<T>) -> bool,
) -> bool {
    let mut old = old.iter().peekable();
    new.iter().any(|(name, entry)| {
        while old.next_if(|(former, _)| *former < name).is_some() {}
        let former = old.next_if(|(former, _)| *former == name);
        news(former.map(|(_, former)| &former.value), &entry.value)
    })
}

struct Order<'a> {
    label: String,
    issuer: &'a Name,
    profile: Option<String>,
    key: KeyKind,
    tenant: bool,
}

/// What the ACME keeper is asked for.
#[derive(Default)]
pub struct Orders {
    pub wanted: keeper::Wanted,
    /// Hosts that cannot be ordered.
    pub problems: Vec<Problem>,
}

impl Wanted {
    /// Entries, and one certificate for each of the hosts of routes that no entry covers
    /// (`open`), where the default issuer orders.
    pub fn orders<'a>(&self, open: impl IntoIterator<Item = &'a HostPattern>) -> Orders {
        let (issuers, certificates) = (self.issuers.clone(), self.ordered.clone());
        let wanted = keeper::Wanted { issuers, certificates };
        let mut orders = Orders { wanted, problems: Vec::new() };
        let Some(default) = &self.default else { return orders };
        let grouped: HashSet<String> =
            self.ordered.iter().flat_map(|entry| entry.names.clone()).collect();
        for host in open {
            let HostPattern::Exact(name) = host else {
                let message = "wildcard names need a DNS-01 challenge, which this version does not \
                               have: give files in `certificates:`";
                let certificate = host.to_string();
                orders.problems.push(Problem { certificate, message: message.to_owned() });
                continue;
            };
            let Ok(name) = acme::name::canonical(name) else { continue };
            if grouped.contains(&name) {
                continue;
            }
            orders.wanted.certificates.push(WantedCertificate {
                priority: priority(self.of_tenants.contains(&name)),
                label: name.clone(),
                names: vec![name],
                issuer: default.name.clone(),
                profile: default.profile.clone(),
                key: default.key,
            });
        }
        orders
    }

    /// The default issuer makes certificates by ACME.
    pub fn orders_hosts(&self) -> bool {
        self.default.is_some()
    }

    fn order(&mut self, order: Order<'_>, names: &[HostPattern]) {
        let names: Vec<String> = names.iter().map(HostPattern::to_string).collect();
        match acme::name::canonical_set(&names) {
            Ok(names) => self.ordered.push(WantedCertificate {
                label: order.label,
                names,
                issuer: order.issuer.to_string(),
                profile: order.profile,
                key: order.key,
                priority: priority(order.tenant),
            }),
            Err(why) => {
                let message = why.to_string();
                self.problems.push(Problem { certificate: order.label, message });
            }
        }
    }

    fn of_routes(&mut self, accepted: &Accepted) {
        let global = &accepted.global;
        let tls = global.listeners.values().any(|listener| listener.tls.is_some());
        let Some(name) = global.default_issuer.as_ref().filter(|_| tls) else { return };
        let Some(issuer) = global.issuers.get(name) else { return };
        if let Issuer::Acme(issuer) = issuer {
            self.default = Some(DefaultIssuer {
                name: name.to_string(),
                profile: issuer.profile.clone(),
                key: key_kind(issuer.key),
            });
        }
        let tenants = accepted.routes.values().filter(|route| route.value.tenant.is_some());
        let tenants = tenants.flat_map(|route| &route.value.hosts);
        self.of_tenants = tenants.map(HostPattern::to_string).collect();
        let routed = accepted.routes.values().flat_map(|route| &route.value.hosts);
        let blocked = accepted.blocked.iter().map(|blocked| &blocked.host);
        self.hosts = routed.chain(blocked).cloned().collect();
    }
}

/// However many tenants there are, hosts of the config file are ordered and renewed before them.
fn priority(tenant: bool) -> Priority {
    if tenant { Priority::Tenant } else { Priority::Route }
}

/// Without a plaintext listener HTTP-01 can only fail.
fn keeper_issuer(name: &Name, issuer: &AcmeIssuer, plaintext: bool) -> keeper::Issuer {
    let mut ca = CaConfig::new(issuer.directory.clone());
    ca.roots.clone_from(&issuer.roots);
    let limits = &issuer.limits;
    keeper::Issuer {
        name: name.to_string(),
        ca,
        contact: issuer.email.as_ref().map(|email| email.expose().to_owned()),
        eab: issuer
            .eab
            .as_ref()
            .map(|eab| Eab { key_id: eab.key_id.clone(), hmac_key: eab.mac_key() }),
        challenge: match issuer.challenge {
            Challenge::Http01 if plaintext => ChallengeKind::Http01,
            Challenge::Http01 | Challenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        },
        fallback: issuer.fallback.as_ref().map(Name::to_string),
        staging: issuer.staging.clone(),
        limits: Limits {
            per_set_week: limits.certificates_per_week,
            per_set_hour: limits.certificates_per_hour,
            per_domain_week: limits.domain_per_week,
            orders_3h: limits.orders_per_3h,
            failures_per_host_hour: limits.failures_per_hour,
        },
    }
}

fn key_kind(key: KeyType) -> KeyKind {
    match key {
        KeyType::P256 => KeyKind::P256,
        KeyType::Rsa2048 => KeyKind::Rsa2048,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\nissuers: { local: { internal: {} } }\n\
        listeners: { web: { bind: ['127.0.0.1:1'], tls: {} } }\n\
        certificates: { own: { names: [own.openclaw.example], issuer: local } }\n\
        upstreams: { u: { endpoints: ['127.0.0.1:2'] } }\n\
        routes:\n  a: { hosts: [a.openclaw.example, own.openclaw.example], upstream: u }\n  \
        b: { hosts: [b.openclaw.example], upstream: u }\n";

    fn accepted(text: &str, previous: Option<&Accepted>) -> Accepted {
        let read = config::parse("edge.yaml", text, &config::NoEnvironment).unwrap();
        match previous {
            None => config::merge(None, read),
            Some(previous) => match crate::control::reload::decide(previous, Ok(read)) {
                crate::control::reload::Decision::Apply(new, _) => new,
                _ => panic!("nothing to apply"),
            },
        }
    }

    #[test]
    fn what_is_waited_for() {
        let old = accepted(FILE, None);
        for (change, to, expected) in [
            ("127.0.0.1:2", "127.0.0.1:3", false),
            ("[b.openclaw.example]", "[b.openclaw.example], body_limit: 1MiB", false),
            ("[a.openclaw.example, own", "[own", false),
            ("[b.openclaw.example]", "[b.openclaw.example, c.openclaw.example]", true),
            ("  b: {", "  c: {", true),
            ("names: [own.", "names: [b.openclaw.example, own.", true),
            ("issuers: {", "issuers: { other: { internal: {} },", true),
        ] {
            let new = accepted(&FILE.replace(change, to), Some(&old));
            assert_eq!(needs_more(&old, &new), expected, "{change} to {to}");
        }
    }
}
