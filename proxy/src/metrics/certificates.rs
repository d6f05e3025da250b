//! Certificates, and what is asked of CAs.

use acme::ca::Asked;

use super::{Def, Metrics};

impl Metrics {
    /// Counts a request to a CA.
    pub fn acme_asked(&self, issuer: &str, asked: Asked) {
        let action = asked.action.word();
        self.acme_requests.with_label_values(&[issuer, action, asked.code()]).inc();
        let took = asked.took.as_secs_f64();
        self.acme_request_duration.with_label_values(&[issuer, action]).observe(took);
    }
}

pub(super) const CERTIFICATE_NOT_BEFORE: Def = (
    "edge_certificate_not_before_timestamp_seconds",
    "Start of validity, Unix time.",
    &["certificate"],
);
pub(super) const CERTIFICATE_NOT_AFTER: Def = (
    "edge_certificate_not_after_timestamp_seconds",
    "End of validity, Unix time.",
    &["certificate"],
);
pub(super) const CERTIFICATE_RENEWAL: Def = (
    "edge_certificate_renewal_timestamp_seconds",
    "When the certificate is to be renewed, Unix time",
    &["certificate"],
);
pub(super) const CERTIFICATE_READY: Def = (
    "edge_certificate_ready",
    "1: a certificate that is valid now serves; 0: a placeholder, or an expired one",
    &["certificate"],
);
pub(super) const CERTIFICATE_INFO: Def = (
    "edge_certificate_info",
    "What serves, value 1",
    &["certificate", "issuer", "key_type", "serial"],
);
pub(super) const ACME_ORDERS: Def =
    ("edge_acme_orders_total", "Orders that have ended, by result", &["issuer", "result"]);
pub(super) const ACME_NEXT_ATTEMPT: Def = (
    "edge_acme_next_attempt_timestamp_seconds",
    "When something is next tried or renewed, Unix time",
    &["certificate"],
);
pub(super) const ACME_CHALLENGES: Def =
    ("edge_acme_challenges_total", "Answers given to a CA that validates a name.", &["type"]);
pub(super) const ACME_REQUESTS: Def = (
    "edge_acme_requests_total",
    "Requests to a CA, by what was asked for and how it answered.",
    &["issuer", "action", "code"],
);
pub(super) const ACME_REQUEST_DURATION: Def = (
    "edge_acme_request_duration_seconds",
    "Requests to a CA, from name lookup to the end of the answer, or to giving up.",
    &["issuer", "action"],
);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use acme::ca::Action;

    use super::*;

    #[test]
    fn a_request_is_counted_and_timed() {
        let metrics = Metrics::new();
        for status in [Some(200), Some(429), None] {
            let took = Duration::from_millis(3);
            metrics.acme_asked("main", Asked { action: Action::NewNonce, status, took });
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        for (code, count) in [("2xx", 1), ("429", 1), ("none", 1), ("4xx", 0)] {
            let labels = format!("action=\"new_nonce\",code=\"{code}\",issuer=\"main\"");
            let line = format!("edge_acme_requests_total{{{labels}}} {count}");
            assert_eq!(text.contains(&line), count > 0, "{line}\n{text}");
        }
        let labels = "action=\"new_nonce\",issuer=\"main\"";
        let line = format!("edge_acme_request_duration_seconds_count{{{labels}}} 3");
        assert!(text.contains(&line), "{text}");
    }
}
