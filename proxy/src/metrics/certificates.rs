//! Certificates, and what is asked of CAs.

use acme::ca::Asked;

use super::Metrics;
use super::family::Def;

impl Metrics {
    /// Counts a request to a CA.
    pub fn acme_asked(&self, issuer: &str, asked: Asked) {
        let action = asked.action.word();
        self.acme_requests.with_label_values(&[issuer, action, asked.code()]).inc();
        let took = asked.took.as_secs_f64();
        self.acme_request_duration.with_label_values(&[issuer, action]).observe(took);
    }
}

pub(super) const CERTIFICATE_NOT_BEFORE: Def = Def {
    name: "edge_certificate_not_before_timestamp_seconds",
    help: "Start of validity, Unix time.",
    detail: "`certificate` is the entry's name, or the host for one of the default issuer.",
    labels: &["certificate"],
};
pub(super) const CERTIFICATE_NOT_AFTER: Def = Def {
    name: "edge_certificate_not_after_timestamp_seconds",
    help: "End of validity, Unix time.",
    detail: "",
    labels: &["certificate"],
};
pub(super) const CERTIFICATE_RENEWAL: Def = Def {
    name: "edge_certificate_renewal_timestamp_seconds",
    help: "When the certificate is to be renewed, Unix time.",
    detail: "Whatever fails meanwhile. Ordered certificates only.",
    labels: &["certificate"],
};
pub(super) const CERTIFICATE_READY: Def = Def {
    name: "edge_certificate_ready",
    help: "1: a certificate that is valid now serves; 0: a placeholder, or an expired one.",
    detail: "",
    labels: &["certificate"],
};
pub(super) const CERTIFICATE_INFO: Def = Def {
    name: "edge_certificate_info",
    help: "What serves; the value is 1.",
    detail: "`issuer`: the name of the issuer that made it (its `fallback`'s, where that did), \
        `imported`, `former` (of a CA that is not configured any more), `file` or `internal`; \
        `key_type`: `ecdsa`, `rsa` or `other`.",
    labels: &["certificate", "issuer", "key_type", "serial"],
};
pub(super) const ACME_ORDERS: Def = Def {
    name: "edge_acme_orders_total",
    help: "Orders that have ended, by result.",
    detail: "`issued`, `invalid` (a name could not be validated), `refused` (limits, account, \
        policy), `unavailable` (the CA), `local` (disk, key).",
    labels: &["issuer", "result"],
};
pub(super) const ACME_NEXT_ATTEMPT: Def = Def {
    name: "edge_acme_next_attempt_timestamp_seconds",
    help: "When something is next tried or renewed, Unix time.",
    detail: "",
    labels: &["certificate"],
};
pub(super) const ACME_CHALLENGES: Def = Def {
    name: "edge_acme_challenges_total",
    help: "Answers given to a CA that validates a name.",
    detail: "`type`: `http-01`, `tls-alpn-01`.",
    labels: &["type"],
};
pub(super) const ACME_REQUESTS: Def = Def {
    name: "edge_acme_requests_total",
    help: "Requests to a CA, by what was asked for and how it answered.",
    detail: "`action`: `directory`, `new_nonce`, `new_account`, `new_order`, `revoke_cert`, \
        `renewal_info`, or `resource` for what the CA made up (orders, authorizations, \
        challenges, certificates). `code`: `2xx`, `3xx`, `4xx` but for `429`, `5xx`, `none` \
        without a whole answer. `issuer`: of issuers with one directory the one that was used \
        first; a trial on `staging` counts with its issuer.",
    labels: &["issuer", "action", "code"],
};
pub(super) const ACME_REQUEST_DURATION: Def = Def {
    name: "edge_acme_request_duration_seconds",
    help: "Requests to a CA, from name lookup to the end of the answer, or to giving up.",
    detail: "",
    labels: &["issuer", "action"],
};

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
