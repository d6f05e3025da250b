//! `routes:`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::entries::Claims;
use super::global::Defaults;
use super::headers::check_header_value;
use super::read::shown;
use super::redirect::Paths;
use super::{At, Cx, Fields, keys};
use crate::model::{Action, Entry, FixedResponse, Hsts, PathRule, Rewrite, Route};
use crate::node::{Kind, Node};
use crate::value::{ByteSize, HostPattern, MethodName, Name, NormPath, ValueError, quote};

impl Route {
    /// The upstreams it forwards to, if it does.
    pub fn upstreams(&self) -> Vec<&Name> {
        match &self.action {
            Action::Upstream(name) => vec![name],
            Action::Split(parts) => parts.iter().map(|part| &part.upstream).collect(),
            Action::Redirect(_) | Action::Respond(_) => Vec::new(),
        }
    }
}

impl Cx<'_> {
    pub(crate) fn routes(
        &mut self,
        top: &Fields<'_, '_>,
        defaults: &Defaults,
    ) -> BTreeMap<Name, Entry<Route>> {
        self.entries(top, "routes", |cx, name, node, at| cx.route(name, node, at, defaults))
    }

    /// The route, and what it claims even if it cannot be used.
    fn route(
        &mut self,
        name: &Name,
        node: &Node,
        at: &At<'_>,
        defaults: &Defaults,
    ) -> (Option<Route>, Claims) {
        let Some(fields) = self.fields(node, at, &keys::ROUTE) else { return (None, Vec::new()) };
        let hosts = self.required(&fields, "hosts", Self::hosts).unwrap_or_default();
        let path = self.path_of(&fields);
        let claims = hosts.iter().map(|host| (host.clone(), path.clone())).collect();
        let route = self.route_with(name, &fields, defaults, (hosts, path), Self::action);
        (route, claims)
    }

    pub(super) fn path_of(&mut self, fields: &Fields<'_, '_>) -> PathRule {
        let path = self.field(fields, "path", Self::path_rule);
        // A path that cannot be read claims the whole host, as far as no other route does.
        path.unwrap_or_else(root)
    }

    /// What routes and templates of tenants have in common.
    pub(super) fn route_with(
        &mut self,
        name: &Name,
        fields: &Fields<'_, '_>,
        defaults: &Defaults,
        (hosts, path): (Vec<HostPattern>, PathRule),
        action: impl FnOnce(&mut Self, &Fields<'_, '_>, &PathRule, Option<&Rewrite>) -> Option<Action>,
    ) -> Option<Route> {
        let methods = self.field(fields, "methods", Self::methods);
        let filters = self.filters(fields, &path);
        let action = action(self, fields, &path, filters.rewrite.as_ref());
        let body_limit = self.field(fields, "body_limit", Self::body_limit);
        let headers = self.field(fields, "headers", Self::header_rules);
        if filters.cors.is_some() {
            self.warn_about_preflights(fields, methods.as_deref());
            self.warn_about_doubled_fields(fields, headers.as_ref());
        }
        let hsts = self.field(fields, "hsts", Self::hsts);
        let timeouts = self.field(fields, "timeouts", Self::route_timeouts);
        let retry = self.field(fields, "retry", Self::route_retry);
        self.only_when_forwarding(fields);
        let demands = self.demands(fields, &path);
        let access_log = self.field(fields, "access_log", Self::boolean);
        action.map(|action| Route {
            name: name.clone(),
            hosts,
            path,
            methods: methods.unwrap_or_default(),
            action,
            body_limit: body_limit.unwrap_or(defaults.body_limit),
            rate_limits: demands.rate_limits,
            access: demands.access,
            maintenance: filters.maintenance,
            cors: filters.cors,
            rewrite: filters.rewrite,
            pacing: demands.pacing,
            error_pages: filters.error_pages,
            headers: headers.unwrap_or_default(),
            security_headers: filters.security_headers,
            hsts,
            access_log: access_log.unwrap_or(defaults.access_log),
            timeouts: timeouts.unwrap_or_default(),
            retry: retry.unwrap_or_default(),
            tenant: None,
        })
    }

    fn hosts(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<HostPattern>> {
        self.distinct(node, at, 1..=1000, |cx, node, at| {
            let host = cx.value(node, at, HostPattern::parse)?;
            if let HostPattern::Wildcard(suffix) = &host
                && !suffix.contains('.')
                && !RESERVED_SUFFIXES.contains(&&**suffix)
            {
                let message = format!(
                    "{} covers every name of a top-level domain",
                    shown(node, &host.to_string())
                );
                cx.warn(node.pos, at, message, None);
            }
            Some(host)
        })
    }

    fn path_rule(&mut self, node: &Node, at: &At<'_>) -> Option<PathRule> {
        if let Kind::Scalar(_) = node.kind {
            return self.value(node, at, NormPath::parse).map(PathRule::Prefix);
        }
        let fields = self.fields(node, at, &keys::PATH)?;
        let exact =
            self.field(&fields, "exact", |cx, node, at| cx.value(node, at, NormPath::parse));
        let prefix =
            self.field(&fields, "prefix", |cx, node, at| cx.value(node, at, NormPath::parse));
        if fields.has("exact") == fields.has("prefix") {
            let help = "write `{ exact: /x }` or `{ prefix: /x }`";
            self.error(node.pos, at, "a path is either `exact` or `prefix`", Some(help.into()));
            return None;
        }
        exact.map(PathRule::Exact).or(prefix.map(PathRule::Prefix))
    }

    fn methods(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<MethodName>> {
        self.distinct(node, at, 1..=32, |cx, node, at| cx.value(node, at, MethodName::parse))
    }

    /// Exactly one of [`ACTIONS`]. Whether an upstream exists is for `merge` to say.
    fn action(
        &mut self,
        fields: &Fields<'_, '_>,
        rule: &PathRule,
        rewrite: Option<&Rewrite>,
    ) -> Option<Action> {
        let paths = Paths { rule, rewrite, rewritten: fields.has("rewrite") };
        let upstream = self.field(fields, "upstream", |cx, node, at| cx.value(node, at, Name::new));
        let split = self.field(fields, "split", Self::split);
        let redirect = self.field(fields, "redirect", |cx, node, at| cx.redirect(node, at, paths));
        let respond = self.field(fields, "respond", Self::respond);
        let written: Vec<&str> = ACTIONS.iter().copied().filter(|key| fields.has(key)).collect();
        match written.as_slice() {
            [] => {
                let help = "write `upstream`, `split`, `redirect` or `respond`";
                self.error(fields.pos, fields.at, "the route does nothing", Some(help.into()));
            }
            [_] => {}
            [first, second, ..] => {
                let message = format!("the route has both `{first}` and `{second}`");
                self.error(
                    fields.pos_of(second),
                    fields.at,
                    message,
                    Some("keep one of them".into()),
                );
                return None;
            }
        }
        let redirect = redirect.map(Action::Redirect);
        let upstream = upstream.map(Action::Upstream).or(split.map(Action::Split));
        upstream.or(redirect).or(respond.map(Action::Respond))
    }

    fn respond(&mut self, node: &Node, at: &At<'_>) -> Option<FixedResponse> {
        let fields = self.fields(node, at, &keys::RESPOND)?;
        let status =
            self.required(&fields, "status", |cx, node, at| cx.number(node, at, 200..=599));
        let content_type = self.field(&fields, "content_type", |cx, node, at| {
            cx.value(node, at, |text| {
                let error = |why| ValueError::new("a media type such as `text/plain`", why);
                check_header_value(text).map_err(|why| error(why.to_owned()))?;
                match text.split_once('/') {
                    Some((kind, rest)) if !kind.is_empty() && !rest.is_empty() => {
                        Ok(text.to_owned())
                    }
                    _ => Err(error(format!("{} is no media type", quote(text)))),
                }
            })
        });
        let body = self.field(&fields, "body", |cx, node, at| {
            let body = cx.text(node, at)?;
            if body.len() > MAX_RESPOND_BODY {
                cx.error(node.pos, at, "the body is larger than 64 KiB", None);
            }
            Some(body.into_owned())
        });
        let status = u16::try_from(status?).ok()?;
        if matches!(status, 204 | 205 | 304) && body.as_deref().is_some_and(|body| !body.is_empty())
        {
            let message = format!("a response with status {status} has no body");
            self.error(fields.pos_of("body"), at, message, Some("remove `body`".into()));
        }
        Some(FixedResponse { status, content_type, body: body.unwrap_or_default() })
    }

    /// `Some(None)`: unlimited.
    pub(crate) fn body_limit(&mut self, node: &Node, at: &At<'_>) -> Option<Option<u64>> {
        self.value(node, at, |text| match text {
            "unlimited" => Ok(None),
            "off" | "none" | "-1" => {
                let message = format!("{} is no size", quote(text));
                Err(ValueError::new("a size", message).help("write `unlimited`"))
            }
            _ => text.parse().map(|ByteSize(bytes)| Some(bytes)),
        })
    }

    fn hsts(&mut self, node: &Node, at: &At<'_>) -> Option<Hsts> {
        let fields = self.fields(node, at, &keys::HSTS)?;
        let max_age =
            self.required(&fields, "max_age", |cx, node, at| cx.duration(node, at, HSTS_MAX_AGE));
        let include_subdomains = self.field(&fields, "include_subdomains", Self::boolean);
        let preload = self.field(&fields, "preload", Self::boolean);
        let hsts = Hsts {
            max_age: max_age?,
            include_subdomains: include_subdomains.unwrap_or(false),
            preload: preload.unwrap_or(false),
        };
        let year = Duration::from_secs(365 * 24 * 3600);
        if hsts.preload && (!hsts.include_subdomains || hsts.max_age < year) {
            let message = "preload lists ask for `include_subdomains: true` and `max_age: 365d`";
            self.warn(fields.pos_of("preload"), at, message, None);
        }
        Some(hsts)
    }
}

fn root() -> PathRule {
    PathRule::Prefix(NormPath::root())
}

const ACTIONS: &[&str] = &["upstream", "split", "redirect", "respond"];
/// Names that nobody owns on the internet (RFC 6761, RFC 8375, and `internal`).
pub(super) const RESERVED_SUFFIXES: &[&str] =
    &["example", "test", "localhost", "local", "internal", "lan", "home", "invalid", "corp"];
const MAX_RESPOND_BODY: usize = 64 * 1024;
const HSTS_MAX_AGE: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(10 * 365 * 24 * 3600);
