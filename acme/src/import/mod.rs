//! Certificates of other programs: PEM files, Kubernetes Secrets, certbot, Caddy, Traefik.
//!
//! So that a cut-over needs no issuance. Everything is only read. What one program keeps is first
//! collected as pairs of texts, then each pair is judged alone: a damaged, expired or
//! mismatched one is reported and never costs the others.

mod caddy;
mod certbot;
mod chain;
mod export;
mod files;
mod kubernetes;
mod pem;
mod recognise;
mod traefik;
mod yaml;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::certificate::Certificate;
use crate::error::Error;

pub use export::{Exported, export};

/// Who laid out the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bundle, or a directory of pairs.
    Pem,
    /// A Secret, or a List of them, YAML or JSON.
    Kubernetes,
    /// `/etc/letsencrypt`, its `live`, or one name below it.
    Certbot,
    /// Caddy's data directory, or its `certificates`.
    Caddy,
    /// `acme.json` of Traefik 1 to 3.
    Traefik,
}

/// What a source holds.
#[derive(Debug)]
pub struct Imported {
    pub kind: Kind,
    /// Usable, in the order of their origins.
    pub found: Vec<Found>,
    /// Not usable: damaged, without key, of two kinds that do not match.
    pub refused: Vec<Refused>,
}

/// A certificate that can serve, as far as chain and key go.
#[derive(Debug)]
pub struct Found {
    /// As [`Certificate::names`].
    pub names: Vec<String>,
    /// Leaf first, key as PKCS#8.
    pub certificate: Certificate,
    /// Where it was, for people.
    pub origin: String,
    /// Unix seconds.
    pub not_after: i64,
    /// `now` was in its lifetime. One that is not is better than none only for looking at.
    pub valid: bool,
    /// What people should know, one sentence each: expired, without intermediate, still owned.
    pub problems: Vec<String>,
}

/// Something that looked like a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub origin: String,
    pub why: String,
}

/// Reads all certificates of `source`; `kind` where it is not to be recognised by itself. `now`
/// in Unix seconds. At most 10,000 files, six levels deep, 1 MiB each (16 MiB for `acme.json`
/// and for a List of Secrets).
///
/// # Errors
/// Where the source cannot be read, or nothing in it looks like a certificate.
pub fn read(source: &Path, kind: Option<Kind>, now: i64) -> Result<Imported, Error> {
    let kind = kind.map_or_else(|| recognise::kind(source), Ok)?;
    let Collected { pairs, mut refused } = match kind {
        Kind::Pem => pem::collect(source)?,
        Kind::Kubernetes => kubernetes::collect(source)?,
        Kind::Certbot => certbot::collect(source)?,
        Kind::Caddy => caddy::collect(source)?,
        Kind::Traefik => traefik::collect(source)?,
    };
    let mut found: Vec<Found> = Vec::new();
    let mut places = HashMap::new();
    for pair in pairs {
        let one = match judge(&pair, now) {
            Ok(one) => one,
            Err(why) => {
                refused.push(Refused { origin: pair.origin, why: bare(why) });
                continue;
            }
        };
        // The same one under two paths, as links make it: the fuller chain counts.
        match places.entry(one.certificate.chain.first().cloned()) {
            Entry::Vacant(free) => {
                free.insert(found.len());
                found.push(one);
            }
            Entry::Occupied(taken) => {
                let held = found.get_mut(*taken.get());
                if let Some(held) = held
                    && held.certificate.chain.len() < one.certificate.chain.len()
                {
                    *held = one;
                }
            }
        }
    }
    if found.is_empty() && refused.is_empty() {
        let why = format_args!("no certificate with its key found ({})", kind.looked_for());
        return Err(Error::corrupt(source.display().to_string(), why));
    }
    Ok(Imported { kind, found, refused })
}

/// Texts that may be a chain and its key.
struct Pair {
    origin: String,
    chain: Vec<u8>,
    key: Vec<u8>,
    /// Names the other program noted beside it.
    expected: Vec<String>,
    problems: Vec<String>,
}

impl Pair {
    fn new(origin: String, chain: Vec<u8>, key: Vec<u8>) -> Pair {
        Pair { origin, chain, key, expected: Vec::new(), problems: Vec::new() }
    }
}

#[derive(Default)]
struct Collected {
    pairs: Vec<Pair>,
    refused: Vec<Refused>,
}

impl Collected {
    fn refuse(&mut self, origin: impl Into<String>, why: impl fmt::Display) {
        self.refused.push(Refused { origin: origin.into(), why: why.to_string() });
    }
}

fn judge(pair: &Pair, now: i64) -> Result<Found, Error> {
    let (certificate, mut problems) = chain::assemble(&pair.chain, &pair.key)?;
    problems.extend(pair.problems.iter().cloned());
    if certificate.names.is_empty() {
        problems.push("it has no alternative names: no client accepts it".to_owned());
    }
    let missing: Vec<&str> = pair
        .expected
        .iter()
        .map(String::as_str)
        .filter(|name| !certificate.names.iter().any(|has| has.eq_ignore_ascii_case(name)))
        .collect();
    if !missing.is_empty() {
        problems.push(format!("it is filed under {}, and not for it", missing.join(", ")));
    }
    if now > certificate.not_after {
        problems.push(format!("expired {} ago", span(now.saturating_sub(certificate.not_after))));
    } else if now < certificate.not_before {
        let wait = certificate.not_before.saturating_sub(now);
        problems.push(format!("not valid before {} from now", span(wait)));
    }
    Ok(Found {
        names: certificate.names.clone(),
        origin: pair.origin.clone(),
        not_after: certificate.not_after,
        valid: certificate.is_valid_at(now),
        problems,
        certificate,
    })
}

/// The origin stands beside it already.
fn bare(error: Error) -> String {
    match error {
        Error::Corrupt { why, .. } => why,
        other => other.to_string(),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        s if s < 2 * 3600 => format!("{} minutes", s / 60),
        s if s < 2 * 86_400 => format!("{} hours", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

impl Kind {
    fn looked_for(self) -> &'static str {
        match self {
            Kind::Pem => "PEM: a bundle, or fullchain.pem and privkey.pem, NAME.crt and NAME.key",
            Kind::Kubernetes => "Kubernetes: Secrets with tls.crt and tls.key",
            Kind::Certbot => "certbot: live/NAME/fullchain.pem and privkey.pem",
            Kind::Caddy => "Caddy: certificates/CA/HOST/HOST.crt and HOST.key",
            Kind::Traefik => "Traefik: acme.json with Certificates",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pem => "pem",
            Kind::Kubernetes => "kubernetes",
            Kind::Certbot => "certbot",
            Kind::Caddy => "caddy",
            Kind::Traefik => "traefik",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        [Kind::Pem, Kind::Kubernetes, Kind::Certbot, Kind::Caddy, Kind::Traefik]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("{text:?} is none of pem, kubernetes, certbot, caddy, traefik"))
    }
}

#[cfg(test)]
mod tests;
