//! Every metric family in one struct. A name, a label or a text of one is written in this directory
//! and nowhere else: `METRICS.md` is printed from it by `openclaw-edge metrics`.
//!
//! Label values come from the configuration or from closed lists, never from a client.

mod budget;
mod certificates;
mod connections;
mod counts;
mod document;
mod family;
mod forget;
mod kept;
mod labels;
mod limits;
mod process;
mod requests;
mod tenants;
mod upstreams;

use std::collections::BTreeMap;

use config::value::Name;
use prometheus::{
    GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::access::Decision;
use crate::state::Shared;
use certificates::{
    ACME_CHALLENGES, ACME_NEXT_ATTEMPT, ACME_ORDERS, ACME_REQUEST_DURATION, ACME_REQUESTS,
    CERTIFICATE_INFO, CERTIFICATE_NOT_AFTER, CERTIFICATE_NOT_BEFORE, CERTIFICATE_READY,
    CERTIFICATE_RENEWAL,
};
use connections::{
    CONNECTIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_REJECTED, LISTENER_CONNECTION_LIMIT,
    TLS_HANDSHAKE_DURATION, TLS_HANDSHAKE_FAILURES, TLS_HANDSHAKES,
};
use family::Catalogue;
use limits::{
    RATE_LIMIT_DECISIONS, RATE_LIMIT_EVICTIONS, RATE_LIMIT_KEYS, RATE_LIMIT_OVERFLOW,
    RATE_LIMIT_STREAMS,
};
use process::{
    BUFFERED_BYTES, BUILD_INFO, CONFIG_GENERATION, CONFIG_INFO, CONFIG_LAST_RELOAD_SUCCESS,
    CONFIG_LAST_RELOAD_SUCCESSFUL, CONFIG_OBJECTS, CONFIG_RELOADS, LOG_DROPPED, REQUEST_PANICS,
    SERIES_DROPPED, TENANTS,
};
use requests::{
    AUTH_DECISIONS, AUTH_QUEUE_LENGTH, HTTP_FIRST_BYTE, HTTP_IN_FLIGHT, HTTP_LOCAL_RESPONSES,
    HTTP_PROTOCOL_ERRORS, HTTP_RECEIVED_BYTES, HTTP_REQUEST_DURATION, HTTP_REQUESTS,
    HTTP_SENT_BYTES, HTTP_UPGRADES, WEBSOCKET_CONNECTIONS,
};
use upstreams::{
    UPSTREAM_CANCELLED, UPSTREAM_CONNECT_DURATION, UPSTREAM_CONNECTION_ERRORS,
    UPSTREAM_CONNECTIONS, UPSTREAM_EJECTIONS, UPSTREAM_ENDPOINTS, UPSTREAM_HEALTH_CHECKS,
    UPSTREAM_PANIC, UPSTREAM_QUEUE_LENGTH, UPSTREAM_REQUEST_DURATION, UPSTREAM_REQUESTS,
    UPSTREAM_RETRIES, UPSTREAM_SPLIT_WEIGHT,
};

pub use budget::Dropped;
pub use counts::{ChallengeCounts, ListenerCounts, UpstreamCounts};
pub use document::document;
pub use family::Family;
pub use kept::Kept;
pub use labels::{OTHER, TenantLabels};
pub use tenants::WithTenants;

/// The families, ready to count with. A value for a label set that is used often is looked up once
/// (`with_label_values` hashes and locks) and kept by its user.
pub struct Metrics {
    registry: Registry,
    /// Of series with the label `tenant`.
    tenant_registry: Registry,
    catalogue: Vec<Family>,

    pub http_requests: WithTenants<IntCounterVec>,
    pub http_request_duration: HistogramVec,
    pub http_first_byte: HistogramVec,
    pub http_received_bytes: IntCounterVec,
    pub http_sent_bytes: IntCounterVec,
    pub http_in_flight: IntGaugeVec,
    pub http_local_responses: IntCounterVec,
    pub http_protocol_errors: IntCounterVec,
    pub auth_decisions: IntCounterVec,
    pub auth_queue_length: IntGauge,
    pub rate_limit_decisions: IntCounterVec,
    pub rate_limit_keys: IntGaugeVec,
    pub rate_limit_evictions: IntCounterVec,
    pub rate_limit_overflow: IntCounterVec,
    pub rate_limit_streams: IntGaugeVec,
    pub websocket_connections: IntGaugeVec,
    pub http_upgrades: IntCounterVec,

    pub connections: IntGaugeVec,
    pub connections_accepted: IntCounterVec,
    pub connections_rejected: IntCounterVec,
    pub listener_connection_limit: IntGaugeVec,
    pub tls_handshakes: IntCounterVec,
    pub tls_handshake_failures: IntCounterVec,
    pub tls_handshake_duration: HistogramVec,

    pub upstream_requests: IntCounterVec,
    pub upstream_request_duration: HistogramVec,
    pub upstream_connect_duration: HistogramVec,
    pub upstream_connections: IntGaugeVec,
    pub upstream_connection_errors: IntCounterVec,
    pub upstream_retries: IntCounterVec,
    pub upstream_cancelled: IntCounterVec,
    pub upstream_ejections: IntCounterVec,
    pub upstream_queue_length: IntGaugeVec,
    pub upstream_endpoints: WithTenants<IntGaugeVec>,
    pub upstream_panic: WithTenants<IntGaugeVec>,
    pub upstream_health_checks: IntCounterVec,
    pub upstream_split_weight: GaugeVec,

    pub certificate_not_before: IntGaugeVec,
    pub certificate_not_after: IntGaugeVec,
    pub certificate_renewal: IntGaugeVec,
    pub certificate_ready: IntGaugeVec,
    pub certificate_info: IntGaugeVec,
    pub acme_orders: IntCounterVec,
    pub acme_next_attempt: IntGaugeVec,
    pub acme_challenges: ChallengeCounts,
    pub acme_requests: IntCounterVec,
    pub acme_request_duration: HistogramVec,

    pub config_reloads: IntCounterVec,
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_timestamp_seconds: IntGauge,
    pub config_info: IntGaugeVec,
    pub config_generation: IntGauge,
    pub config_objects: IntGaugeVec,
    pub tenants: IntGaugeVec,

    pub series_dropped: IntCounter,
    pub buffered_bytes: IntGauge,
    pub log_dropped: IntCounter,
    pub request_panics: IntCounter,
    pub build_info: IntGaugeVec,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut c = Catalogue::default();
        let metrics = Metrics {
            http_requests: c.tenant_counters(HTTP_REQUESTS),
            http_request_duration: c.histograms(HTTP_REQUEST_DURATION, DURATIONS),
            http_first_byte: c.histograms(HTTP_FIRST_BYTE, DURATIONS),
            http_received_bytes: c.counters(HTTP_RECEIVED_BYTES),
            http_sent_bytes: c.counters(HTTP_SENT_BYTES),
            http_in_flight: c.gauges(HTTP_IN_FLIGHT),
            http_local_responses: c.counters(HTTP_LOCAL_RESPONSES),
            http_protocol_errors: c.counters(HTTP_PROTOCOL_ERRORS),
            auth_decisions: c.counters(AUTH_DECISIONS),
            auth_queue_length: c.gauge(AUTH_QUEUE_LENGTH),
            rate_limit_decisions: c.counters(RATE_LIMIT_DECISIONS),
            rate_limit_keys: c.gauges(RATE_LIMIT_KEYS),
            rate_limit_evictions: c.counters(RATE_LIMIT_EVICTIONS),
            rate_limit_overflow: c.counters(RATE_LIMIT_OVERFLOW),
            rate_limit_streams: c.gauges(RATE_LIMIT_STREAMS),
            websocket_connections: c.gauges(WEBSOCKET_CONNECTIONS),
            http_upgrades: c.counters(HTTP_UPGRADES),
            connections: c.gauges(CONNECTIONS),
            connections_accepted: c.counters(CONNECTIONS_ACCEPTED),
            connections_rejected: c.counters(CONNECTIONS_REJECTED),
            listener_connection_limit: c.gauges(LISTENER_CONNECTION_LIMIT),
            tls_handshakes: c.counters(TLS_HANDSHAKES),
            tls_handshake_failures: c.counters(TLS_HANDSHAKE_FAILURES),
            tls_handshake_duration: c.histograms(TLS_HANDSHAKE_DURATION, HANDSHAKES),
            upstream_requests: c.counters(UPSTREAM_REQUESTS),
            upstream_request_duration: c.histograms(UPSTREAM_REQUEST_DURATION, DURATIONS),
            upstream_connect_duration: c.histograms(UPSTREAM_CONNECT_DURATION, HANDSHAKES),
            upstream_connections: c.gauges(UPSTREAM_CONNECTIONS),
            upstream_connection_errors: c.counters(UPSTREAM_CONNECTION_ERRORS),
            upstream_retries: c.counters(UPSTREAM_RETRIES),
            upstream_cancelled: c.counters(UPSTREAM_CANCELLED),
            upstream_ejections: c.counters(UPSTREAM_EJECTIONS),
            upstream_queue_length: c.gauges(UPSTREAM_QUEUE_LENGTH),
            upstream_endpoints: c.tenant_gauges(UPSTREAM_ENDPOINTS),
            upstream_panic: c.tenant_gauges(UPSTREAM_PANIC),
            upstream_health_checks: c.counters(UPSTREAM_HEALTH_CHECKS),
            upstream_split_weight: c.fractions(UPSTREAM_SPLIT_WEIGHT),
            certificate_not_before: c.gauges(CERTIFICATE_NOT_BEFORE),
            certificate_not_after: c.gauges(CERTIFICATE_NOT_AFTER),
            certificate_renewal: c.gauges(CERTIFICATE_RENEWAL),
            certificate_ready: c.gauges(CERTIFICATE_READY),
            certificate_info: c.gauges(CERTIFICATE_INFO),
            acme_orders: c.counters(ACME_ORDERS),
            acme_next_attempt: c.gauges(ACME_NEXT_ATTEMPT),
            acme_challenges: ChallengeCounts::new(&c.counters(ACME_CHALLENGES)),
            acme_requests: c.counters(ACME_REQUESTS),
            acme_request_duration: c.histograms(ACME_REQUEST_DURATION, DURATIONS),
            config_reloads: c.counters(CONFIG_RELOADS),
            config_last_reload_successful: c.gauge(CONFIG_LAST_RELOAD_SUCCESSFUL),
            config_last_reload_success_timestamp_seconds: c.gauge(CONFIG_LAST_RELOAD_SUCCESS),
            config_info: c.gauges(CONFIG_INFO),
            config_generation: c.gauge(CONFIG_GENERATION),
            config_objects: c.gauges(CONFIG_OBJECTS),
            tenants: c.gauges(TENANTS),
            series_dropped: c.counter(SERIES_DROPPED),
            buffered_bytes: c.gauge(BUFFERED_BYTES),
            log_dropped: c.counter(LOG_DROPPED),
            request_panics: c.counter(REQUEST_PANICS),
            build_info: c.gauges(BUILD_INFO),
            registry: c.registry,
            tenant_registry: c.tenants,
            catalogue: c.families,
        };
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register_process();
        metrics
    }

    /// The usual `process_*` families.
    fn register_process(&self) {
        #[cfg(target_os = "linux")]
        let _ = self
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    }

    /// All families as Prometheus text 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = String::new();
        let families = tenants::merged(self.registry.gather(), self.tenant_registry.gather());
        // Writing to a String cannot fail; a family without a name, the other error, has no code.
        let _ = TextEncoder::new().encode_utf8(&families, &mut text);
        text.into_bytes()
    }

    /// Takes over the counts that are kept elsewhere, for a scrape.
    pub fn collect(&self, shared: &Shared) {
        use std::sync::atomic::Ordering;
        let buffered = shared.gauges.buffered.load(Ordering::Relaxed);
        self.buffered_bytes.set(i64::try_from(buffered).unwrap_or(i64::MAX));
        let dropped = shared.access_log.dropped();
        self.log_dropped.inc_by(dropped.saturating_sub(self.log_dropped.get()));
        let waiting = shared.passwords.waiting();
        self.auth_queue_length.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let snapshot = shared.snapshot.load();
        self.collect_limits(&snapshot);
        let mut queues: BTreeMap<&Name, usize> = BTreeMap::new();
        for upstream in &snapshot.upstreams {
            *queues.entry(&upstream.series.name).or_default() += upstream.state.queue.len();
        }
        for (upstream, length) in queues {
            let gauge = self.upstream_queue_length.with_label_values(&[upstream.as_str()]);
            gauge.set(i64::try_from(length).unwrap_or(i64::MAX));
        }
    }

    /// The series that such decisions on this route are counted in.
    pub fn auth_decisions_of(&self, route: &str, decision: Decision) -> IntCounter {
        self.auth_decisions.with_label_values(&[route, decision.label()])
    }

    /// Every family but `process_*`, in the order of the document.
    pub fn families(&self) -> &[Family] {
        &self.catalogue
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// Seconds; reaches the longest read timeout in use (300 s).
const DURATIONS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0,
];

/// Seconds.
const HANDSHAKES: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_removed_route_leaves_no_series_and_takes_no_other_with_it() {
        let metrics = Metrics::new();
        for route in ["gone", "kept"] {
            metrics.http_requests.of(None, &["https", route, "u", "GET", "200"]).inc();
            metrics.http_request_duration.with_label_values(&[route, "u", "2xx"]).observe(0.1);
            metrics.http_in_flight.with_label_values(&[route]).inc();
        }
        metrics.forget_routes(&HashSet::from(["gone"]));
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(!text.contains("gone"), "{text}");
        assert!(text.contains("edge_http_requests_total{code=\"200\",listener=\"https\""));
        assert!(text.contains("edge_http_request_duration_seconds_bucket{code_class=\"2xx\""));
        assert!(text.contains("edge_http_requests_in_flight{route=\"kept\"} 1"));
    }

    #[test]
    fn the_text_has_the_process_and_the_version() {
        let text = String::from_utf8(Metrics::new().render()).unwrap();
        assert!(text.contains("process_open_fds "), "{text}");
        assert!(text.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));
    }
}
