//! Registries of tenants: any bytes give tenants, each good or refused alone. Nothing of an entry
//! gets out of its template; what is accepted stays as it is, with a broken registry as well, and
//! reads back the same.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use config::merge::{Accepted, Kind, merge};
use config::model::EndpointAddress;
use config::{Environment, last_good};

const FILE: &str = r#"
version: 1
listeners: { web: { bind: ["127.0.0.1:0"] } }
tenants:
  file: /registry.json
  routes:
    gateway: { hosts: ["{tenant}.gw.openclaw.example", "{zone}.zone.openclaw.example"], endpoint: "{host}:{port}" }
    bridge: { hosts: ["{tenant}-bridge.gw.openclaw.example"], path: /b, endpoint: "{tenant}.internal:{port}" }
    socket: { hosts: ["{tenant}-s.gw.openclaw.example"], endpoint: "unix:/run/{zone}/s" }
    own: { hosts: ["{domain}"], endpoint: "srv+{srv}" }
"#;

struct Registry<'b>(&'b [u8]);

impl Environment for Registry<'_> {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_registry(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }
}

pub fn check(bytes: &[u8]) {
    let accepted = read(None, bytes);
    let broken = accepted.quarantined.iter().any(|bad| bad.kind == Kind::Tenants);
    if !broken {
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(without_mark(bytes));
        assert!(json.is_ok(), "no JSON was accepted: {json:?}");
    }
    for bad in &accepted.quarantined {
        assert!(!bad.reasons.is_empty(), "refused without a reason");
    }
    shapes(&accepted);
    // The same again changes nothing; a registry that is cut off neither.
    assert_eq!(served(&read(Some(&accepted), bytes)), served(&accepted));
    assert_eq!(served(&read(Some(&accepted), b"{\"servers\": [")), served(&accepted));

    let kept = last_good::document(&accepted);
    let restored = last_good::restore(&kept, &Registry(b""));
    let restored = restored.unwrap_or_else(|| panic!("last known good is unreadable:\n{kept}"));
    assert_eq!(served(&restored), served(&accepted), "{kept}");
}

fn read(previous: Option<&Accepted>, registry: &[u8]) -> Accepted {
    let candidate = config::parse("fuzz.yaml", FILE, &Registry(registry));
    merge(
        previous,
        candidate.unwrap_or_else(|errors| panic!("a registry refused a file: {errors}")),
    )
}

/// Hosts and endpoints are those that the templates allow, and no two tenants share one.
fn shapes(accepted: &Accepted) {
    let (mut hosts, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for tenant in accepted.tenants.values() {
        let mut own = BTreeSet::new();
        for part in &tenant.value.parts {
            let template = part.template.name.as_str();
            for host in part.route.hosts.iter().map(ToString::to_string) {
                let labels = host.split('.').count();
                assert!(!host.contains(['*', ':', '/', '{']) || host.starts_with('['), "{host}");
                let inside = host.ends_with(".openclaw.example") && labels == 4;
                assert!(inside || template == "own", "{template}: {host}");
                assert!(hosts.insert(host.clone()), "{host} is there twice");
            }
            let address = &part.upstream.endpoints[0].address;
            own.insert(address.clone());
            let fits = match address {
                EndpointAddress::Ip(socket) => template == "gateway" && socket.port() > 0,
                EndpointAddress::Name { host, port } => {
                    let inside = host.ends_with(".internal") && host.split('.').count() == 2;
                    *port > 0 && (template == "gateway" || (template == "bridge" && inside))
                }
                EndpointAddress::Srv(_) => template == "own",
                EndpointAddress::Unix(path) => {
                    template == "socket"
                        && path.starts_with("/run")
                        && path.components().count() == 4
                        && !path.to_string_lossy().contains("..")
                }
            };
            assert!(fits, "{template}: {address}");
        }
        for address in own {
            assert!(ends.insert(address.clone()), "{address} has two tenants");
        }
    }
}

fn served(accepted: &Accepted) -> Vec<String> {
    let routes = accepted.routes.iter().map(|(name, route)| {
        format!("{name} {:?} {:?}", route.value, accepted.upstreams[name].value.endpoints)
    });
    routes.collect()
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
