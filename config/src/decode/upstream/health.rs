//! `health:` of an upstream.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::read::is_off;
use super::super::{At, Cx, Fields, keys};
use crate::model::{EndpointAddress, HealthCheck, Probe};
use crate::node::Node;
use crate::value::{HostPattern, ValueError, host_port, is_decimal, quote};

impl Cx<'_> {
    /// `Some(None)`: switched off.
    pub(super) fn health(&mut self, node: &Node, at: &At<'_>) -> Option<Option<HealthCheck>> {
        if is_off(node) {
            return Some(None);
        }
        let pairs = self.mapping(node, at, "write `{ path: /health }`, or `off`")?;
        let kind = match pairs.iter().find(|(key, _)| key.text == "type") {
            Some((_, kind)) => self.word(kind, &at.key("type"), TYPES)?,
            None => Type::Http,
        };
        let keys = match kind {
            Type::Http => &keys::HEALTH_HTTP,
            Type::Tcp => &keys::HEALTH_TCP,
            Type::Grpc => &keys::HEALTH_GRPC,
        };
        let fields = self.fields(node, at, keys)?;
        let probe = match kind {
            Type::Http => self.http_probe(&fields),
            Type::Tcp => Some(Probe::Tcp),
            Type::Grpc => {
                let service = self.field(&fields, "service", Self::grpc_service);
                Some(Probe::Grpc { service: service.unwrap_or_default() })
            }
        };
        // Also without a probe: one pass finds everything.
        let check = self.health_times(&fields, HealthCheck::new(Probe::Tcp));
        probe.map(|probe| Some(HealthCheck { probe, ..check }))
    }

    fn health_times(&mut self, fields: &Fields<'_, '_>, mut check: HealthCheck) -> HealthCheck {
        for (name, range, slot) in [
            ("interval", INTERVAL, &mut check.interval),
            ("timeout", TIMEOUT, &mut check.timeout),
            ("start_period", START_PERIOD, &mut check.start_period),
        ] {
            let read = self.field(fields, name, |cx, node, at| cx.duration(node, at, range));
            *slot = read.unwrap_or(*slot);
        }
        for (name, slot) in [("rise", &mut check.rise), ("fall", &mut check.fall)] {
            let read = self.field(fields, name, |cx, node, at| cx.number(node, at, 1..=100));
            *slot = read.and_then(|read| u32::try_from(read).ok()).unwrap_or(*slot);
        }
        let port = self.field(fields, "port", |cx, node, at| cx.number(node, at, 1..=65535));
        check.port = port.and_then(|port| u16::try_from(port).ok());
        check
    }

    fn http_probe(&mut self, fields: &Fields<'_, '_>) -> Option<Probe> {
        if !fields.has("path") {
            let help = "write `path: /health`, or `type: tcp`";
            self.error(fields.pos, fields.at, "`path` is missing", Some(help.into()));
        }
        let path = self.field(fields, "path", |cx, node, at| cx.value(node, at, target));
        let host = self.field(fields, "host", |cx, node, at| cx.value(node, at, host_field));
        let status = self.field(fields, "status", |cx, node, at| cx.value(node, at, statuses));
        let body = self.field(fields, "body", Self::body_part);
        Some(Probe::Http { path: path?, host, status: status.unwrap_or((200, 399)), body })
    }

    fn body_part(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| match text.len() {
            1..=MAX_BODY_PART => Ok(text.to_owned()),
            _ => {
                let expected = "a part of the body";
                Err(ValueError::new(expected, "a part of the body has 1 to 1024 bytes"))
            }
        })
    }

    /// The name of a protobuf service: `package.Service`; empty for the whole server.
    fn grpc_service(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
            if text.len() <= MAX_SERVICE && text.bytes().all(plain) {
                return Ok(text.to_owned());
            }
            let message = format!("{} is no name of a gRPC service", quote(text));
            Err(ValueError::new("a gRPC service", message).help("write `package.Service`"))
        })
    }
}

#[derive(Clone, Copy)]
enum Type {
    Http,
    Tcp,
    Grpc,
}

const TYPES: &[(&str, Type)] = &[("http", Type::Http), ("tcp", Type::Tcp), ("grpc", Type::Grpc)];

/// A request target in origin form (RFC 9112 §3.2.1), sent as it is.
fn target(text: &str) -> Result<String, ValueError> {
    let error = |what: &str| {
        let message = format!("{} {what}", quote(text));
        ValueError::new("a path such as `/health`", message)
    };
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let help = format!("write {}", quote(&format!("/{path}")));
        return Err(error("is a URL, not a path").help(help));
    }
    if !text.starts_with('/') {
        let help = format!("write {}", quote(&format!("/{text}")));
        return Err(error("is no path: it does not start with `/`").help(help));
    }
    if text.len() > MAX_TARGET {
        return Err(error("is longer than 1024 bytes"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(error("is no path: a character is not allowed").help("write it as `%xx`"));
    }
    Ok(text.to_owned())
}

/// A Host field (RFC 9110 §7.2): `host` or `host:port`.
fn host_field(text: &str) -> Result<String, ValueError> {
    let whole = match HostPattern::parse(text) {
        Ok(HostPattern::Exact(host)) => return Ok(host.to_string()),
        Ok(HostPattern::Wildcard(_)) => None,
        Err(_) => host_port(text).ok(),
    };
    match whole {
        Some(EndpointAddress::Ip(address)) => Ok(address.to_string()),
        Some(EndpointAddress::Name { host, port }) => Ok(format!("{host}:{port}")),
        _ => {
            let message = format!("{} is no host", quote(text));
            Err(ValueError::new("a host", message).help("write `api.internal`"))
        }
    }
}

/// `200`, or `200-399`.
fn statuses(text: &str) -> Result<(u16, u16), ValueError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|_| is_decimal(text));
    let valid = |status: &u16| (200..=599).contains(status);
    match (status(first).filter(valid), status(last).filter(valid)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => {
            let message = format!("{} is no range of statuses", quote(text));
            Err(ValueError::new("a range of statuses such as `200-399`", message)
                .help("write `200-399` or `200`; statuses are 200 to 599"))
        }
    }
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const START_PERIOD: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const MAX_TARGET: usize = 1024;
const MAX_BODY_PART: usize = 1024;
const MAX_SERVICE: usize = 256;
