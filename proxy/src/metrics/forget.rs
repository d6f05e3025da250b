//! Series of things that are gone.

use std::collections::HashSet;

use super::Metrics;
use super::family::forget;

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

    /// Removes every series of tenants that are gone.
    pub fn forget_tenants(&self, names: &HashSet<&str>) {
        forget(&self.http_requests.tenants, "tenant", names);
        forget(&self.upstream_endpoints.tenants, "tenant", names);
        forget(&self.upstream_panic.tenants, "tenant", names);
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
