//! Texts with placeholders (`{tenant}.gw.example`), and what an entry may put into them.
//!
//! What fills a placeholder is data of a registry: it is a word of a small alphabet, never looked
//! at for placeholders again, and what comes out is read as strictly as if it stood in the config
//! file. A value cannot add a wildcard, a port, a path, or a label beside written text.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::model::EndpointAddress;
use crate::value::{HostPattern, Name, ValueError, endpoint, host_port, is_decimal, quote};

/// The names of the placeholders of one template, in the order of their first use. `tenant` is
/// none of them: it stands for the entry's id.
pub(crate) type Placeholders = Vec<Arc<str>>;

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Arc<str>),
    Tenant,
    /// By its index in the template's [`Placeholders`].
    Field(usize),
}

/// Where the endpoint of a tenant is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EndpointPattern {
    Net { host: Pattern, port: Pattern },
    Srv(Pattern),
    Unix(Pattern),
}

/// Why an entry cannot fill a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// The placeholder whose value it is, by its index.
    pub field: Option<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// What an entry fills in.
#[derive(Clone, Copy)]
pub(crate) struct Fill<'v> {
    pub tenant: &'v Name,
    pub values: &'v [Box<str>],
}

impl Pattern {
    pub(crate) fn parse(text: &str, fields: &mut Placeholders) -> Result<Pattern, ValueError> {
        let error = |what: &str| ValueError::new(EXPECTED, format!("{} {what}", quote(text)));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                break;
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(error("has a `{` without `}`").help("write `{tenant}`"));
            };
            if !is_field(name) {
                let message = format!("{} is no placeholder", quote(&format!("{{{name}}}")));
                let help = "write the name of a field in braces: `{host}`";
                return Err(ValueError::new(EXPECTED, message).help(help));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(match name {
                TENANT => Piece::Tenant,
                _ => Piece::Field(index_of(name, fields)),
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err(error("has a `}` without `{`").help("write `{tenant}`"));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Pattern { pieces })
    }

    /// Whether no two tenants get the same of it.
    pub(crate) fn tells_apart(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    fn starts_with(&self, text: &str) -> bool {
        matches!(self.pieces.first(), Some(Piece::Text(first)) if first.starts_with(text))
    }

    /// The only piece's value, if there is but one piece and that is a placeholder.
    fn alone<'v>(&self, fill: Fill<'v>) -> Option<&'v str> {
        match self.pieces.as_slice() {
            [Piece::Field(index)] => fill.values.get(*index).map(|value| &**value),
            [Piece::Tenant] => Some(fill.tenant.as_str()),
            _ => None,
        }
    }

    fn first_field(&self) -> Option<usize> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Field(index) => Some(*index),
            _ => None,
        })
    }

    /// `dots`: a value that stands alone may hold several labels.
    fn fill(&self, fill: Fill<'_>, dots: bool) -> Result<String, Fault> {
        let dots = dots && self.pieces.len() == 1;
        let mut out = String::new();
        for piece in &self.pieces {
            let (value, field) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Tenant => (fill.tenant.as_str(), None),
                Piece::Field(index) => {
                    (fill.values.get(*index).map_or("", |value| &**value), Some(*index))
                }
            };
            let fits = |byte: u8| {
                byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (dots && byte == b'.')
            };
            if value.is_empty() || value.len() > MAX_VALUE || !value.bytes().all(fits) {
                let help = match dots {
                    true => "letters, digits, `-`, `_` and `.` may stand here",
                    false => "letters, digits, `-` and `_` may stand here",
                };
                let message = format!("{} cannot be a part of a host", quote(value));
                return Err(Fault { field, message, help: Some(help.to_owned()) });
            }
            out.push_str(value);
        }
        Ok(out)
    }

    /// As it was written, in small letters.
    pub(crate) fn source(&self, fields: &Placeholders) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.to_ascii_lowercase(),
            Piece::Tenant => format!("{{{TENANT}}}"),
            Piece::Field(index) => {
                format!("{{{}}}", fields.get(*index).map_or("", |field| field))
            }
        };
        self.pieces.iter().map(piece).collect()
    }

    /// That some tenant can have a host of it.
    pub(crate) fn check_host(&self) -> Result<(), ValueError> {
        let mut text = String::new();
        for piece in &self.pieces {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Tenant | Piece::Field(_) => "x",
            });
        }
        HostPattern::parse(&text).map(drop)
    }

    pub(crate) fn host(&self, fill: Fill<'_>) -> Result<HostPattern, Fault> {
        let text = self.fill(fill, true)?;
        let fault = |message, help| Fault { field: self.first_field(), message, help };
        let host = HostPattern::parse(&text).map_err(|why| fault(why.message, why.help))?;
        match host {
            HostPattern::Wildcard(_) if !self.starts_with("*.") => {
                Err(fault(format!("{} is no host", quote(&text)), None))
            }
            host => Ok(host),
        }
    }
}

impl EndpointPattern {
    pub(crate) fn parse(text: &str, fields: &mut Placeholders) -> Result<Self, ValueError> {
        let error = |what: &str| {
            let message = format!("{} {what}", quote(text));
            ValueError::new("an endpoint such as `{host}:{port}`", message)
        };
        let pattern = if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                let help = "write the absolute path: `unix:/run/{tenant}.sock`";
                return Err(error("is no unix socket").help(help));
            }
            EndpointPattern::Unix(Pattern::parse(path, fields)?)
        } else if let Some(name) = text.strip_prefix("srv+") {
            EndpointPattern::Srv(Pattern::parse(name, fields)?)
        } else if text.contains('/') {
            let help = "write `{host}:{port}`; TLS is `upstream: { tls: {} }`";
            return Err(error("is no `host:port`").help(help));
        } else {
            let Some((host, port)) = text.rsplit_once(':') else {
                let help = format!("write {}", quote(&format!("{text}:{{port}}")));
                return Err(error("has no port").help(help));
            };
            let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let host = Pattern::parse(inner.unwrap_or(host), fields)?;
            EndpointPattern::Net { host, port: Pattern::parse(port, fields)? }
        };
        if !pattern.parts().any(Pattern::tells_apart) {
            let help = "write placeholders: `{host}:{port}`";
            return Err(error("is one endpoint for all tenants").help(help));
        }
        // What is written in full is wrong here already, not in every tenant.
        let tenant = Name::resembling("tenant");
        if let EndpointPattern::Net { port, .. } = &pattern
            && !port.tells_apart()
            && let Err(fault) = port.port(Fill { tenant: &tenant, values: &[] })
        {
            return Err(error(&format!("has no valid port: {}", fault.message)));
        }
        Ok(pattern)
    }

    fn parts(&self) -> impl Iterator<Item = &Pattern> {
        let (first, second) = match self {
            EndpointPattern::Net { host, port } => (host, Some(port)),
            EndpointPattern::Srv(name) | EndpointPattern::Unix(name) => (name, None),
        };
        [Some(first), second].into_iter().flatten()
    }

    pub(crate) fn address(&self, fill: Fill<'_>) -> Result<EndpointAddress, Vec<Fault>> {
        let (text, field) = match self {
            EndpointPattern::Net { host, port } => match (host.address(fill), port.port(fill)) {
                (Ok(text), Ok(port)) => (format!("{text}:{port}"), host.first_field()),
                (host, port) => return Err(host.err().into_iter().chain(port.err()).collect()),
            },
            EndpointPattern::Srv(name) => {
                (format!("srv+{}", name.fill(fill, true).map_err(one)?), name.first_field())
            }
            // No dots: a value is no step of a path.
            EndpointPattern::Unix(path) => {
                (format!("unix:{}", path.fill(fill, false).map_err(one)?), path.first_field())
            }
        };
        let address = match self {
            EndpointPattern::Net { .. } => host_port(&text).and_then(reachable),
            _ => endpoint(&text),
        };
        address.map_err(|why| vec![Fault { field, message: why.message, help: why.help }])
    }
}

impl Pattern {
    /// The host of an endpoint, an IPv6 address in brackets.
    fn address(&self, fill: Fill<'_>) -> Result<String, Fault> {
        if let Some(value) = self.alone(fill)
            && let Ok(address) = value.parse::<Ipv6Addr>()
        {
            return Ok(format!("[{address}]"));
        }
        self.fill(fill, true)
    }

    fn port(&self, fill: Fill<'_>) -> Result<u16, Fault> {
        let text = self.fill(fill, false);
        let port = text.as_deref().ok().filter(|text| is_decimal(text));
        let port = port.and_then(|text| text.parse::<u16>().ok()).filter(|port| *port != 0);
        port.ok_or_else(|| {
            let value = match &text {
                Ok(text) => text.as_str(),
                Err(_) => self.alone(fill).unwrap_or_default(),
            };
            Fault {
                field: self.first_field(),
                message: format!("{} is no port", quote(value)),
                help: Some("a port is a number from 1 to 65535".to_owned()),
            }
        })
    }
}

fn one(fault: Fault) -> Vec<Fault> {
    vec![fault]
}

/// Addresses at which no tenant can be. Private and shared ones (100.64.0.0/10) are usual.
fn reachable(address: EndpointAddress) -> Result<EndpointAddress, ValueError> {
    let EndpointAddress::Ip(socket) = &address else { return Ok(address) };
    let why = match socket.ip().to_canonical() {
        ip if ip.is_unspecified() => "stands for no address",
        ip if ip.is_multicast() => "is a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "is a broadcast address",
        // Where clouds keep the credentials of machines.
        IpAddr::V4(ip) if ip.is_link_local() => "is a link-local address",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "is a link-local address",
        _ => return Ok(address),
    };
    let message = format!("{} {why}", quote(&socket.ip().to_string()));
    Err(ValueError::new("the address of a tenant", message))
}

/// `[A-Za-z_][A-Za-z0-9_-]{0,63}`.
pub(crate) fn is_field(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn index_of(name: &str, fields: &mut Placeholders) -> usize {
    fields.iter().position(|field| &**field == name).unwrap_or_else(|| {
        fields.push(name.into());
        fields.len() - 1
    })
}

/// The placeholder that is the entry's id, whatever field that is.
pub(crate) const TENANT: &str = "tenant";
const EXPECTED: &str = "a text with placeholders such as `{tenant}.gw.example`";
/// The longest host name.
const MAX_VALUE: usize = 253;
