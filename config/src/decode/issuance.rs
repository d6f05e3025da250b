//! Issuers, and the certificates that they are asked for.

use std::collections::BTreeMap;

use super::acme::fallback_place;
use super::global::only;
use super::read::shown;
use super::{At, Cx, Fields, keys};
use crate::model::{Certificate, CertificateSource, Entry, Global, Issuer};
use crate::node::{Kind, Node};
use crate::suggest::nearest;
use crate::value::{HostPattern, Name};

impl Cx<'_> {
    pub(crate) fn issuers(&mut self, top: &Fields<'_, '_>) -> BTreeMap<Name, Issuer> {
        let mut out = BTreeMap::new();
        let mut names = Vec::new();
        let mut fallbacks = Vec::new();
        self.named(top, "issuers", MAX_ISSUERS, |cx, name, node, at| {
            names.push(name.clone());
            if let Some((issuer, fallback)) = cx.issuer(node, at) {
                fallbacks.extend(fallback.map(|node| fallback_place(&name, node)));
                out.insert(name, issuer);
            }
        });
        self.check_fallbacks(&out, &names, &fallbacks);
        out
    }

    pub(crate) fn default_issuer(
        &mut self,
        top: &Fields<'_, '_>,
        issuers: &BTreeMap<Name, Issuer>,
    ) -> Option<Name> {
        let named = self.field(top, "default_issuer", |cx, node, at| {
            let name = cx.value(node, at, Name::new)?;
            if !issuers.contains_key(&name) {
                let message = format!("unknown issuer {}", shown(node, name.as_str()));
                cx.error(node.pos, at, message, help_for_issuers(name.as_str(), issuers));
            }
            Some(name)
        });
        named.or_else(|| only(issuers))
    }

    /// An issuer, and the node that names its fallback.
    fn issuer<'n>(&mut self, node: &'n Node, at: &At<'_>) -> Option<(Issuer, Option<&'n Node>)> {
        let fields = self.fields(node, at, &keys::ISSUER)?;
        match (fields.has("internal"), fields.has("directory")) {
            (true, false) => {
                self.field(&fields, "internal", |cx, node, at| {
                    cx.fields(node, at, &keys::INTERNAL).map(|_| ())
                })?;
                let known = keys::ISSUER.known.iter().filter(|key| **key != "internal");
                for key in known.filter(|key| fields.has(key)) {
                    let message = format!("an internal issuer has no `{key}`");
                    self.error(fields.pos_of(key), at, message, None);
                }
                Some((Issuer::Internal, None))
            }
            (false, true) => Some((self.acme_issuer(&fields)?, fields.get("fallback"))),
            (true, true) => {
                let message = "an issuer is either `internal` or has a `directory`";
                self.error(node.pos, at, message, Some("write two issuers".into()));
                None
            }
            (false, false) => {
                let help = "write `directory: https://..` (ACME) or `internal: {}` (embedded CA)";
                self.error(node.pos, at, "the issuer has no kind", Some(help.into()));
                None
            }
        }
    }

    pub(crate) fn certificates(
        &mut self,
        top: &Fields<'_, '_>,
        global: &Global,
    ) -> BTreeMap<Name, Entry<Certificate>> {
        self.entries(top, "certificates", |cx, name, node, at| {
            (cx.certificate(name, node, at, global), Vec::new())
        })
    }

    fn certificate(
        &mut self,
        name: &Name,
        node: &Node,
        at: &At<'_>,
        global: &Global,
    ) -> Option<Certificate> {
        let fields = self.fields(node, at, &keys::CERTIFICATE)?;
        let issued = ["names", "issuer", "profile"].iter().any(|key| fields.has(key));
        // Of an issued one, `key` says the kind of key, of files where it is.
        let key_file = fields.get("key").is_some_and(is_path);
        let files = fields.has("chain") || key_file || (fields.has("key") && !issued);
        if files == issued {
            let help = "write `names` (issued) or `chain` and `key` (PEM files)";
            let message = if files {
                "a certificate is either issued or read from files"
            } else {
                "the certificate has neither names nor files"
            };
            self.error(node.pos, at, message, Some(help.into()));
            return None;
        }
        let source = if files {
            let chain = self.required(&fields, "chain", Self::absolute_path);
            let key = self.required(&fields, "key", Self::absolute_path);
            CertificateSource::Files { chain: chain?, key: key? }
        } else {
            let names = self.required(&fields, "names", |cx, node, at| {
                cx.list(node, at, 1..=100, |cx, node, at| cx.value(node, at, HostPattern::parse))
            });
            let issuer = self.certificate_issuer(&fields, node, at, global);
            let profile = self.field(&fields, "profile", Self::profile);
            let key = self.field(&fields, "key", Self::key_type);
            CertificateSource::Issued { names: names?, issuer: issuer?, profile, key }
        };
        Some(Certificate { name: name.clone(), source, tenant: None })
    }

    /// Whether the issuer exists, and suits, is for `merge` to say.
    fn certificate_issuer(
        &mut self,
        fields: &Fields<'_, '_>,
        node: &Node,
        at: &At<'_>,
        global: &Global,
    ) -> Option<Name> {
        if fields.has("issuer") {
            return self.field(fields, "issuer", |cx, node, at| cx.value(node, at, Name::new));
        }
        if global.default_issuer.is_none() {
            let help = if global.issuers.is_empty() {
                "add an issuer: `issuers: { local: { internal: {} } }`".to_owned()
            } else {
                let names: Vec<&str> = global.issuers.keys().map(Name::as_str).collect();
                format!(
                    "write `issuer`, or `default_issuer` at the top; issuers: {}",
                    names.join(", ")
                )
            };
            self.error(node.pos, at, "which issuer is meant is not clear", Some(help));
        }
        global.default_issuer.clone()
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        name: &str,
        read: impl FnOnce(&mut Self, &Node, &At<'_>) -> Option<T>,
    ) -> Option<T> {
        match fields.get(name) {
            Some(node) if matches!(node.kind, Kind::Null) => {
                let at = fields.at.key(name);
                self.error(fields.pos_of(name), &at, format!("`{name}` has no value"), None);
                None
            }
            Some(node) => read(self, node, &fields.at.key(name)),
            None => {
                self.error(fields.pos, fields.at, format!("`{name}` is missing"), None);
                None
            }
        }
    }
}

fn is_path(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.text.starts_with('/'))
}

/// The nearest issuer, or all of them.
pub(crate) fn help_for_issuers(written: &str, issuers: &BTreeMap<Name, Issuer>) -> Option<String> {
    known_names("issuers", written, issuers.keys().map(Name::as_str))
}

/// "did you mean", or the first few names there are.
pub(crate) fn known_names<'n>(
    kind: &str,
    written: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Option<String> {
    if let Some(near) = nearest(written, names.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let first: Vec<&str> = names.clone().take(8).collect();
    let more = if names.count() > first.len() { ", .." } else { "" };
    Some(match first.is_empty() {
        true => format!("there are no {kind}"),
        false => format!("{kind}: {}{more}", first.join(", ")),
    })
}

const MAX_ISSUERS: usize = 100;
