//! Certificates by server name, swapped as a whole (design.md #6, #10).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::value::HostPattern;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The process's certificates. Only `control::certs` publishes.
pub struct CertTable {
    current: ArcSwap<Certs>,
}

/// One generation of certificates.
#[derive(Default)]
pub struct Certs {
    exact: HashMap<Box<str>, Arc<CertEntry>>,
    /// Key: the part after `*.`.
    wildcard: HashMap<Box<str>, Arc<CertEntry>>,
    by_name: HashMap<Box<str>, Arc<CertEntry>>,
}

/// One certificate with its key, parsed and checked to match each other.
pub struct CertEntry {
    /// The `certificates:` entry, or the host for a certificate of the default issuer.
    pub name: String,
    /// What it is valid for.
    pub names: Vec<HostPattern>,
    /// What it is shown for: all of that, or a part where another one serves the rest.
    pub hosts: Vec<HostPattern>,
    /// `file`, `internal` or `acme`.
    pub source: &'static str,
    pub key: Arc<CertifiedKey>,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// Self-signed, shown until the ordered certificate is there: no HSTS with it, and a plaintext
    /// listener does not send its hosts to https.
    pub placeholder: bool,
}

impl Certs {
    /// Later entries win a name over earlier ones: pass explicit certificates last. A placeholder
    /// wins over nothing.
    pub fn new(entries: impl IntoIterator<Item = Arc<CertEntry>>) -> Certs {
        let mut certs = Certs::default();
        for entry in entries {
            certs.by_name.insert(entry.name.as_str().into(), entry.clone());
            for pattern in &entry.hosts {
                let (table, key) = match pattern {
                    HostPattern::Exact(host) => (&mut certs.exact, host.as_ref()),
                    HostPattern::Wildcard(suffix) => (&mut certs.wildcard, suffix.as_ref()),
                };
                let real = |former: &Arc<CertEntry>| !former.placeholder;
                if !(entry.placeholder && table.get(key).is_some_and(real)) {
                    table.insert(key.into(), entry.clone());
                }
            }
        }
        certs
    }

    /// The certificate for a lower-case host name: exact, else the wildcard one label up, which
    /// also goes before the placeholder of a name that is still ordered.
    pub fn find(&self, host: &str) -> Option<&Arc<CertEntry>> {
        let exact = self.exact.get(host);
        if exact.is_some_and(|entry| !entry.placeholder) {
            return exact;
        }
        let suffix = host.split_once('.').map(|(_, suffix)| suffix);
        let wildcard = suffix.and_then(|suffix| self.wildcard.get(suffix));
        wildcard.filter(|entry| exact.is_none() || !entry.placeholder).or(exact)
    }

    /// The certificate of a `certificates:` entry.
    pub fn named(&self, name: &str) -> Option<&Arc<CertEntry>> {
        self.by_name.get(name)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Arc<CertEntry>> {
        self.by_name.values()
    }
}

impl CertEntry {
    /// Whether the certificate is valid for a lower-case host name.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|pattern| match pattern {
            HostPattern::Exact(name) => name.as_ref() == host,
            HostPattern::Wildcard(suffix) => {
                host.split_once('.').is_some_and(|(_, rest)| rest == suffix.as_ref())
            }
        })
    }
}

impl CertTable {
    pub fn new() -> CertTable {
        CertTable { current: ArcSwap::from_pointee(Certs::default()) }
    }

    pub fn publish(&self, certs: Certs) {
        self.current.store(Arc::new(certs));
    }

    pub fn load(&self) -> Arc<Certs> {
        self.current.load_full()
    }

    /// Whether a client would be shown a placeholder for this lower-case host.
    pub fn is_placeholder(&self, host: &str) -> bool {
        self.current.load().find(host).is_some_and(|entry| entry.placeholder)
    }

    /// What a client with this server name is shown.
    pub fn shown(&self, sni: Option<&str>, default: Option<&str>) -> Option<Arc<CertEntry>> {
        let certs = self.current.load();
        match sni {
            Some(host) => certs.find(host).cloned(),
            None => default.and_then(|name| certs.named(name).cloned()),
        }
    }
}

impl Default for CertTable {
    fn default() -> Self {
        CertTable::new()
    }
}

/// The table as one listener shows it.
pub struct ListenerCerts {
    pub table: Arc<CertTable>,
    /// The `certificates:` entry for clients without SNI; `None`: refused in the handshake.
    pub default: Option<String>,
}

impl fmt::Debug for ListenerCerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerCerts").field("default", &self.default).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ListenerCerts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let entry = self.table.shown(hello.server_name(), self.default.as_deref())?;
        Some(entry.key.clone())
    }
}

/// Certificates for the tests of other modules.
#[cfg(test)]
pub mod testing {
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    /// A self-signed certificate for one host.
    pub fn entry(host: &str, placeholder: bool) -> CertEntry {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let chain = vec![made.cert.der().clone()];
        CertEntry {
            name: host.to_owned(),
            names: vec![HostPattern::Exact(host.into())],
            hosts: vec![HostPattern::Exact(host.into())],
            source: "acme",
            key: Arc::new(CertifiedKey::from_der(chain, key, &default_provider()).unwrap()),
            not_before: 0,
            not_after: i64::MAX,
            placeholder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::entry;
    use super::*;

    #[test]
    fn a_placeholder_takes_no_name_from_a_real_certificate() {
        let host = "app.openclaw.example";
        let real = || Arc::new(entry(host, false));
        let placeholder = || Arc::new(entry(host, true));
        for entries in [vec![real(), placeholder()], vec![placeholder(), real()]] {
            assert!(!Certs::new(entries).find(host).unwrap().placeholder);
        }
        assert!(Certs::new([placeholder()]).find(host).unwrap().placeholder);
    }

    /// An order for one name of a wildcard that serves must not take the name away meanwhile.
    #[test]
    fn a_placeholder_takes_no_name_from_a_real_wildcard() {
        let host = "app.openclaw.example";
        let pattern = [HostPattern::Wildcard("openclaw.example".into())];
        let wildcard = |placeholder| {
            let (names, hosts) = (pattern.to_vec(), pattern.to_vec());
            Arc::new(CertEntry { names, hosts, ..entry("*.openclaw.example", placeholder) })
        };
        let shown = |entries: [Arc<CertEntry>; 2]| {
            Certs::new(entries).find(host).map(|e| (e.name.clone(), e.placeholder))
        };
        let named = |name: &str, placeholder| Some((name.to_owned(), placeholder));
        let exact = |placeholder| Arc::new(entry(host, placeholder));
        let any = "*.openclaw.example";
        assert_eq!(shown([exact(true), wildcard(false)]), named(any, false));
        assert_eq!(shown([exact(false), wildcard(false)]), named(host, false));
        assert_eq!(shown([exact(true), wildcard(true)]), named(host, true));
        assert_eq!(Certs::new([wildcard(true)]).find(host).unwrap().name, any);
        assert!(Certs::new([wildcard(false)]).find("a.app.openclaw.example").is_none());
    }
}
