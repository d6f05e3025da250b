//! Tenants of a registry: what is made of them, and what is refused alone.

#![allow(clippy::unwrap_used, clippy::panic)]

mod expansion;
mod merging;
mod owners;
mod properties;
mod scale;

use std::io;
use std::path::Path;

use config::{Accepted, Environment, merge, parse};

/// The platform's registry as it is.
pub const PRODUCTION: &str = include_str!("production.json");

/// The config file of most cases: port-less listeners, the two templates of the platform.
pub const FILE: &str = r#"
version: 1
listeners: { web: { bind: ["127.0.0.1:0"] } }
tenants:
  file: /etc/production.json
  routes:
    gateway: { hosts: ["{tenant}.gw.openclaw.example"], endpoint: "{host}:{gateway_port}" }
    bridge: { hosts: ["{tenant}-bridge.gw.openclaw.example"], endpoint: "{host}:{bridge_port}" }
"#;

/// One registry, whatever its path.
pub struct Registry<'t>(pub &'t [u8]);

impl Environment for Registry<'_> {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_registry(&self, path: &Path) -> io::Result<Vec<u8>> {
        assert_eq!(path, Path::new("/etc/production.json"));
        Ok(self.0.to_vec())
    }
}

pub fn read(previous: Option<&Accepted>, file: &str, registry: &str) -> Accepted {
    let candidate = parse("edge.yaml", file, &Registry(registry.as_bytes()))
        .unwrap_or_else(|errors| panic!("{}", errors.render("edge.yaml", file)));
    merge(previous, candidate)
}
