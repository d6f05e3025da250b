//! The peers and their configurations. All forward everything to the one backend; facts/perf.md §2
//! says which directives make the comparison fair.

use std::fs;
use std::path::{Path, PathBuf};

use benches::edge::{self, ALL_HOST, Identity, Ports};
use benches::server::Server;
use benches::{Result, net};
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Debian's nginx doing the work ours does: access log, request id, all forwarding fields.
    NginxFull,
    /// The same without log, request id and half of the fields.
    Nginx,
    Edge,
    /// Debian's haproxy, without log.
    Haproxy,
}

/// Where the programs are.
#[derive(clap::Args, Clone, Debug)]
pub struct Binaries {
    /// The openclaw-edge under measurement
    #[arg(long)]
    pub edge: Option<PathBuf>,
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub nginx: PathBuf,
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    pub haproxy: PathBuf,
}

pub struct Running {
    pub server: Server,
    pub ports: Ports,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::NginxFull => "nginx full",
            Self::Nginx => "nginx",
            Self::Edge => "openclaw-edge",
            Self::Haproxy => "haproxy",
        }
    }

    /// The program, and the Debian package that brings it.
    pub fn program(self, binaries: &Binaries) -> Result<(&Path, Option<&'static str>)> {
        Ok(match self {
            Self::NginxFull | Self::Nginx => (&binaries.nginx, Some("nginx")),
            Self::Haproxy => (&binaries.haproxy, Some("haproxy")),
            Self::Edge => (binaries.edge.as_deref().ok_or("peer edge needs --edge PATH")?, None),
        })
    }

    /// Whether there is a configuration with every policy on.
    pub fn has_all(self) -> bool {
        self != Self::Haproxy
    }

    /// A fresh process on fresh ports with one worker, ready to serve. `all`: with a second host
    /// that has every policy on; without it no other case pays for one.
    pub fn start(
        self,
        binaries: &Binaries,
        identity: &Identity,
        (backend, all): (u16, bool),
        core: Option<usize>,
        dir: &Path,
    ) -> Result<Running> {
        let [plain, tls, admin] = net::free_ports()?;
        let ports = Ports { plain, tls, admin };
        let program = self.program(binaries)?.0.to_owned();
        let file = dir.join("peer.conf");
        let (text, argv) = match self {
            Self::NginxFull | Self::Nginx => (
                nginx_config((self == Self::NginxFull, all), &ports, identity, backend, dir),
                [
                    program.display().to_string(),
                    "-p".into(),
                    dir.display().to_string(),
                    "-c".into(),
                    file.display().to_string(),
                ]
                .to_vec(),
            ),
            Self::Haproxy => (
                haproxy_config(&ports, identity, backend),
                vec![program.display().to_string(), "-f".into(), file.display().to_string()],
            ),
            Self::Edge => {
                let file = dir.join("edge.yaml");
                let mut text = edge::config(&ports, identity, backend, 1, dir);
                if all {
                    text += &edge::all_route();
                }
                fs::write(&file, text)?;
                let server = Server::start(&edge::argv(&program, &file), core, &[plain, tls], dir)?;
                return Ok(Running { server, ports });
            }
        };
        fs::write(&file, text)?;
        let server = Server::start(&argv, core, &[plain, tls], dir)?;
        Ok(Running { server, ports })
    }
}

fn nginx_config(
    (full, all): (bool, bool),
    ports: &Ports,
    identity: &Identity,
    backend: u16,
    dir: &Path,
) -> String {
    let Ports { plain, tls, .. } = ports;
    let (dir, chain, key) = (dir.display(), identity.chain.display(), identity.key.display());
    let (log, fields) = if full { (NGINX_LOG, NGINX_FIELDS) } else { ("access_log off;", "") };
    let location = format!(
        "location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Real-IP $remote_addr;
      {fields}
      proxy_buffering on; proxy_buffer_size 8k; proxy_buffers 8 16k;
      proxy_max_temp_file_size 0; proxy_request_buffering on;"
    );
    let second = if all { nginx_all(*plain, &location) } else { String::new() };
    format!(
        "user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; multi_accept off; }}
http {{
  {log}
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server_tokens off; tcp_nodelay on; sendfile on; reset_timedout_connection on;
  keepalive_timeout 300s; keepalive_requests 100000000;
  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive 512; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{plain} reuseport backlog=4096;
    listen 127.0.0.1:{tls} ssl http2 reuseport backlog=4096;
    server_name _;
    ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m; ssl_session_tickets on; ssl_buffer_size 16k;
    http2_max_concurrent_streams 128;
    {location}
    }}
  }}
  {second}
}}
"
    )
}

/// What `edge::all_route` says, in nginx's words.
fn nginx_all(plain: u16, location: &str) -> String {
    format!(
        "limit_req_zone $binary_remote_addr zone=address:10m rate=1000000r/s;
  limit_req_zone $http_authorization zone=credential:10m rate=1000000r/s;
  map $http_origin $allowed_origin {{ https://app.openclaw.example $http_origin; }}
  map $http_origin $allowed_credentials {{ https://app.openclaw.example true; }}
  map $http_origin $exposed {{ https://app.openclaw.example \"{NGINX_EXPOSED}\"; }}
  server {{
    listen 127.0.0.1:{plain};
    server_name {ALL_HOST};
    allow 127.0.0.0/8; deny 192.0.2.66/32; allow 192.0.2.0/24; deny all;
    limit_req zone=address burst=1000000 nodelay;
    limit_req zone=credential burst=1000000 nodelay;
    add_header Access-Control-Allow-Origin $allowed_origin always;
    add_header Access-Control-Allow-Credentials $allowed_credentials always;
    add_header Access-Control-Expose-Headers $exposed always;
    add_header Vary Origin always;
    add_header X-Content-Type-Options nosniff always;
    add_header Referrer-Policy strict-origin-when-cross-origin always;
    add_header X-Edge measured always;
    {location}
      proxy_set_header X-Edge measured;
    }}
  }}"
    )
}

/// What ours exposes to scripts by itself.
const NGINX_EXPOSED: &str = "Retry-After, RateLimit, RateLimit-Policy, X-RateLimit-Limit, \
    X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id";

/// 16 variables in the shape of ingress-nginx's line.
const NGINX_LOG: &str = "log_format ingress '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent '
    '\"$http_referer\" \"$http_user_agent\" $request_length $request_time [$host] '
    '$upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id';
  access_log /dev/null ingress buffer=64k flush=1s;";

const NGINX_FIELDS: &str = "proxy_set_header X-Request-ID $request_id;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Scheme $scheme;";

fn haproxy_config(ports: &Ports, identity: &Identity, backend: u16) -> String {
    let Ports { plain, tls, .. } = ports;
    let both = identity.both.display();
    format!(
        "global
  nbthread 1
  maxconn 9000
  tune.ssl.default-dh-param 2048
  tune.ssl.cachesize 20000
defaults
  mode http
  no log
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
frontend edge
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {both} alpn h2,http/1.1
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  default_backend backend
backend backend
  server one 127.0.0.1:{backend} pool-max-conn 512
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_log_has_16_variables() {
        assert_eq!(NGINX_LOG.matches('$').count(), 16);
        assert_eq!(NGINX_FIELDS.matches("proxy_set_header").count(), 4);
    }
}
