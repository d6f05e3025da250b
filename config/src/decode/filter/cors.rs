//! `cors:` of a route (Fetch standard, CORS protocol).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::read::shown;
use super::super::route::RESERVED_SUFFIXES;
use super::super::{At, Cx, Fields, keys};
use crate::model::{Cors, OriginPattern, Origins};
use crate::node::{Kind, Node};
use crate::value::{MethodName, ValueError, is_token, quote};

impl Cx<'_> {
    /// `"*"`, or a mapping.
    pub(super) fn cors(&mut self, node: &Node, at: &At<'_>) -> Option<Cors> {
        if let Kind::Scalar(_) = node.kind {
            self.value(node, at, every_origin)?;
            return Some(Cors::new(Origins::Any));
        }
        self.mapping(node, at, HELP)?;
        let fields = self.fields(node, at, &keys::CORS)?;
        let origins = self.required(&fields, "origins", Self::origins);
        let methods = self.field(&fields, "methods", |cx, node, at| {
            cx.distinct(node, at, 1..=MAX_ITEMS, Self::cors_method)
        });
        let headers = self.field(&fields, "headers", Self::cors_headers);
        let expose = self.field(&fields, "expose", |cx, node, at| {
            cx.distinct(node, at, 0..=MAX_ITEMS, |cx, node, at| {
                cx.value(node, at, |text| if text == "*" { Ok("*".into()) } else { field(text) })
            })
        });
        let credentials = self.field(&fields, "credentials", Self::boolean).unwrap_or(false);
        let max_age = self.field(&fields, "max_age", Self::cors_max_age);
        let mut cors = Cors::new(origins?);
        cors.methods = methods.unwrap_or(cors.methods);
        cors.headers = headers.unwrap_or(cors.headers);
        cors.expose = expose.unwrap_or(cors.expose);
        cors.credentials = credentials;
        cors.max_age = max_age.unwrap_or(cors.max_age);
        self.not_with_credentials(&cors, &fields);
        Some(cors)
    }

    fn origins(&mut self, node: &Node, at: &At<'_>) -> Option<Origins> {
        if is_star(node) {
            return Some(Origins::Any);
        }
        let list = self.distinct(node, at, 1..=MAX_ITEMS, |cx, node, at| {
            let origin = cx.value(node, at, OriginPattern::parse)?;
            if origin.wildcard
                && !origin.host.contains('.')
                && !RESERVED_SUFFIXES.contains(&origin.host.as_str())
            {
                let text = shown(node, &origin.to_string());
                let message = format!("{text} is every site of a top-level domain");
                cx.warn(node.pos, at, message, None);
            }
            Some(origin)
        });
        list.map(Origins::List)
    }

    fn cors_method(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| match text {
            "*" => Err(ValueError::new("a method", "`*` is no HTTP method")
                .help("name the methods, or leave `methods` out for the usual ones")),
            _ => MethodName::parse(text).map(|method| method.to_string()),
        })
    }

    /// `Some(None)`: what the preflight asks for.
    fn cors_headers(&mut self, node: &Node, at: &At<'_>) -> Option<Option<Vec<String>>> {
        if is_star(node) {
            return Some(None);
        }
        let list = self.distinct(node, at, 0..=MAX_ITEMS, |cx, node, at| {
            cx.value(node, at, |text| match text {
                "*" => Err(ValueError::new("a header name", "`*` is no header name")
                    .help("write `headers: \"*\"` for all")),
                _ => field(text),
            })
        });
        list.map(Some)
    }

    fn cors_max_age(&mut self, node: &Node, at: &At<'_>) -> Option<Duration> {
        let age = self.duration(node, at, MAX_AGE)?;
        if age.subsec_nanos() > 0 {
            self.error(node.pos, at, "the age of an answer is in whole seconds", None);
        }
        Some(age)
    }

    /// Fetch, CORS protocol and credentials: browsers refuse `*` then, or take it literally.
    fn not_with_credentials(&mut self, cors: &Cors, fields: &Fields<'_, '_>) {
        if !cors.credentials {
            return;
        }
        let pos = fields.pos_of("credentials");
        let at = fields.at.key("credentials");
        if cors.origins == Origins::Any {
            let message = "browsers refuse `credentials: true` with every origin";
            let help = "name them: `origins: [\"https://app.example.com\"]`";
            self.error(pos, &at, message, Some(help.into()));
        }
        if cors.expose.iter().any(|name| name == "*") {
            let message = "with `credentials: true` browsers take `*` in `expose` literally";
            self.error(pos, &at, message, Some("name the response fields in `expose`".into()));
        }
    }
}

fn is_star(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == "*")
}

fn every_origin(text: &str) -> Result<(), ValueError> {
    if text == "*" {
        return Ok(());
    }
    let error = ValueError::new("`\"*\"`", format!("{} is not known here", quote(text)));
    Err(match text {
        "off" | "false" | "no" => error.help("leave `cors` out"),
        _ if OriginPattern::parse(text).is_ok() => {
            error.help(format!("write `{{ origins: [{text:?}] }}`"))
        }
        _ => error.help(HELP),
    })
}

/// The name of a field in lower case.
fn field(text: &str) -> Result<String, ValueError> {
    if is_token(text) && text.len() <= MAX_NAME && text != "*" {
        return Ok(text.to_ascii_lowercase());
    }
    Err(ValueError::new("a header name", format!("{} is no header name", quote(text))))
}

const HELP: &str =
    "write `\"*\"` for every origin, or `{ origins: [\"https://app.example.com\"] }`";
/// Origins, methods, fields.
const MAX_ITEMS: usize = 64;
const MAX_NAME: usize = 128;
/// Browsers keep no answer for longer.
const MAX_AGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
