//! `upstreams:`, and what `defaults.upstream` says of all of them.

mod balance;
mod endpoints;
mod health;
mod policy;
mod transport;

use std::collections::BTreeMap;

use super::global::Defaults;
use super::{At, Cx, Fields, keys};
use crate::model::{EndpointAddress, Entry, Upstream, UpstreamProtocol};
use crate::node::Node;
use crate::value::Name;

impl Cx<'_> {
    pub(crate) fn upstreams(
        &mut self,
        top: &Fields<'_, '_>,
        defaults: &Defaults,
    ) -> BTreeMap<Name, Entry<Upstream>> {
        self.entries(top, "upstreams", |cx, name, node, at| {
            (cx.upstream(name, node, at, &defaults.upstream), Vec::new())
        })
    }

    fn upstream(
        &mut self,
        name: &Name,
        node: &Node,
        at: &At<'_>,
        defaults: &Upstream,
    ) -> Option<Upstream> {
        let fields = self.fields(node, at, &keys::UPSTREAM)?;
        let endpoints = self.required(&fields, "endpoints", Self::endpoints);
        let mut upstream = Upstream { name: name.clone(), ..defaults.clone() };
        self.upstream_manners(&fields, &mut upstream);
        upstream.endpoints = endpoints?;
        self.check_together(&fields, &upstream);
        Some(upstream)
    }

    /// `upstream:` of a template of tenants: every key but `endpoints`. `unix`: endpoints are
    /// sockets.
    pub(super) fn tenant_upstream(
        &mut self,
        node: &Node,
        at: &At<'_>,
        defaults: &Upstream,
        unix: bool,
    ) -> Option<Upstream> {
        self.mapping(node, at, "write `{ protocol: http2 }`; the address stands in `endpoint`")?;
        let fields = self.fields(node, at, &keys::TENANT_UPSTREAM)?;
        let mut upstream = defaults.clone();
        self.upstream_manners(&fields, &mut upstream);
        self.check_kind(&fields, &upstream, unix);
        Some(upstream)
    }

    fn upstream_manners(&mut self, fields: &Fields<'_, '_>, upstream: &mut Upstream) {
        self.upstream_policy(fields, upstream);
        upstream.sticky = self.field(fields, "sticky", Self::sticky);
        if let Some(protocol) = self.field(fields, "protocol", Self::upstream_protocol) {
            upstream.protocol = protocol;
        }
        let name = upstream.name.clone();
        upstream.tls = self.field(fields, "tls", |cx, node, at| cx.upstream_tls(&name, node, at));
        upstream.proxy_protocol = self.field(fields, "proxy_protocol", Self::proxy_header);
    }

    /// The keys that `defaults.upstream` has as well. One that is written replaces what was there
    /// as a whole; timeouts are replaced one by one.
    pub(crate) fn upstream_policy(&mut self, fields: &Fields<'_, '_>, upstream: &mut Upstream) {
        if let Some(balance) = self.field(fields, "balance", Self::balance) {
            upstream.balance = balance;
        }
        if let Some(time) = self.field(fields, "slow_start", Self::slow_start) {
            upstream.slow_start = time;
        }
        if let Some(health) = self.field(fields, "health", Self::health) {
            upstream.health = health;
        }
        if let Some(ejection) = self.field(fields, "ejection", Self::ejection) {
            upstream.ejection = ejection;
        }
        if let Some(retries) = self.field(fields, "retries", Self::retries) {
            upstream.retries = retries;
        }
        if let Some(queue) = self.field(fields, "queue", Self::queue) {
            upstream.queue = queue;
        }
        if let Some(limits) = self.field(fields, "limits", Self::upstream_limits) {
            upstream.limits = limits;
        }
        let timeouts = &mut upstream.timeouts;
        self.field(fields, "timeouts", |cx, node, at| cx.upstream_timeouts(node, at, timeouts));
    }

    /// Values that are good alone and not beside each other.
    fn check_together(&mut self, fields: &Fields<'_, '_>, upstream: &Upstream) {
        let mut addresses = upstream.endpoints.iter().map(|endpoint| &endpoint.address);
        let has_unix = addresses.any(|address| matches!(address, EndpointAddress::Unix(_)));
        self.check_kind(fields, upstream, has_unix);
    }

    fn check_kind(&mut self, fields: &Fields<'_, '_>, upstream: &Upstream, has_unix: bool) {
        let mut refuse = |key: &str, message: &str, help: &str| {
            self.error(fields.pos_of(key), &fields.at.key(key), message, Some(help.to_owned()));
        };
        if upstream.proxy_protocol.is_some() && upstream.protocol == UpstreamProtocol::Http2 {
            refuse(
                "proxy_protocol",
                "`proxy_protocol` names one client, an HTTP/2 connection carries many",
                "remove `proxy_protocol`, or `protocol: http2`",
            );
        }
        if has_unix && upstream.tls.as_ref().is_some_and(|tls| tls.server_name.is_none()) {
            refuse(
                "tls",
                "a unix socket has no name that a certificate could show",
                "write `tls: { server_name: api.internal }`",
            );
        }
        if has_unix && upstream.health.as_ref().is_some_and(|health| health.port.is_some()) {
            refuse(
                "health",
                "`health.port` asks another port, a unix socket has none",
                "remove `port` of the health check",
            );
        }
    }
}
