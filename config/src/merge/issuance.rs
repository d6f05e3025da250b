//! Rules between certificates, issuers and hosts.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Accepted, shown};
use crate::decode::known_names;
use crate::error::Diagnostic;
use crate::model::{Certificate, CertificateSource, Good, Issuer, KeyType};
use crate::value::{HostPattern, Name};

/// Names in one certificate of Let's Encrypt's profiles `tlsserver` and `shortlived`.
const FEW_NAMES: usize = 25;
const PROFILES_OF_FEW_NAMES: [&str; 2] = ["tlsserver", "shortlived"];

impl Accepted {
    /// The issuer is there, and can make the certificate.
    pub(super) fn check_issuer(
        &self,
        certificate: &Good<Certificate>,
    ) -> Result<(), Box<Diagnostic>> {
        let CertificateSource::Issued { names, issuer, profile, key } = &certificate.value.source
        else {
            return Ok(());
        };
        let refuse = |key: &str, message: String, help: Option<String>| {
            Err(Box::new(Diagnostic {
                at: format!("certificates.{}.{key}", certificate.value.name),
                line: certificate.line,
                column: 0,
                message,
                help,
                file: None,
            }))
        };
        let issuers = &self.global.issuers;
        match issuers.get(issuer) {
            None => {
                let message =
                    format!("unknown issuer {}", shown(&certificate.text, issuer.as_str()));
                let known = issuers.keys().map(Name::as_str);
                refuse("issuer", message, known_names("issuers", issuer.as_str(), known))
            }
            Some(Issuer::Internal) if profile.is_some() => {
                refuse("profile", "an internal issuer has no profiles".into(), None)
            }
            Some(Issuer::Internal) if *key == Some(KeyType::Rsa2048) => {
                refuse("key", "an internal issuer makes P-256 keys only".into(), None)
            }
            Some(Issuer::Internal) => Ok(()),
            Some(Issuer::Acme(acme)) => {
                let wildcard = names.iter().any(|name| matches!(name, HostPattern::Wildcard(_)));
                if wildcard {
                    return refuse("names", NO_WILDCARDS.into(), Some(NAME_THEM.into()));
                }
                let profile = profile.as_deref().or(acme.profile.as_deref()).unwrap_or_default();
                if names.len() > FEW_NAMES && PROFILES_OF_FEW_NAMES.contains(&profile) {
                    let message = format!(
                        "{} names: the profile `{profile}` allows {FEW_NAMES} in one certificate",
                        names.len()
                    );
                    let help = "make several groups of them, or write `profile: classic`";
                    return refuse("names", message, Some(help.into()));
                }
                Ok(())
            }
        }
    }

    pub(super) fn warn_about_certificates(&mut self) {
        let mut found = self.unknown_default_certificates();
        found.extend(self.hosts_without_certificate());
        self.warnings.extend(found);
    }

    fn unknown_default_certificates(&self) -> Vec<Diagnostic> {
        let unknown = self.global.listeners.iter().filter_map(|(name, listener)| {
            let shown = listener.tls.as_ref()?.default_certificate.as_ref()?;
            if self.certificates.contains_key(shown) {
                return None;
            }
            let at = format!("listeners.{name}.tls.default_certificate");
            let names = self.certificates.keys().map(Name::as_str);
            let help = known_names("certificates", shown.as_str(), names);
            let message = format!("unknown certificate `{shown}`: clients without SNI are refused");
            Some(finding(at, message, help))
        });
        unknown.collect()
    }

    /// Hosts that no entry covers and that the default issuer, if any, does not serve.
    fn hosts_without_certificate(&self) -> Option<Diagnostic> {
        let global = &self.global;
        let sources = || self.certificates.values().map(|certificate| &certificate.value.source);
        let tls = global.listeners.values().any(|listener| listener.tls.is_some());
        // The names of files are known only when they are loaded.
        let files = sources().any(|source| matches!(source, CertificateSource::Files { .. }));
        if !tls || files || global.issuers.is_empty() {
            return None;
        }
        let default = global.default_issuer.as_ref().and_then(|name| global.issuers.get(name));
        let only_wildcards = match default {
            Some(Issuer::Internal) => return None,
            Some(Issuer::Acme(_)) => true,
            None => false,
        };
        // Tenants that get their own: `certify` says which of them cannot.
        let certified = global.tenants.as_ref().is_some_and(|all| all.certificates.is_some());
        let issued: HashSet<&HostPattern> = sources()
            .flat_map(|source| match source {
                CertificateSource::Issued { names, .. } => names.as_slice(),
                CertificateSource::Files { .. } => &[],
            })
            .collect();
        // As `covers` does, by the host and by the wildcard one label up.
        let is_issued = |host: &HostPattern| {
            let wildcard = match host {
                HostPattern::Exact(host) => host.split_once('.').map(|(_, rest)| rest),
                HostPattern::Wildcard(_) => None,
            };
            issued.contains(host)
                || wildcard.is_some_and(|rest| issued.contains(&HostPattern::Wildcard(rest.into())))
        };
        let hosts = self
            .routes
            .values()
            .filter(|route| !certified || route.value.tenant.is_none())
            .flat_map(|route| route.value.hosts.iter().map(move |host| (host, &route.text)));
        let bare: Vec<(&HostPattern, &Arc<str>)> = hosts
            .filter(|(host, _)| !only_wildcards || matches!(host, HostPattern::Wildcard(_)))
            .filter(|(host, _)| !is_issued(host))
            .collect();
        let (first, text) = bare.first()?;
        let first = shown(text, &first.to_string());
        let message = match bare.len() {
            1 => format!("host {first} has no certificate"),
            count => format!("{count} hosts have no certificate, {first} for one"),
        };
        let (message, help) = match only_wildcards {
            true => (format!("{message}: {NO_WILDCARDS}"), NAME_THEM),
            false => (message, "write `default_issuer`, or name them in `certificates`"),
        };
        Some(finding("default_issuer".to_owned(), message, Some(help.to_owned())))
    }
}

fn finding(at: String, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic { at, message, help, ..Diagnostic::default() }
}

const NO_WILDCARDS: &str =
    "wildcard names need a DNS-01 challenge, which this version does not have";
const NAME_THEM: &str = "name the hosts one by one, or give files";
