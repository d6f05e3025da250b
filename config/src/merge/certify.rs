//! Certificates for the hosts of tenants, where `tenants.certificates` asks for some.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Accepted, Kind, bad};
use crate::error::Diagnostic;
use crate::model::{
    Certificate, CertificatePer, CertificateSource, Good, Tenant, TenantCertificates,
};
use crate::value::{HostPattern, Name};

/// A certificate's own name, and the names in it.
type Named = (Name, Vec<HostPattern>);

impl Accepted {
    pub(super) fn certify_tenants(&mut self) {
        let settings = self.global.tenants.as_ref();
        let settings = settings.and_then(|settings| settings.certificates.clone());
        let Some(TenantCertificates { issuer, per }) = settings else { return };
        let text: Arc<str> = Arc::from("");
        let mut made = Vec::with_capacity(self.tenants.len());
        let mut refused: Vec<(Name, Diagnostic)> = Vec::new();
        for (id, tenant) in &self.tenants {
            for (name, names) in named(&tenant.value, per) {
                let (issuer, profile, key) = (issuer.clone(), None, None);
                let source = CertificateSource::Issued { names, issuer, profile, key };
                let value = Certificate { name: name.clone(), source, tenant: Some(id.clone()) };
                let certificate = Good { value: value.into(), text: text.clone(), line: 0 };
                match self.may_have(&certificate) {
                    Ok(()) => made.push((name, certificate)),
                    Err(why) => refused.push((name, *why)),
                }
            }
        }
        self.certificates.append(&mut made.into_iter().collect());
        // They are made alike: what one lacks all lack, and one report is enough.
        let count = refused.len();
        if let Some((name, mut why)) = refused.into_iter().next() {
            if count > 1 {
                why.message.push_str(&format!(" (and {} more like it)", count - 1));
            }
            self.quarantine(Kind::Certificate, &name, bad(0, why), false);
        }
    }

    fn may_have(&self, certificate: &Good<Certificate>) -> Result<(), Box<Diagnostic>> {
        let name = &certificate.value.name;
        let refuse = |message: String, help: &str| Diagnostic {
            at: "tenants.certificates".to_owned(),
            message,
            help: Some(help.to_owned()),
            ..Diagnostic::default()
        };
        if let Some(other) = self.certificates.get(name) {
            let message =
                format!("a tenant and line {} both have a certificate `{name}`", other.line);
            let help = "give the one of the config file another name";
            return Err(Box::new(refuse(message, help)));
        }
        self.check_issuer(certificate).map_err(|why| {
            let message = format!("certificate `{name}` of a tenant: {}", why.message);
            Box::new(refuse(message, why.help.as_deref().unwrap_or_default()))
        })
    }
}

fn named(tenant: &Tenant, per: CertificatePer) -> Vec<Named> {
    if per == CertificatePer::Tenant {
        let mut names = Vec::with_capacity(tenant.parts.len());
        tenant.parts.iter().for_each(|part| names.extend_from_slice(&part.route.hosts));
        names.sort();
        names.dedup();
        return vec![(tenant.id.clone(), names)];
    }
    // Those of first hosts come first: a template may be called `gw.2`, as the second host of `gw`
    // would be.
    let mut taken: HashSet<Name> =
        tenant.parts.iter().map(|part| part.route.name.clone()).collect();
    let mut seen = HashSet::new();
    let mut out: Vec<Named> = Vec::new();
    for part in &tenant.parts {
        let first = out.len();
        for (index, host) in
            part.route.hosts.iter().enumerate().filter(|(_, host)| seen.insert(*host))
        {
            let name = match index {
                0 => Some(part.route.name.clone()),
                _ => free(&part.route.name, index + 1, &mut taken),
            };
            match (name, out.get_mut(first)) {
                (Some(name), _) => out.push((name, vec![host.clone()])),
                // Every number is a template's.
                (None, Some((_, names))) => names.push(host.clone()),
                (None, None) => out.push((part.route.name.clone(), vec![host.clone()])),
            }
        }
    }
    out
}

/// `ROUTE.NUMBER`, of this number or a later one. The names of routes leave room for two digits.
fn free(route: &Name, number: usize, taken: &mut HashSet<Name>) -> Option<Name> {
    let mut names = (number..100).filter_map(|n| Name::new(&format!("{route}.{n}")).ok());
    names.find(|name| taken.insert(name.clone()))
}
