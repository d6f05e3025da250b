//! The config that the demo writes: short, complete, meant to be edited.

use std::path::Path;

use super::folder::Folder;
use super::http::Backends;
use super::ports::Ports;

pub(super) fn text(folder: &Folder, ports: &Ports, backends: &Backends) -> String {
    let Ports { http, https, admin } = ports;
    let Backends { web, api, token_proxy, nango } = backends;
    let state_dir = quoted(&folder.state_dir());
    let socket = quoted(&folder.admin_socket());
    format!(
        r#"# Written by `openclaw-edge demo`. Edit it and save: the running demo takes the change over at once.
# A mistake is reported and leaves what serves as it is. Bind addresses need a restart.
version: 1
state_dir: {state_dir}
admin: {{ listen: "127.0.0.1:{admin}", socket: {socket} }}

listeners:
  http:  {{ bind: ["127.0.0.1:{http}"], redirect_to: https }}
  https: {{ bind: ["127.0.0.1:{https}"], tls: {{ min_version: "1.2" }} }}

issuers:
  local: {{ internal: {{}} }}        # an authority of our own; clients trust its ca.pem
default_issuer: local            # every host of a route gets a certificate

upstreams:                       # the demo's own backends
  web:         {{ endpoints: ["127.0.0.1:{web}"] }}
  api:         {{ endpoints: ["127.0.0.1:{api}"] }}
  token-proxy: {{ endpoints: ["127.0.0.1:{token_proxy}"] }}
  nango:       {{ endpoints: ["127.0.0.1:{nango}"] }}

routes:                          # *.localhost is this machine in every browser
  app:            {{ hosts: [app.openclaw.example, app.localhost], upstream: web }}
  app-events:     {{ hosts: [app.openclaw.example, app.localhost], path: /stream, upstream: token-proxy }}
  app-socket:     {{ hosts: [app.openclaw.example, app.localhost], path: /ws, upstream: nango }}
  api:            {{ hosts: [api.openclaw.example, api.localhost], upstream: api }}
  proxy:          {{ hosts: [proxy.openclaw.example, proxy.localhost], upstream: token-proxy }}
  proxy-internal: {{ hosts: [proxy.openclaw.example, proxy.localhost], path: /internal, respond: {{ status: 404 }} }}
  nango:          {{ hosts: [nango.openclaw.example, nango.localhost], upstream: nango }}
  # Remove the '#' of the next line and save; then ask for /hello.
  # hello:        {{ hosts: [app.openclaw.example], path: /hello, respond: {{ status: 200, body: "Hello.\n" }} }}
"#
    )
}

/// A YAML double-quoted scalar: JSON's strings are a subset of them.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
