//! Entries and templates to routes and upstreams.

use config::model::{Action, TenantOf};
use config::value::Name;

use super::{FILE, PRODUCTION, read};

#[test]
fn each_tenant_gets_a_route_and_an_upstream_of_each_template() {
    let accepted = read(None, FILE, PRODUCTION);
    assert_eq!(accepted.quarantined, []);
    let routes: Vec<(&str, String)> = accepted
        .routes
        .values()
        .map(|route| (route.value.name.as_str(), route.value.hosts[0].to_string()))
        .collect();
    let hosts = [
        ("acme-corp.bridge", "acme-corp-bridge.gw.openclaw.example"),
        ("acme-corp.gateway", "acme-corp.gw.openclaw.example"),
        ("newtenant-corp.bridge", "newtenant-corp-bridge.gw.openclaw.example"),
        ("newtenant-corp.gateway", "newtenant-corp.gw.openclaw.example"),
    ];
    assert_eq!(routes, hosts.map(|(name, host)| (name, host.to_owned())));
    let route = &accepted.routes["newtenant-corp.bridge"].value;
    let name = |text| Name::new(text).unwrap();
    assert_eq!(route.action, Action::Upstream(name("newtenant-corp.bridge")));
    let of = TenantOf { tenant: name("newtenant-corp"), template: name("bridge") };
    assert_eq!(route.tenant, Some(of.clone()));
    let upstream = &accepted.upstreams["newtenant-corp.bridge"].value;
    assert_eq!(upstream.endpoints[0].address.to_string(), "192.0.2.11:18790");
    assert_eq!((upstream.endpoints.len(), &upstream.tenant), (1, &Some(of)));
    let tenants: Vec<(&str, u64)> =
        accepted.tenants.iter().map(|(name, entry)| (name.as_str(), entry.line)).collect();
    assert_eq!(tenants, [("acme-corp", 3), ("newtenant-corp", 15)]);
}
