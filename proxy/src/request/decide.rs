//! From an admitted head and the snapshot to a decision: pure, synchronous, one screen.
//!
//! The order of steps is fixed (design.md #16): frame and Host admitted (before this), the
//! challenge of a validating CA, find the route, what the route asks for ([`super::policy`]), forward.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use acme::challenge::Challenges;

use super::affinity::affinity;
use super::cause::{Cause, Rejection};
use super::challenge;
use super::client::Client;
use super::grpc;
use super::plan::{Answer, AnswerKind, Decision, Plan, Terms};
use super::policy;
use super::view::{FieldSource, HeadView, split_target};
use crate::access;
use crate::access::passwords::Passwords;
use crate::downstream::cert_table::CertTable;
use crate::filter::pages::ErrorForm;
use crate::http1::head::Expect;
use crate::limit::{KeyHasher, Moment};
use crate::metrics::Metrics;
use crate::route::table::{Action, Redirect, Route, RouteTarget, Snapshot};

/// What requests are decided by.
#[derive(Clone, Copy)]
pub struct Tables<'s> {
    pub snapshot: &'s Snapshot,
    pub challenges: &'s Challenges,
    pub certs: &'s CertTable,
    /// Makes keys of limits.
    pub hasher: &'s KeyHasher,
    pub passwords: &'s Passwords,
    /// When the request came.
    pub now: Moment,
    /// `None`: nothing is counted (tests of a configuration).
    pub metrics: Option<&'s Metrics>,
}

impl Tables<'_> {
    /// Whether requests count on limits. Tests of a configuration do not, however many of them ask
    /// for one route.
    pub fn counts(&self) -> bool {
        self.metrics.is_some()
    }

    pub fn count_auth(&self, route: &Route, decision: access::Decision) {
        if let (Some(metrics), Some(access)) = (self.metrics, &route.access) {
            access.count(metrics, route.series.name.as_str(), decision);
        }
    }
}

/// Decides for a request that comes from `origin`; normalises `view.target` where the host has path
/// rules (design.md #15), and rewrites it where the route does.
pub fn decide<F: FieldSource>(
    view: &mut HeadView<'_, F>,
    client: &Client,
    origin: IpAddr,
    tables: &Tables<'_>,
) -> Decision {
    if let Some(answer) = challenge::answer(view, client, tables.challenges) {
        return Decision::Answer(answer);
    }
    match find(view, client, tables) {
        Ok(found) => act(view, (client, origin), found, tables),
        Err(rejection) => Decision::Answer(Answer::reject(None, rejection)),
    }
}

/// What was found for a request.
enum Found<'s> {
    Route(&'s Arc<Route>),
    /// The listener sends everything to https.
    ToHttps(u16),
}

fn find<'s, F: FieldSource>(
    view: &mut HeadView<'_, F>,
    client: &Client,
    tables: &Tables<'s>,
) -> Result<Found<'s>, Rejection> {
    let snapshot = tables.snapshot;
    if view.expect == Expect::Other {
        return Err(Cause::ExpectationFailed.into());
    }
    if !client.certificate_covers(&view.host) {
        return Err(Cause::Misdirected.into());
    }
    let host = snapshot.hosts.find(&view.host).ok_or_else(|| unknown(view, client, snapshot))?;
    if host.path_rules {
        normalise(view)?;
    }
    if let Some(listener) = snapshot.listeners.get(client.listener)
        && let Some(port) = listener.redirect_https_port
        // A browser would end at a warning; http serves until there is something to be trusted.
        && !tables.certs.is_placeholder(&view.host)
    {
        return Ok(Found::ToHttps(port));
    }
    let rule = host.find(view.path(), view.method, client.tls.is_some()).ok_or(Cause::NoRoute)?;
    Ok(Found::Route(&rule.route))
}

/// Who kept a connection to a tenant that was removed is to make another one.
fn unknown<F>(view: &HeadView<'_, F>, client: &Client, snapshot: &Snapshot) -> Cause {
    match client.tls.is_some() && snapshot.removed.contains(&view.host) {
        true => Cause::Misdirected,
        false => Cause::UnknownHost,
    }
}

fn act<F: FieldSource>(
    view: &mut HeadView<'_, F>,
    (client, origin): (&Client, IpAddr),
    found: Found<'_>,
    tables: &Tables<'_>,
) -> Decision {
    let route = match found {
        Found::Route(route) => route,
        Found::ToHttps(port) => {
            let kind = redirect(&Redirect::to_https(port), view);
            return Decision::Answer(Answer::new(None, kind));
        }
    };
    let terms = match policy::admit(route, view, origin, tables) {
        Ok(terms) => terms,
        Err(answer) => return Decision::Answer(*answer),
    };
    let kind = match &route.action {
        Action::Forward(targets) => match targets.pick() {
            Some(target) => {
                let (route, target) = (route.clone(), target.clone());
                return Decision::Forward(plan((route, target), view, (client, origin), terms));
            }
            None => AnswerKind::Reject(Cause::Internal.into()),
        },
        // A rewrite that does not fit leaves the client where it is.
        Action::Redirect(to) if !terms.rewritten && loops(to, view, client, tables) => {
            AnswerKind::Reject(Rejection { cause: Cause::NoRoute, detail: "redirect_loop" })
        }
        Action::Redirect(to) => redirect(to, view),
        Action::Respond(_) => AnswerKind::Respond,
        Action::Quarantined => AnswerKind::Reject(Cause::Quarantined.into()),
    };
    Decision::Answer(Answer { route: Some(route.clone()), kind, terms })
}

fn loops<F>(to: &Redirect, view: &HeadView<'_, F>, client: &Client, tables: &Tables<'_>) -> bool {
    let listener = tables.snapshot.listeners.get(client.listener);
    let port = listener.map_or(0, |listener| listener.public_port);
    to.leads_back(&view.host, &view.target, client, port)
}

fn plan<F: FieldSource>(
    (route, target): (Arc<Route>, Arc<RouteTarget>),
    view: &HeadView<'_, F>,
    (client, origin): (&Client, IpAddr),
    terms: Terms,
) -> Plan {
    let upstream = &target.upstream;
    let affinity = affinity(&upstream.spec, view, origin);
    let deadline = grpc::deadline(view).into_iter().chain(target.timeouts.total).min();
    let source =
        if upstream.transport.proxy_protocol.is_some() { client.proxy_source() } else { None };
    Plan {
        route,
        target,
        body: view.body,
        head_request: view.method == "HEAD",
        expect_continue: view.expect == Expect::Continue && !view.http10,
        websocket: view.websocket,
        // RFC 9110 §9.2.2.
        idempotent: matches!(view.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
        http10: view.http10,
        form: ErrorForm::of(&view.fields),
        deadline,
        affinity,
        secure: client.tls.is_some(),
        source,
        terms,
        pacers: None,
    }
}

/// `Location` from configured names and the request's own path, never from other client text. A
/// redirect that keeps the scheme is scheme-relative (`//host/path`, RFC 3986 §4.2).
fn redirect<F>(to: &Redirect, view: &HeadView<'_, F>) -> AnswerKind {
    let host = to.host.as_deref().unwrap_or(&view.host);
    let (path, query) = split_target(&view.target);
    let path = to.path.as_deref().map_or(path, str::as_bytes);
    let mut location = Vec::with_capacity(16 + host.len() + path.len() + query.len());
    location.extend_from_slice(if to.https { b"https://" } else { b"//" });
    location.extend_from_slice(host.as_bytes());
    if let Some(port) = to.port.filter(|port| !to.https || *port != 443) {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    // `*` of OPTIONS is no path.
    location.extend_from_slice(if path.starts_with(b"/") { path } else { b"/" });
    if to.keep_query {
        location.extend_from_slice(query);
    }
    AnswerKind::Redirect { status: to.status, location }
}

fn normalise<F>(view: &mut HeadView<'_, F>) -> Result<(), Rejection> {
    let (path, query) = split_target(&view.target);
    if path == b"*" {
        return Ok(());
    }
    match config::value::normalise(path) {
        Ok(Cow::Borrowed(_)) => {}
        Ok(Cow::Owned(mut normal)) => {
            normal.extend_from_slice(query);
            view.target = Cow::Owned(normal);
        }
        Err(_) => return Err(Rejection::bad("ambiguous_path")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use config::NoEnvironment;

    use super::*;
    use crate::downstream::cert_table::Certs;
    use crate::downstream::cert_table::testing::entry;
    use crate::http1::head::{FieldSlots, HeadLimits, parse_request};
    use crate::request::admit::admit_h1;
    use crate::request::client::TlsInfo;
    use crate::route::compile::lab;

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const FILE: &str = "version: 1\n\
        listeners:\n  http: { bind: ['127.0.0.1:0'], redirect_to: https }\n  \
        https: { bind: ['127.0.0.1:0'], public_port: 443, tls: {} }\n  \
        plain: { bind: ['127.0.0.1:0'] }\n\
        upstreams: { u: { endpoints: ['127.0.0.1:2'] } }\n\
        routes:\n  app: { hosts: [app.openclaw.example], upstream: u }\n  \
        api: { hosts: [api.openclaw.example], upstream: u }\n  \
        closed: { hosts: [api.openclaw.example], path: /.well-known, respond: { status: 403 } }\n";

    struct Bench {
        snapshot: Snapshot,
        challenges: Challenges,
        certs: CertTable,
    }

    /// Tokens of `app`, `api` and of a host without a route are under way.
    fn bench() -> Bench {
        let read = config::parse("edge.yaml", FILE, &NoEnvironment).unwrap();
        let snapshot = lab::compile(&config::merge(None, read));
        let challenges = Challenges::default();
        for host in ["app", "api", "new"] {
            challenges.offer(&format!("{host}.openclaw.example"), TOKEN, host).unwrap();
        }
        Bench { snapshot, challenges, certs: CertTable::new() }
    }

    impl Bench {
        fn ask(&self, listener: &str, head: &str) -> String {
            let shown = Some(Arc::new(entry("app.openclaw.example", false)));
            let tls = (listener == "https").then(|| TlsInfo {
                version: "TLSv1.3",
                server_name: Some("app.openclaw.example".into()),
                certificate: shown,
            });
            let at = |l: &Arc<crate::route::table::ListenerPolicy>| l.name.as_str() == listener;
            let listener = self.snapshot.listeners.iter().position(at).unwrap();
            let client = Client::new(listener, (IpAddr::from([192, 0, 2, 1]), 4000).into(), tls);
            let limits = HeadLimits { head_bytes: 9999, fields: 99, target_bytes: 9999 };
            let mut slots = FieldSlots::new();
            let head = parse_request(head.as_bytes(), limits, &mut slots).unwrap().unwrap();
            let mut view = admit_h1(&head).unwrap();
            let (challenges, certs) = (&self.challenges, &self.certs);
            match decide(
                &mut view,
                &client,
                client.peer,
                &Tables {
                    snapshot: &self.snapshot,
                    challenges,
                    certs,
                    hasher: &KeyHasher::random(),
                    passwords: &Passwords::new(),
                    now: Moment::now(),
                    metrics: None,
                },
            ) {
                Decision::Forward(plan) => format!("route {}", plan.route.name),
                Decision::Answer(Answer { route, kind, .. }) => match kind {
                    AnswerKind::Reject(rejection) => rejection.cause.code().to_owned(),
                    AnswerKind::Redirect { location, .. } => {
                        format!("to {}", String::from_utf8(location).unwrap())
                    }
                    AnswerKind::Respond => format!("fixed {}", route.unwrap().name),
                    AnswerKind::Challenge(key) => format!("key {key}"),
                    AnswerKind::Refuse(refusal) => refusal.rejection.cause.code().to_owned(),
                    AnswerKind::Preflight => "preflight".to_owned(),
                },
            }
        }

        /// The same for a method, host and target.
        fn get(&self, listener: &str, method: &str, host: &str, target: &str) -> String {
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: {host}.openclaw.example\r\n\r\n");
            self.ask(listener, &head)
        }
    }

    fn path() -> String {
        format!("/.well-known/acme-challenge/{TOKEN}")
    }

    #[test]
    fn a_challenge_comes_before_every_other_step() {
        let bench = bench();
        for listener in ["http", "https", "plain"] {
            for method in ["GET", "HEAD"] {
                let get = |host| bench.get(listener, method, host, &path());
                assert_eq!(get("app"), "key app");
                // Another certificate was shown; a rule closes the path; a host without a route.
                assert_eq!(get("api"), "key api");
                assert_eq!(get("new"), "key new");
            }
        }
        assert_eq!(bench.challenges.hits("app.openclaw.example").count, 6);
        let peer = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(bench.challenges.hits("app.openclaw.example").peers, [peer]);
    }

    #[test]
    fn whatever_is_no_challenge_goes_the_way_of_all_requests() {
        let bench = bench();
        let location = format!("to https://app.openclaw.example{}", path());
        let other = path().replace("eva", "abc");
        let other_location = format!("to https://app.openclaw.example{other}");
        for (listener, method, host, target, outcome) in [
            ("http", "POST", "app", path(), location.as_str()),
            ("http", "DELETE", "app", path(), &location),
            ("http", "GET", "app", other.clone(), &other_location),
            ("plain", "POST", "app", path(), "route app"),
            ("plain", "GET", "app", other.clone(), "route app"),
            ("plain", "GET", "app", path() + "x", "route app"),
            ("plain", "GET", "app", path() + "/", "route app"),
            ("plain", "GET", "app", path().replace("/evaG", "//evaG"), "route app"),
            ("plain", "GET", "app", path().replace("acme", "%61cme"), "route app"),
            ("plain", "GET", "app", "/.well-known/acme-challenge/".to_owned(), "route app"),
            ("plain", "POST", "api", path(), "fixed closed"),
            ("plain", "GET", "api", path() + "x", "fixed closed"),
            ("plain", "GET", "new", path() + "x", "unknown_host"),
            ("https", "GET", "app", path() + "x", "route app"),
            ("https", "GET", "api", path() + "x", "misdirected"),
            ("https", "POST", "new", path(), "misdirected"),
        ] {
            let got = bench.get(listener, method, host, &target);
            assert_eq!(got, outcome, "{listener} {method} {host} {target}");
        }
        assert_eq!(bench.challenges.hits("app.openclaw.example").count, 0);
    }

    #[test]
    fn a_challenge_is_known_in_every_spelling_of_a_request() {
        let bench = bench();
        let path = path();
        for (head, taken) in [
            (format!("GET {path} HTTP/1.0\r\nHost: app.openclaw.example\r\n\r\n"), true),
            (format!("GET {path} HTTP/1.1\r\nHost: APP.openclaw.Example.:80\r\n\r\n"), true),
            (format!("GET {path}?a=b HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"), true),
            (format!("GET http://App.openclaw.example:80{path} HTTP/1.1\r\nHost: x\r\n\r\n"), true),
            (format!("GET http://x{path} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"), false),
            (
                format!("GET {path} HTTP/1.1\r\nHost: app.openclaw.example\r\nExpect: x\r\n\r\n"),
                true,
            ),
        ] {
            assert_eq!(bench.ask("http", &head) == "key app", taken, "{head}");
        }
    }

    #[test]
    fn a_host_with_a_placeholder_is_not_sent_to_https() {
        let bench = bench();
        assert_eq!(bench.get("http", "GET", "app", "/x"), "to https://app.openclaw.example/x");
        let (app, api) = ("app.openclaw.example", "api.openclaw.example");
        bench.certs.publish(Certs::new([entry(app, true), entry(api, false)].map(Arc::new)));
        assert_eq!(bench.get("http", "GET", "app", "/x"), "route app");
        assert_eq!(bench.get("http", "GET", "api", "/x"), "to https://api.openclaw.example/x");
        assert_eq!(bench.get("http", "GET", "new", "/x"), "unknown_host");
        bench.certs.publish(Certs::new([Arc::new(entry(app, false))]));
        assert_eq!(bench.get("http", "GET", "app", "/x"), "to https://app.openclaw.example/x");
    }

    #[test]
    fn a_placeholder_is_no_ground_for_hsts() {
        let client = |certificate| {
            let tls = TlsInfo { version: "TLSv1.3", server_name: None, certificate };
            Client::new(0, (IpAddr::from([192, 0, 2, 1]), 4000).into(), Some(tls))
        };
        let shown = |placeholder| Some(Arc::new(entry("app.openclaw.example", placeholder)));
        assert!(client(shown(false)).hsts_allowed());
        assert!(!client(shown(true)).hsts_allowed());
        assert!(!Client::new(0, (IpAddr::from([192, 0, 2, 1]), 4000).into(), None).hsts_allowed());
    }
}
