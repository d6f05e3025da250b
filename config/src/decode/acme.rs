//! Issuers that speak ACME.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::issuance::known_names;
use super::read::shown;
use super::{At, Cx, Fields, keys};
use crate::defaults::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING};
use crate::model::issuance::decode_mac_key;
use crate::model::{AcmeIssuer, Challenge, Eab, Issuer, KeyType, OrderLimits};
use crate::node::{Node, Pos};
use crate::value::{Name, Secret, ValueError, host_port, quote};

/// Where an issuer names its fallback: checked when all issuers are known.
pub(super) struct FallbackPlace {
    pub issuer: Name,
    pub pos: Pos,
    /// The name as a message may show it.
    pub shown: String,
}

impl Cx<'_> {
    pub(super) fn acme_issuer(&mut self, fields: &Fields<'_, '_>) -> Option<Issuer> {
        let directory = self.field(fields, "directory", Self::acme_url);
        let email = self.field(fields, "email", Self::email);
        let profile = self.field(fields, "profile", Self::profile);
        let eab = self.field(fields, "eab", Self::eab);
        let roots = self.field(fields, "roots", Self::absolute_path);
        let challenge = self.field(fields, "challenge", |cx, node, at| {
            let words = [("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)];
            cx.word(node, at, &words)
        });
        let key = self.field(fields, "key", Self::key_type);
        let fallback = self.field(fields, "fallback", |cx, node, at| cx.value(node, at, Name::new));
        let staging =
            self.field(fields, "staging", |cx, node, at| match cx.text(node, at)?.as_ref() {
                "off" => Some(None),
                _ => cx.acme_url(node, at).map(Some),
            });
        let limits = self.field(fields, "limits", Self::order_limits);
        let directory = directory?;
        let lets_encrypt = is_lets_encrypt(&directory);
        let staging =
            staging.unwrap_or_else(|| lets_encrypt.then(|| LETS_ENCRYPT_STAGING.to_owned()));
        if staging.as_ref() == Some(&directory) {
            let message = "`staging` is the directory itself: its limits would be used up twice";
            let at = fields.at.key("staging");
            self.error(fields.pos_of("staging"), &at, message, Some("write `off`".into()));
        }
        let limits = limits.unwrap_or_default();
        if lets_encrypt && limits.certificates_per_week > LETS_ENCRYPT_SET_WEEK {
            let at = fields.at.key("limits");
            let message = "Let's Encrypt makes at most 5 certificates per set of names in 7 days";
            self.warn(fields.pos_of("limits"), &at, message, None);
        }
        Some(Issuer::Acme(Box::new(AcmeIssuer {
            directory,
            email,
            profile,
            eab,
            roots,
            challenge: challenge.unwrap_or_default(),
            key: key.unwrap_or_default(),
            fallback,
            staging,
            limits,
        })))
    }

    /// An address that is personal data: it is never repeated in a message.
    fn email(&mut self, node: &Node, at: &At<'_>) -> Option<Secret> {
        let text = self.text(node, at)?;
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
        let valid = text.len() <= 254
            && text.split_once('@').is_some_and(|(user, host)| plain(user) && plain(host))
            && !text.starts_with("mailto:");
        if !valid {
            self.error(
                node.pos,
                at,
                "this is no mail address",
                Some("write `ops@example.com`".into()),
            );
            return None;
        }
        Some(Secret::new(&*text))
    }

    fn acme_url(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| {
            let error = |what: &str| {
                ValueError::new("an https URL", format!("{} {what}", quote(text)))
                    .help(format!("write `{LETS_ENCRYPT}`"))
            };
            let (scheme, rest) = text.split_once("://").ok_or_else(|| error("is no https URL"))?;
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            if authority.contains('@') {
                // It may be a password.
                let message = "a user name in the URL of a directory is of no use";
                return Err(ValueError::new("a URL without a user name", message)
                    .help("write credentials of an account as `eab`"));
            }
            let plain = text.len() <= 2000 && text.bytes().all(|b| b.is_ascii_graphic());
            if !plain || text.contains('#') {
                return Err(error("is no URL of a directory"));
            }
            let host = host_of(authority).ok_or_else(|| error("has no valid host"))?;
            match scheme {
                "https" => Ok(text.into()),
                "http" if is_loopback(&host) => Ok(text.into()),
                "http" => Err(error("is not encrypted: `http` is for loopback only")),
                _ => Err(error("is no https URL")),
            }
        })
    }

    /// A profile's name, from the CA's list.
    pub(super) fn profile(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
            if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
                return Ok(text.to_owned());
            }
            let message = format!("{} is no name of a profile", quote(text));
            Err(ValueError::new("1 to 64 letters, digits, `.`, `_`, `:`, `-`", message)
                .help("Let's Encrypt has `classic`, `tlsserver` and `shortlived`"))
        })
    }

    pub(super) fn key_type(&mut self, node: &Node, at: &At<'_>) -> Option<KeyType> {
        self.word(node, at, &[("p256", KeyType::P256), ("rsa2048", KeyType::Rsa2048)])
    }

    fn eab(&mut self, node: &Node, at: &At<'_>) -> Option<Eab> {
        let fields = self.fields(node, at, &keys::EAB)?;
        let key_id = self.required(&fields, "key_id", |cx, node, at| {
            cx.value(node, at, |text| {
                let plain = text.bytes().all(|b| b.is_ascii_graphic());
                match plain && (1..=1024).contains(&text.len()) {
                    true => Ok(text.to_owned()),
                    false => Err(ValueError::new(
                        "the key identifier that the CA gave",
                        "a key identifier is 1 to 1024 printable characters",
                    )),
                }
            })
        });
        let hmac_key = self.required(&fields, "hmac_key", Self::hmac_key);
        Some(Eab { key_id: key_id?, hmac_key: hmac_key? })
    }

    /// A secret: it is never repeated in a message.
    fn hmac_key(&mut self, node: &Node, at: &At<'_>) -> Option<Secret> {
        let text = self.text(node, at)?;
        let message = match decode_mac_key(&text) {
            Some(key) if (1..=1024).contains(&key.len()) => return Some(Secret::new(&*text)),
            Some(_) => "the key has 1 to 1024 bytes",
            None if text.contains(['+', '/']) => "this is base64, but not base64url",
            None => "this is no base64url",
        };
        let help = "write the HMAC key as the CA shows it: letters, digits, `-` and `_`";
        self.error(node.pos, at, message, Some(help.into()));
        None
    }

    fn order_limits(&mut self, node: &Node, at: &At<'_>) -> Option<OrderLimits> {
        let fields = self.fields(node, at, &keys::ORDER_LIMITS)?;
        let mut limits = OrderLimits::default();
        for (name, slot) in [
            ("certificates_per_week", &mut limits.certificates_per_week),
            ("certificates_per_hour", &mut limits.certificates_per_hour),
            ("domain_per_week", &mut limits.domain_per_week),
            ("orders_per_3h", &mut limits.orders_per_3h),
            ("failures_per_hour", &mut limits.failures_per_hour),
        ] {
            let read = self.field(&fields, name, |cx, node, at| cx.number(node, at, 1..=MAX_LIMIT));
            *slot = read.and_then(|read| u32::try_from(read).ok()).unwrap_or(*slot);
        }
        Some(limits)
    }

    /// Fallbacks exist and end somewhere. `names`: every name written under `issuers`, so that an
    /// issuer with an error of its own is not called unknown as well.
    pub(super) fn check_fallbacks(
        &mut self,
        issuers: &BTreeMap<Name, Issuer>,
        names: &[Name],
        places: &[FallbackPlace],
    ) {
        let top = At::TOP.key("issuers");
        for place in places {
            let Some(fallback) = fallback_of(issuers, &place.issuer) else { continue };
            let at = top.key(place.issuer.as_str());
            let at = at.key("fallback");
            if !names.contains(fallback) {
                let help =
                    known_names("issuers", fallback.as_str(), names.iter().map(Name::as_str));
                self.error(place.pos, &at, format!("unknown issuer {}", place.shown), help);
            } else if let Some(circle) = circle_from(issuers, &place.issuer) {
                let help = "let the last one have no `fallback`";
                let message = format!("fallbacks go in a circle: {circle}");
                self.error(place.pos, &at, message, Some(help.into()));
            } else if matches!(issuers.get(fallback), Some(Issuer::Internal)) {
                let message = format!("issuer {} is internal: no browser knows it", place.shown);
                let help = "name another ACME issuer; without one the former certificate serves on";
                self.error(place.pos, &at, message, Some(help.into()));
            }
        }
    }
}

fn fallback_of<'i>(issuers: &'i BTreeMap<Name, Issuer>, name: &Name) -> Option<&'i Name> {
    match issuers.get(name) {
        Some(Issuer::Acme(issuer)) => issuer.fallback.as_ref(),
        _ => None,
    }
}

/// `a, b, a` where the fallbacks of `first` lead back to it. Each circle is told once: by the
/// member whose name sorts first.
fn circle_from(issuers: &BTreeMap<Name, Issuer>, first: &Name) -> Option<String> {
    let mut path = vec![first];
    while let Some(next) = path.last().and_then(|last| fallback_of(issuers, last)) {
        if next == first {
            path.push(next);
            let told_by_this = path.iter().all(|member| *member >= first);
            let names: Vec<&str> = path.into_iter().map(Name::as_str).collect();
            return told_by_this.then(|| names.join(", "));
        }
        if path.contains(&next) {
            return None;
        }
        path.push(next);
    }
    None
}

fn is_lets_encrypt(directory: &str) -> bool {
    directory.trim_end_matches('/').eq_ignore_ascii_case(LETS_ENCRYPT)
}

/// The host of `host` or `host:port`.
fn host_of(authority: &str) -> Option<String> {
    use crate::model::EndpointAddress;
    let port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let spec = match port {
        true => host_port(authority),
        false => host_port(&format!("{authority}:443")),
    };
    match spec.ok()? {
        EndpointAddress::Ip(address) => Some(address.ip().to_string()),
        EndpointAddress::Name { host, .. } => Some(host),
        EndpointAddress::Srv(_) | EndpointAddress::Unix(_) => None,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn fallback_place(issuer: &Name, node: &Node) -> FallbackPlace {
    let shown = match &node.kind {
        crate::node::Kind::Scalar(scalar) => shown(node, &scalar.text),
        _ => String::new(),
    };
    FallbackPlace { issuer: issuer.clone(), pos: node.pos, shown }
}

const LETS_ENCRYPT_SET_WEEK: u32 = 5;
const MAX_LIMIT: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        for (authority, host) in [
            ("ca.example", Some("ca.example")),
            ("localhost:14000", Some("localhost")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("[::1]:14000", Some("::1")),
            ("[::1]", Some("::1")),
            ("", None),
            (":80", None),
            ("a b", None),
            ("ca.example:", None),
            ("ca.example:0x1", None),
        ] {
            assert_eq!(host_of(authority).as_deref(), host, "{authority}");
        }
        assert!(is_loopback("127.8.8.8") && is_loopback("::1") && is_loopback("LocalHost"));
        assert!(!is_loopback("192.0.2.1") && !is_loopback("localhost.example"));
    }

    #[test]
    fn lets_encrypt_is_known_in_any_spelling() {
        assert!(is_lets_encrypt(LETS_ENCRYPT));
        assert!(is_lets_encrypt("HTTPS://ACME-v02.api.letsencrypt.org/directory/"));
        assert!(!is_lets_encrypt(LETS_ENCRYPT_STAGING));
    }
}
