//! The configuration of a scenario: a base that every test shares, and what the test adds.

use std::fmt::Write as _;
use std::path::Path;

#[derive(Clone)]
pub struct Conf {
    workers: usize,
    admin: String,
    http: String,
    https: String,
    tls: String,
    issuers: String,
    default_issuer: &'static str,
    global: String,
    entries: String,
    binds: [String; 2],
    plaintext: bool,
}

impl Conf {
    /// `entries`: `upstreams:`, `routes:` and so on. One worker, a plaintext listener `http` and a
    /// TLS listener `https` on free loopback ports, certificates of the internal CA.
    pub fn new(entries: impl Into<String>) -> Conf {
        Conf {
            workers: 1,
            admin: "127.0.0.1:0".to_owned(),
            http: String::new(),
            https: String::new(),
            tls: String::new(),
            issuers: String::new(),
            default_issuer: "local",
            global: String::new(),
            entries: entries.into(),
            binds: ["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()],
            plaintext: true,
        }
    }

    /// One route `app` for `app.openclaw.example` to these endpoints.
    pub fn app(endpoints: &[std::net::SocketAddr]) -> Conf {
        Conf::app_with(endpoints, "", "")
    }

    /// As [`Conf::app`], with further keys of the upstream and of the route (flow style).
    pub fn app_with(endpoints: &[std::net::SocketAddr], upstream: &str, route: &str) -> Conf {
        Conf::host("app.openclaw.example", endpoints, upstream, route)
    }

    /// As [`Conf::app_with`], for another host.
    pub fn host(
        host: &str,
        endpoints: &[std::net::SocketAddr],
        upstream: &str,
        route: &str,
    ) -> Conf {
        let list: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
        let list = list.join(", ");
        let comma = |s: &str| if s.is_empty() { String::new() } else { format!(", {s}") };
        Conf::new(format!(
            "upstreams:\n  app: {{ endpoints: [{list}]{} }}\n\
             routes:\n  app: {{ hosts: [{host}], upstream: app{} }}\n",
            comma(upstream),
            comma(route)
        ))
    }

    pub fn workers(mut self, n: usize) -> Conf {
        self.workers = n;
        self
    }

    pub fn admin(mut self, listen: &str) -> Conf {
        listen.clone_into(&mut self.admin);
        self
    }

    /// Of the plaintext listener and of the TLS listener.
    pub fn bind(mut self, http: &str, https: &str) -> Conf {
        self.binds = [http.to_owned(), https.to_owned()];
        self
    }

    /// No plaintext listener.
    pub fn tls_only(mut self) -> Conf {
        self.plaintext = false;
        self
    }

    /// Further keys of the plaintext listener.
    pub fn http(mut self, keys: &str) -> Conf {
        self.http.push_str(", ");
        self.http.push_str(keys);
        self
    }

    /// Further keys of the TLS listener.
    pub fn https(mut self, keys: &str) -> Conf {
        self.https.push_str(", ");
        self.https.push_str(keys);
        self
    }

    /// Further keys of both.
    pub fn both(self, keys: &str) -> Conf {
        self.http(keys).https(keys)
    }

    /// Keys of the TLS policy.
    pub fn tls(mut self, keys: &str) -> Conf {
        keys.clone_into(&mut self.tls);
        self
    }

    /// A further issuer, with its keys (flow style).
    pub fn issuer(mut self, name: &str, keys: &str) -> Conf {
        let _ = writeln!(self.issuers, "  {name}: {{ {keys} }}");
        self
    }

    /// A CA as the default issuer `acme`; `roots` are those of its API, for https.
    pub fn acme(mut self, directory: &str, roots: Option<&Path>, keys: &str) -> Conf {
        let roots = roots.map(|file| format!(", roots: {}", file.display())).unwrap_or_default();
        let comma = if keys.is_empty() { "" } else { ", " };
        self.default_issuer = "acme";
        self.issuer("acme", &format!("directory: \"{directory}\"{roots}{comma}{keys}"))
    }

    /// Top-level lines.
    pub fn global(mut self, lines: &str) -> Conf {
        self.global.push_str(lines);
        self.global.push('\n');
        self
    }

    pub fn render(&self, dir: &Path) -> String {
        let dir = dir.display();
        let Conf { workers, admin, http, https, tls, global, entries, binds, .. } = self;
        let Conf { issuers, default_issuer, .. } = self;
        let [bind_http, bind_https] = binds;
        let http = match self.plaintext {
            true => format!("  http: {{ bind: [\"{bind_http}\"]{http} }}\n"),
            false => String::new(),
        };
        format!(
            "version: 1\n\
             workers: {workers}\n\
             state_dir: {dir}/state\n\
             admin: {{ listen: \"{admin}\", socket: {dir}/admin.sock }}\n\
             listeners:\n\
             {http}  \
               https: {{ bind: [\"{bind_https}\"], tls: {{ {tls} }}{https} }}\n\
             issuers:\n  local: {{ internal: {{}} }}\n{issuers}\
             default_issuer: {default_issuer}\n\
             {global}{entries}"
        )
    }
}
