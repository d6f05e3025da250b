//! Counting on the hot path: plain cells per worker and route, flushed into the shared metric
//! families by the worker's tick. Labels are looked up once per worker, route and outcome: which
//! methods and codes there will be no table knows, and all of them would be thousands of series.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use config::value::Name;
use http::StatusCode;
use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{IntCounter, IntGauge};

use crate::metrics::{Kept, Metrics};
use crate::request::cause::Cause;
use crate::route::table::{Action, Route, RouteTarget, Targets};

/// Label value where a request matched no route.
pub const NO_ROUTE: &str = "none";

/// Label value for a validating CA's question that was answered.
pub const CHALLENGE: &str = "acme-challenge";

/// What a request counts on.
#[derive(Clone, Copy)]
pub enum Counted<'r> {
    /// With the upstream that a split has chosen.
    Route(&'r Route, Option<&'r RouteTarget>),
    /// No route matched.
    NoRoute,
    /// A CA asked for an HTTP-01 token.
    Challenge,
}

impl<'r> Counted<'r> {
    /// The value of the label `route`.
    pub fn label(self) -> &'r str {
        match self {
            Counted::Route(route, _) => route.series.name.as_str(),
            _ => self.name(),
        }
    }

    /// As the configuration calls it.
    pub fn name(self) -> &'r str {
        match self {
            Counted::Route(route, _) => route.name.as_str(),
            Counted::NoRoute => NO_ROUTE,
            Counted::Challenge => CHALLENGE,
        }
    }

    /// The value of the label `tenant`, where there is one.
    fn tenant(self) -> Option<&'r Name> {
        match self {
            Counted::Route(route, _) => route.series.tenant.as_ref(),
            _ => None,
        }
    }

    /// Unique within the process; ids of routes begin at 1.
    fn id(self) -> u64 {
        match self {
            Counted::Route(_, Some(target)) => target.id,
            Counted::Route(route, None) => route.id,
            Counted::NoRoute => 0,
            Counted::Challenge => u64::MAX,
        }
    }

    fn upstream(self) -> &'r str {
        match self {
            Counted::Route(_, Some(target)) => target.upstream.series.name.as_str(),
            Counted::Route(Route { action: Action::Forward(Targets::One(only)), .. }, None) => {
                only.upstream.series.name.as_str()
            }
            _ => NO_ROUTE,
        }
    }
}

/// The meters of one worker.
#[derive(Default)]
pub struct Meters {
    routes: RefCell<HashMap<(u64, usize), Rc<RouteMeters>>>,
}

/// The meters of one route on one listener.
pub struct RouteMeters {
    listener: String,
    route: String,
    upstream: String,
    tenant: Option<Name>,
    /// Key: method index and status.
    requests: RefCell<HashMap<(u8, u16), LocalIntCounter>>,
    /// By status class.
    durations: RefCell<[Option<LocalHistogram>; 6]>,
    first_byte: LocalHistogram,
    received: LocalIntCounter,
    sent: LocalIntCounter,
    upstream_ok: LocalIntCounter,
    pub in_flight: IntGauge,
    /// By cause.
    local_responses: Kept<&'static str, IntCounter>,
    tunnels: OnceCell<(IntCounter, IntGauge)>,
    dirty: Cell<bool>,
}

/// What a finished request adds.
pub struct Outcome {
    pub method: u8,
    pub status: u16,
    pub duration_us: u64,
    pub first_byte_us: Option<u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Methods with a label of their own; the last entry is everything else.
const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "other"];

/// Index of a method into the closed label set.
pub fn method_index(method: &str) -> u8 {
    let last = METHODS.len() - 1;
    METHODS[..last].iter().position(|m| *m == method).unwrap_or(last) as u8
}

pub fn method_label(index: u8) -> &'static str {
    METHODS.get(usize::from(index)).copied().unwrap_or("other")
}

impl Meters {
    /// The meters for a route, or what stands for one, on a listener.
    pub fn route(
        &self,
        metrics: &Metrics,
        listener: (usize, &str),
        counted: Counted<'_>,
    ) -> Rc<RouteMeters> {
        let key = (counted.id(), listener.0);
        if let Some(meters) = self.routes.borrow().get(&key) {
            return meters.clone();
        }
        let meters = Rc::new(RouteMeters::new(metrics, listener.1, counted));
        self.routes.borrow_mut().insert(key, meters.clone());
        meters
    }

    /// Adds what was counted to the shared families. Routes of former generations are forgotten
    /// once nobody counts on them.
    pub fn flush(&self) {
        for meters in self.routes.borrow().values() {
            meters.flush();
        }
    }

    /// Forgets every route: called when a new snapshot is live.
    pub fn forget(&self) {
        self.flush();
        self.routes.borrow_mut().clear();
    }
}

impl RouteMeters {
    fn new(metrics: &Metrics, listener: &str, counted: Counted<'_>) -> RouteMeters {
        let (name, upstream) = (counted.label(), counted.upstream());
        RouteMeters {
            listener: listener.to_owned(),
            route: name.to_owned(),
            upstream: upstream.to_owned(),
            tenant: counted.tenant().cloned(),
            requests: RefCell::default(),
            durations: RefCell::default(),
            first_byte: metrics.http_first_byte.with_label_values(&[name, upstream]).local(),
            received: metrics.http_received_bytes.with_label_values(&[listener, name]).local(),
            sent: metrics.http_sent_bytes.with_label_values(&[listener, name]).local(),
            upstream_ok: metrics.upstream_requests.with_label_values(&[upstream, "ok"]).local(),
            in_flight: metrics.http_in_flight.with_label_values(&[name]),
            local_responses: Kept::default(),
            tunnels: OnceCell::new(),
            dirty: Cell::new(false),
        }
    }

    pub fn add(&self, metrics: &Metrics, outcome: &Outcome) {
        self.dirty.set(true);
        self.count_request(metrics, outcome);
        self.observe_duration(metrics, outcome);
        if let Some(us) = outcome.first_byte_us {
            self.first_byte.observe(seconds(us));
        }
        self.received.inc_by(outcome.bytes_in);
        self.sent.inc_by(outcome.bytes_out);
    }

    /// The endpoint's answer was complete.
    pub fn upstream_ok(&self) {
        self.dirty.set(true);
        self.upstream_ok.inc();
    }

    /// The edge answered by itself, or cut the stream.
    pub fn local_response(&self, metrics: &Metrics, cause: &'static str) {
        let family = &metrics.http_local_responses;
        let series = || family.with_label_values(&[self.route.as_str(), cause]);
        self.local_responses.get(cause, series).inc();
    }

    /// A request became a tunnel, which is open as long as what is returned lives.
    pub fn tunnel(&self, metrics: &Metrics) -> OpenTunnel {
        let (upgrades, open) = self.tunnels.get_or_init(|| {
            let route = [self.route.as_str()];
            let open = metrics.websocket_connections.with_label_values(&route);
            (metrics.http_upgrades.with_label_values(&route), open)
        });
        upgrades.inc();
        OpenTunnel::count(open.clone())
    }

    fn count_request(&self, metrics: &Metrics, outcome: &Outcome) {
        let mut requests = self.requests.borrow_mut();
        let counter = requests.entry((outcome.method, outcome.status)).or_insert_with(|| {
            let code = code_label(outcome.status);
            let method = method_label(outcome.method);
            let labels = [&self.listener, &self.route, &self.upstream, method, code.as_str()];
            metrics.http_requests.of(self.tenant.as_ref(), &labels).local()
        });
        counter.inc();
    }

    fn observe_duration(&self, metrics: &Metrics, outcome: &Outcome) {
        // 0: none of the five.
        let class = Some(outcome.status / 100).filter(|class| *class < 6).map_or(0, usize::from);
        let mut durations = self.durations.borrow_mut();
        let histogram = durations[class].get_or_insert_with(|| {
            let labels = [self.route.as_str(), &self.upstream, class_label(outcome.status)];
            metrics.http_request_duration.with_label_values(&labels).local()
        });
        histogram.observe(seconds(outcome.duration_us));
    }

    fn flush(&self) {
        if !self.dirty.replace(false) {
            return;
        }
        self.requests.borrow().values().for_each(LocalIntCounter::flush);
        self.durations.borrow().iter().flatten().for_each(LocalHistogram::flush);
        self.first_byte.flush();
        self.received.flush();
        self.sent.flush();
        self.upstream_ok.flush();
    }
}

/// A request that ends after its route's meters were forgotten still counts.
impl Drop for RouteMeters {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A tunnel in `edge_websocket_connections`, for as long as it lives.
pub struct OpenTunnel(IntGauge);

impl OpenTunnel {
    fn count(gauge: IntGauge) -> OpenTunnel {
        gauge.inc();
        OpenTunnel(gauge)
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Of the codes that the http crate knows, which are the registered ones (RFC 9110 §16.2), and our
/// 499; an endpoint may answer any other, and those count as their class.
fn code_label(status: u16) -> String {
    let known = StatusCode::from_u16(status).is_ok_and(|code| code.canonical_reason().is_some());
    if known || status == Cause::ClientGone.status() {
        status.to_string()
    } else {
        class_label(status).to_owned()
    }
}

fn class_label(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "other",
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_a_closed_list() {
        for (status, label) in [
            (200, "200"),
            (404, "404"),
            (499, "499"),
            (503, "503"),
            (299, "2xx"),
            (599, "5xx"),
            (600, "other"),
            (0, "other"),
        ] {
            assert_eq!(code_label(status), label, "{status}");
        }
        let labels: std::collections::HashSet<String> = (0..=u16::MAX).map(code_label).collect();
        assert!(labels.len() < 80, "{labels:?}");
    }
}
