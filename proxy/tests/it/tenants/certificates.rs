//! Certificates of tenants: one with all hosts of a tenant, gone with it.

use super::{Tenant, conf_with, lab, write};
use crate::harness::{Edge, wait_until};

#[test]
fn one_certificate_for_the_hosts_of_a_tenant() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = lab(&[a.entry(), b.entry()]);
    let keys = "certificates: { issuer: local, per: tenant }\nmetrics: { tenants: 1 }";
    let edge = Edge::start_in(&lab, &conf_with(&lab, keys, super::ROUTES));
    let tls = edge.tls().without_resumption();
    let leaf = |host: &str| tls.connect(host).leaf();
    assert_eq!(leaf(&a.host()), leaf(&a.bridge_host()));
    assert_ne!(leaf(&a.host()), leaf(&b.host()));
    // What is beyond the labels is one series, as is what it shows.
    let ready = |labels: &str| edge.metric(&format!("edge_certificate_ready{labels}"));
    wait_until("certificates to be counted", || ready("") == 2.0);
    assert_eq!(ready("{certificate=\"other\"}"), 1.0);
    assert_eq!(edge.metric("edge_certificate_info"), 1.0);

    let names = || edge.admin("/api/v1/certificates").body;
    assert!(names().contains(&b.host()));
    let mut kept = tls.connect(&b.bridge_host());
    kept.get(&b.bridge_host(), "/").assert_ok("bridge of b");
    write(&edge, &[a.entry()]);
    wait_until("the certificate to go", || tls.try_connect(&b.host()).is_err());
    assert!(!names().contains(&b.host()), "{}", names());
    kept.get(&b.bridge_host(), "/").assert_cause(421, "misdirected");
    wait_until("its series to go", || ready("{certificate=\"other\"}") == 0.0);
    tls.connect(&a.host());
}
