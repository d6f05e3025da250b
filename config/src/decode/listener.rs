//! `listeners:`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::global::socket_address;
use super::read::shown;
use super::{At, Cx, Fields, keys};
use crate::defaults;
use crate::model::{
    Http2Policy, Listener, ListenerLimits, ListenerTimeouts, TlsPolicy, TlsVersion,
};
use crate::node::{Kind, Node, Pos};
use crate::value::Name;

impl Cx<'_> {
    pub(crate) fn listeners(&mut self, top: &Fields<'_, '_>) -> BTreeMap<Name, Listener> {
        let mut out = BTreeMap::new();
        if !top.has("listeners") {
            let listeners = defaults::listeners().into_iter();
            return listeners.map(|listener| (listener.name.clone(), listener)).collect();
        }
        let errors = self.errors.len();
        let mut bound: Vec<(SocketAddr, Pos, Name)> = Vec::new();
        self.named(top, "listeners", MAX_LISTENERS, |cx, name, node, at| {
            if let Some(listener) = cx.listener(name.clone(), node, at, &mut bound) {
                out.insert(name, listener);
            }
        });
        if out.is_empty() && self.errors.len() == errors {
            let help = "remove `listeners` for ports 80 and 443";
            let pos = top.pos_of("listeners");
            self.error(pos, &top.at.key("listeners"), "there is no listener", Some(help.into()));
        }
        out
    }

    fn listener(
        &mut self,
        name: Name,
        node: &Node,
        at: &At<'_>,
        bound: &mut Vec<(SocketAddr, Pos, Name)>,
    ) -> Option<Listener> {
        let fields = self.fields(node, at, &keys::LISTENER)?;
        let bind = self.required(&fields, "bind", |cx, node, at| {
            cx.list(node, at, 1..=64, |cx, node, at| {
                let address = cx.value(node, at, socket_address)?;
                cx.bind_once(address, node, at, &name, bound);
                Some(address)
            })
        });
        let mut listener = Listener::new(name.clone(), bind.unwrap_or_default());
        listener.tls = self.field(&fields, "tls", Self::tls);
        let redirect =
            self.field(&fields, "redirect_to", |cx, node, at| cx.word(node, at, &[("https", ())]));
        listener.redirect_to_https = redirect.is_some();
        if fields.has("tls") && fields.has("redirect_to") {
            let help = "`redirect_to: https` is for plaintext listeners";
            let message = "the listener has `tls` and redirects to https";
            self.error(fields.pos_of("redirect_to"), at, message, Some(help.into()));
        }
        let port =
            self.field(&fields, "public_port", |cx, node, at| cx.number(node, at, 1..=65535));
        listener.public_port = port.and_then(|port| u16::try_from(port).ok());
        if let Some(limits) = self.field(&fields, "limits", Self::listener_limits) {
            listener.limits = limits;
        }
        if let Some(timeouts) = self.field(&fields, "timeouts", Self::listener_timeouts) {
            listener.timeouts = timeouts;
        }
        if let Some(http2) = self.field(&fields, "http2", Self::http2) {
            listener.http2 = http2;
        }
        if let Some(allow) = self.field(&fields, "allow_underscores", Self::boolean) {
            listener.allow_underscores = allow;
        }
        listener.proxy_protocol =
            self.field(&fields, "proxy_protocol", Self::proxies).unwrap_or_default();
        if !fields.has("tls") && listener.bind.iter().any(|address| address.port() == 443) {
            let message = format!("listener `{name}` has port 443 and speaks plaintext");
            self.warn(fields.pos, at, message, Some("write `tls: {}`".into()));
        }
        Some(listener)
    }

    /// Who begins connections with a PROXY protocol header. An empty list would be read as nobody by
    /// some and as everybody by others.
    fn proxies(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<IpNet>> {
        if let Kind::Scalar(_) = node.kind {
            let message = "expected a list, found a single value";
            let help = "name the networks of your load balancers: `[192.0.2.0/24]`";
            self.error(node.pos, at, message, Some(help.into()));
            return None;
        }
        self.list(node, at, 1..=1000, Self::network)
    }

    /// The same address twice would fail only when it is bound, after the file was accepted.
    fn bind_once(
        &mut self,
        address: SocketAddr,
        node: &Node,
        at: &At<'_>,
        listener: &Name,
        bound: &mut Vec<(SocketAddr, Pos, Name)>,
    ) {
        let clash = bound.iter().find(|(other, ..)| {
            address.port() != 0
                && other.port() == address.port()
                && (other.ip() == address.ip()
                    || other.ip().is_unspecified() && address.ip().is_unspecified())
        });
        if let Some((_, pos, by)) = clash {
            let message = format!(
                "{} is the same port as an address of listener `{by}` (line {})",
                shown(node, &address.to_string()),
                pos.line
            );
            let help = "`[::]` takes IPv4 as well; remove one of the two";
            return self.error(node.pos, at, message, Some(help.into()));
        }
        bound.push((address, node.pos, listener.clone()));
    }

    fn tls(&mut self, node: &Node, at: &At<'_>) -> Option<TlsPolicy> {
        let fields = self.fields(node, at, &keys::LISTENER_TLS)?;
        let mut tls = TlsPolicy::default();
        if let Some(version) = self.field(&fields, "min_version", |cx, node, at| {
            cx.word(node, at, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
        }) {
            tls.min_version = version;
        }
        tls.default_certificate = self
            .field(&fields, "default_certificate", |cx, node, at| cx.value(node, at, Name::new));
        Some(tls)
    }

    fn listener_limits(&mut self, node: &Node, at: &At<'_>) -> Option<ListenerLimits> {
        let fields = self.fields(node, at, &keys::LISTENER_LIMITS)?;
        let connections =
            self.field(&fields, "connections", |cx, node, at| cx.count(node, at, CONNECTIONS));
        let mut limits = ListenerLimits { connections, ..ListenerLimits::default() };
        for (name, range, slot) in [
            ("connections_per_ip", CONNECTIONS, &mut limits.connections_per_ip),
            ("head_fields", 1..=100, &mut limits.head_fields),
            ("handshakes", CONNECTIONS, &mut limits.handshakes),
        ] {
            let read = self.field(&fields, name, |cx, node, at| cx.count(node, at, range));
            *slot = read.unwrap_or(*slot);
        }
        for (name, range, slot) in [
            ("head_bytes", 1024..=64 * 1024, &mut limits.head_bytes),
            ("target_bytes", 256..=64 * 1024, &mut limits.target_bytes),
        ] {
            let read = self.field(&fields, name, |cx, node, at| cx.size(node, at, range));
            *slot = read.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(*slot);
        }
        self.connection_rate(&fields, &mut limits);
        if limits.target_bytes > limits.head_bytes {
            if fields.has("target_bytes") {
                let message = "`target_bytes` is more than `head_bytes`, which holds the target";
                self.error(fields.pos_of("target_bytes"), at, message, None);
            } else {
                limits.target_bytes = limits.head_bytes;
            }
        }
        Some(limits)
    }

    fn listener_timeouts(&mut self, node: &Node, at: &At<'_>) -> Option<ListenerTimeouts> {
        let fields = self.fields(node, at, &keys::LISTENER_TIMEOUTS)?;
        let mut timeouts = ListenerTimeouts::default();
        for (name, slot) in [
            ("handshake", &mut timeouts.handshake),
            ("head", &mut timeouts.head),
            ("keep_alive", &mut timeouts.keep_alive),
            ("body_progress", &mut timeouts.body_progress),
            ("write_progress", &mut timeouts.write_progress),
            ("http2_idle", &mut timeouts.http2_idle),
        ] {
            let read = self.field(&fields, name, |cx, node, at| cx.duration(node, at, TIMEOUT));
            *slot = read.unwrap_or(*slot);
        }
        if let Some(rate) = self.field(&fields, "body_min_rate", |cx, node, at| {
            cx.size(node, at, 0..=1024 * 1024 * 1024)
        }) {
            timeouts.body_min_rate = rate;
        }
        Some(timeouts)
    }

    fn http2(&mut self, node: &Node, at: &At<'_>) -> Option<Http2Policy> {
        let fields = self.fields(node, at, &keys::HTTP2)?;
        let mut http2 = Http2Policy::default();
        if let Some(enabled) = self.field(&fields, "enabled", Self::boolean) {
            http2.enabled = enabled;
        }
        let streams =
            self.field(&fields, "max_streams", |cx, node, at| cx.number(node, at, 1..=1000));
        if let Some(streams) = streams.and_then(|streams| u32::try_from(streams).ok()) {
            http2.max_streams = streams;
        }
        Some(http2)
    }
}

const MAX_LISTENERS: usize = 64;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
/// What a timeout may be, of listeners and upstreams.
pub(crate) const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(30 * 24 * 3600);
