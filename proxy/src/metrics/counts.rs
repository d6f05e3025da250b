//! The series of what a table has compiled, looked up with it: workers count without names.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Metrics;
use super::kept::Kept;
use crate::request::cause::Cause;

/// Of one listener.
pub struct ListenerCounts {
    name: Box<str>,
    pub accepted: IntCounter,
    /// Open connections that speak HTTP/1.1.
    pub http1: IntGauge,
    /// `None`: plaintext.
    pub tls: Option<TlsCounts>,
    rejected: Kept<&'static str, IntCounter>,
    /// By protocol and reason.
    protocol_errors: Kept<(&'static str, &'static str), IntCounter>,
}

/// Of a listener with TLS.
pub struct TlsCounts {
    name: Box<str>,
    /// Open connections that speak HTTP/2.
    pub http2: IntGauge,
    pub duration: Histogram,
    /// By version and whether resumed.
    finished: Kept<(&'static str, bool), IntCounter>,
    failed: Kept<&'static str, IntCounter>,
}

impl ListenerCounts {
    pub fn new(metrics: &Metrics, name: &str, tls: bool) -> ListenerCounts {
        ListenerCounts {
            name: name.into(),
            accepted: metrics.connections_accepted.with_label_values(&[name]),
            http1: metrics.connections.with_label_values(&[name, "h1"]),
            tls: tls.then(|| TlsCounts::new(metrics, name)),
            rejected: Kept::default(),
            protocol_errors: Kept::default(),
        }
    }

    /// A connection closed before TLS and HTTP.
    pub fn rejected(&self, metrics: &Metrics, reason: &'static str) {
        let family = &metrics.connections_rejected;
        let series = || family.with_label_values(&[&self.name, reason]);
        self.rejected.get(reason, series).inc();
    }

    pub fn protocol_error(&self, metrics: &Metrics, protocol: &'static str, reason: &'static str) {
        let family = &metrics.http_protocol_errors;
        let series = || family.with_label_values(&[&self.name, protocol, reason]);
        self.protocol_errors.get((protocol, reason), series).inc();
    }
}

impl TlsCounts {
    fn new(metrics: &Metrics, name: &str) -> TlsCounts {
        TlsCounts {
            name: name.into(),
            http2: metrics.connections.with_label_values(&[name, "h2"]),
            duration: metrics.tls_handshake_duration.with_label_values(&[name]),
            finished: Kept::default(),
            failed: Kept::default(),
        }
    }

    /// A handshake that took so long.
    pub fn finished(&self, metrics: &Metrics, version: &'static str, resumed: bool, took_us: u64) {
        let family = &metrics.tls_handshakes;
        let text = if resumed { "true" } else { "false" };
        let series = || family.with_label_values(&[&self.name, version, text]);
        self.finished.get((version, resumed), series).inc();
        self.duration.observe(took_us as f64 / 1e6);
    }

    pub fn failed(&self, metrics: &Metrics, reason: &'static str) {
        let family = &metrics.tls_handshake_failures;
        self.failed.get(reason, || family.with_label_values(&[&self.name, reason])).inc();
    }
}

/// Of one upstream, or of all that a template has made.
pub struct UpstreamCounts {
    name: Box<str>,
    /// Of complete answers.
    pub duration: Histogram,
    pub connect_duration: Histogram,
    pub active: IntGauge,
    pub idle: IntGauge,
    pub ejections: IntCounter,
    cancelled: IntCounter,
    requests: Kept<&'static str, IntCounter>,
    durations: Kept<&'static str, Histogram>,
    connection_errors: Kept<&'static str, IntCounter>,
    retries: Kept<&'static str, IntCounter>,
}

impl UpstreamCounts {
    pub fn new(metrics: &Metrics, name: &str) -> UpstreamCounts {
        let connections = |state| metrics.upstream_connections.with_label_values(&[name, state]);
        UpstreamCounts {
            name: name.into(),
            duration: metrics.upstream_request_duration.with_label_values(&[name, "ok"]),
            connect_duration: metrics.upstream_connect_duration.with_label_values(&[name]),
            active: connections("active"),
            idle: connections("idle"),
            ejections: metrics.upstream_ejections.with_label_values(&[name]),
            cancelled: metrics.upstream_cancelled.with_label_values(&[name]),
            requests: Kept::default(),
            durations: Kept::default(),
            connection_errors: Kept::default(),
            retries: Kept::default(),
        }
    }

    /// An attempt that has ended without a complete answer.
    pub fn failed(&self, metrics: &Metrics, cause: Cause, elapsed_us: u64) {
        self.attempt(metrics, cause.code());
        let family = &metrics.upstream_request_duration;
        let series = || family.with_label_values(&[&self.name, cause.code()]);
        self.durations.get(cause.code(), series).observe(elapsed_us as f64 / 1e6);
        if cause == Cause::ClientGone {
            self.cancelled.inc();
        }
    }

    /// An attempt whose answer was dropped for another endpoint's.
    pub fn replaced(&self, metrics: &Metrics) {
        self.attempt(metrics, "replaced");
    }

    fn attempt(&self, metrics: &Metrics, result: &'static str) {
        let family = &metrics.upstream_requests;
        self.requests.get(result, || family.with_label_values(&[&self.name, result])).inc();
    }

    pub fn connection_error(&self, metrics: &Metrics, reason: &'static str) {
        let family = &metrics.upstream_connection_errors;
        let series = || family.with_label_values(&[&self.name, reason]);
        self.connection_errors.get(reason, series).inc();
    }

    pub fn retry(&self, metrics: &Metrics, reason: &'static str) {
        let family = &metrics.upstream_retries;
        self.retries.get(reason, || family.with_label_values(&[&self.name, reason])).inc();
    }
}

/// Answers given to CAs that validate a name; both kinds from the start of the process.
pub struct ChallengeCounts {
    pub http_01: IntCounter,
    pub tls_alpn_01: IntCounter,
}

impl ChallengeCounts {
    pub(super) fn new(family: &prometheus::IntCounterVec) -> ChallengeCounts {
        let of = |kind| family.with_label_values(&[kind]);
        ChallengeCounts { http_01: of("http-01"), tls_alpn_01: of("tls-alpn-01") }
    }
}
