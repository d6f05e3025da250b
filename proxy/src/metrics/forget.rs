//! Series of things that are gone.

use std::collections::{HashMap, HashSet};

use super::Metrics;
use super::family::{forget, forget_where};

impl Metrics {
    /// Removes every series of routes that are gone, by what the label says.
    pub fn forget_routes(&self, names: &HashSet<&str>) {
        let label = "route";
        for family in self.http_requests.both().into_iter().chain([
            &self.http_received_bytes,
            &self.http_sent_bytes,
            &self.http_local_responses,
            &self.http_upgrades,
            &self.auth_decisions,
            &self.rate_limit_decisions,
            &self.rate_limit_evictions,
            &self.rate_limit_overflow,
        ]) {
            forget(family, label, names);
        }
        forget(&self.http_request_duration, label, names);
        forget(&self.http_first_byte, label, names);
        forget(&self.http_in_flight, label, names);
        forget(&self.websocket_connections, label, names);
        forget(&self.rate_limit_keys, label, names);
        forget(&self.rate_limit_streams, label, names);
    }

    /// Removes every series of upstreams that are gone, by what the label says.
    pub fn forget_upstreams(&self, names: &HashSet<&str>) {
        let label = "upstream";
        for family in self.http_requests.both().into_iter().chain([
            &self.upstream_requests,
            &self.upstream_connection_errors,
            &self.upstream_retries,
            &self.upstream_cancelled,
            &self.upstream_ejections,
            &self.upstream_health_checks,
        ]) {
            forget(family, label, names);
        }
        forget(&self.http_request_duration, label, names);
        forget(&self.http_first_byte, label, names);
        forget(&self.upstream_request_duration, label, names);
        forget(&self.upstream_connect_duration, label, names);
        let [endpoints, of_tenants] = self.upstream_endpoints.both();
        let [panic, panic_of_tenants] = self.upstream_panic.both();
        for family in [
            &self.upstream_connections,
            &self.upstream_queue_length,
            endpoints,
            of_tenants,
            panic,
            panic_of_tenants,
        ] {
            forget(family, label, names);
        }
    }

    /// Removes series of routes by what they are counted under, in families that know tenants: of
    /// a name that others still have.
    pub fn forget_series_of_routes(&self, gone: &HashSet<(&str, Option<&str>)>) {
        for family in self.http_requests.both() {
            forget_where(family, |labels| is_of("route", labels, gone));
        }
    }

    /// The same of upstreams.
    pub fn forget_series_of_upstreams(&self, gone: &HashSet<(&str, Option<&str>)>) {
        let label = "upstream";
        for family in self.http_requests.both() {
            forget_where(family, |labels| is_of(label, labels, gone));
        }
        let gauges = [self.upstream_endpoints.both(), self.upstream_panic.both()];
        for family in gauges.into_iter().flatten() {
            forget_where(family, |labels| is_of(label, labels, gone));
        }
    }

    /// Removes every series of a certificate that is gone.
    pub fn forget_certificates(&self, names: &HashSet<&str>) {
        let label = "certificate";
        forget(&self.certificate_not_before, label, names);
        forget(&self.certificate_not_after, label, names);
        forget(&self.certificate_renewal, label, names);
        forget(&self.certificate_ready, label, names);
        forget(&self.certificate_info, label, names);
        forget(&self.acme_next_attempt, label, names);
    }
}

fn is_of(label: &str, labels: &HashMap<&str, &str>, gone: &HashSet<(&str, Option<&str>)>) -> bool {
    let name = labels.get(label);
    name.is_some_and(|name| gone.contains(&(*name, labels.get("tenant").copied())))
}
