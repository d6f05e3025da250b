//! What the outside can reach: the firewall as far as connections prove it, the port of a CA's challenges,
//! believed proxies, routes that look internal and are open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use acme::ca::ChallengeKind;
use acme::doctor::reserved;
use config::merge::Accepted;
use config::model::{Action, Global, Route};
use ipnet::IpNet;

use super::line::Report;
use super::tcp::{ESTABLISHED, Row, TIME_WAIT};
use crate::cli::orders::orders;

pub fn look(accepted: &Accepted, table: &[Row], report: &mut Report) {
    let global = &accepted.global;
    firewall(global, table, &challenges(accepted), report);
    proxies(global, report);
    open_routes(accepted, report);
}

/// Ports that a CA connects to, with the challenge's name.
fn challenges(accepted: &Accepted) -> BTreeMap<u16, &'static str> {
    let wanted = orders(accepted).wanted;
    let issuers = wanted.certificates.iter().filter_map(|one| wanted.issuers.get(&one.issuer));
    let port = |kind| match kind {
        ChallengeKind::Http01 => (80, "HTTP-01"),
        ChallengeKind::TlsAlpn01 => (443, "TLS-ALPN-01"),
    };
    issuers.map(|issuer| port(issuer.challenge)).collect()
}

// === firewall ===

/// Rules of a firewall are root's to read, and those of a cloud nobody's here. But a connection from
/// outside proves that its port is open.
fn firewall(
    global: &Global,
    table: &[Row],
    challenges: &BTreeMap<u16, &'static str>,
    report: &mut Report,
) {
    let binds = global.listeners.values().flat_map(|listener| {
        listener.bind.iter().map(|bind| (listener.public_port.unwrap_or(bind.port()), *bind))
    });
    let binds: Vec<_> = binds.filter(|(_, bind)| !bind.ip().is_loopback()).collect();
    let public: BTreeSet<u16> = binds.iter().map(|(port, _)| *port).collect();
    // Without any it is a machine of development, whose CA is its own.
    if binds.is_empty() {
        return;
    }
    for (port, challenge) in challenges.iter().filter(|(port, _)| !public.contains(port)) {
        let text = format!("{challenge} is used, and no listener has port {port} to the outside");
        let fix = format!("bind: [\"[::]:{port}\"]; behind a port forward public_port: {port}");
        report.error(FIREWALL, text, fix);
    }
    let unseen: BTreeSet<u16> = binds
        .iter()
        .map(|(_, bind)| bind.port())
        .filter(|port| *port != 0 && !is_met(*port, table))
        .collect();
    if unseen.is_empty() {
        return report.ok(FIREWALL, "connections from outside reach every listener");
    }
    let ports = unseen.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
    let needed = challenges.iter().map(|(port, name)| format!("; {name} needs TCP {port} open"));
    let text = format!(
        "unknown: no connection from outside to {ports} right now{}",
        needed.collect::<String>()
    );
    let fix = "from outside: curl -I http://HOST/; here as root: ufw status, nft list ruleset; the cloud's security group";
    report.warn(FIREWALL, text, fix.to_owned());
}

/// Somebody out there has a connection to it.
fn is_met(port: u16, table: &[Row]) -> bool {
    let outside = |ip: IpAddr| reserved(ip.to_canonical()).is_none();
    table.iter().any(|row| {
        matches!(row.state, ESTABLISHED | TIME_WAIT)
            && row.local.port() == port
            && outside(row.remote.ip())
    })
}

// === proxies ===

fn proxies(global: &Global, report: &mut Report) {
    let listeners = global.listeners.values();
    let lists = listeners
        .map(|one| (format!("listeners.{}.proxy_protocol", one.name), &one.proxy_protocol))
        .chain([("trusted_proxies".to_owned(), &global.trusted_proxies)]);
    let mut believed = 0;
    for (key, networks) in lists {
        for network in networks {
            match width(network) {
                Width::All => report.error(
                    PROXIES,
                    format!(
                        "{key} believes everybody ({network}): any client names its own address"
                    ),
                    format!("{key}: the addresses of your load balancer only"),
                ),
                Width::Wide => report.warn(
                    PROXIES,
                    format!("{key}: {network} is a great part of the internet"),
                    format!("{key}: the addresses of your load balancer only"),
                ),
                Width::Narrow => believed += 1,
            }
        }
    }
    if believed > 0 {
        report.ok(PROXIES, format!("{believed} networks are believed"));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Width {
    All,
    Wide,
    Narrow,
}

fn width(network: &IpNet) -> Width {
    let least = if network.addr().is_ipv4() { 8 } else { 16 };
    match network.prefix_len() {
        0 => Width::All,
        // fc00::/7 is all of the private ones.
        bits if bits < least && reserved(network.network()).is_none() => Width::Wide,
        _ => Width::Narrow,
    }
}

// === routes ===

/// Consoles of programs that mostly have no password of their own worth the name. One line at most.
fn open_routes(accepted: &Accepted, report: &mut Report) {
    let routes = || accepted.routes.values().map(|entry| &entry.value);
    let guarded: BTreeSet<_> =
        routes().filter(|route| route.access.is_some()).flat_map(|route| &route.hosts).collect();
    let open: Vec<&str> = routes()
        .filter(|route| {
            is_internal(route) && !route.hosts.iter().any(|host| guarded.contains(host))
        })
        .map(|route| route.name.as_str())
        .collect();
    if !open.is_empty() {
        let text =
            format!("hosts that sound internal are open to everybody: routes {}", open.join(", "));
        let fix =
            "access: { basic_auth: ... } or access: { allow: [...] } of the route; else nothing";
        report.warn(ROUTES, text, fix.to_owned());
    }
}

fn is_internal(route: &Route) -> bool {
    let forwards = matches!(route.action, Action::Upstream(_) | Action::Split(_));
    let sounds = |host: String| {
        let label = host.split('.').next().unwrap_or_default().to_owned();
        label.split('-').any(|word| INTERNAL.contains(&word))
    };
    forwards && route.access.is_none() && route.hosts.iter().any(|host| sounds(host.to_string()))
}

const FIREWALL: &str = "firewall";
const PROXIES: &str = "proxies";
const ROUTES: &str = "routes";
const INTERNAL: [&str; 21] = [
    "admin",
    "adminer",
    "alertmanager",
    "argocd",
    "console",
    "debug",
    "etcd",
    "grafana",
    "internal",
    "intern",
    "jenkins",
    "kibana",
    "kubernetes",
    "longhorn",
    "nango",
    "pgadmin",
    "phpmyadmin",
    "prometheus",
    "redis",
    "traefik",
    "vault",
];

#[cfg(test)]
mod tests {
    use config::NoEnvironment;
    use config::merge::merge;

    use super::super::line::{Level, Line};
    use super::*;

    fn told(listeners: &str, more: &str, table: &[Row]) -> Vec<Line> {
        let text = format!(
            "version: 1\nstate_dir: /nonexistent\nlisteners:\n  {listeners}\n{more}\
             upstreams: {{ u: {{ endpoints: ['127.0.0.1:1'] }} }}\n"
        );
        let accepted = merge(None, config::parse("edge.yaml", &text, &NoEnvironment).unwrap());
        assert!(accepted.quarantined.is_empty(), "{:?}", accepted.quarantined);
        let mut report = Report::default();
        look(&accepted, table, &mut report);
        report.lines
    }

    fn met(port: u16, remote: &str) -> Row {
        let (local, remote) = (([192, 0, 2, 1], port).into(), remote.parse().unwrap());
        Row { local, remote, state: ESTABLISHED, uid: 0, inode: 1 }
    }

    #[test]
    fn a_connection_from_outside_proves_a_port() {
        let both = "a: { bind: ['[::]:80'] }\n  b: { bind: ['192.0.2.1:443'] }";
        let table = [met(80, "[::ffff:198.51.100.7]:5"), met(443, "10.0.0.7:5")];
        let lines = told(both, "", &table);
        assert_eq!((lines.len(), lines[0].level), (1, Level::Warning));
        assert!(lines[0].text.contains("to 443 right"), "{}", lines[0].text);
        let lines = told(both, "", &[table[0], met(443, "198.51.100.7:5")]);
        assert_eq!((lines.len(), lines[0].level), (1, Level::Ok));
        assert!(told("a: { bind: ['127.0.0.1:80'] }", "", &[]).is_empty(), "loopback is its own");
    }

    #[test]
    fn a_challenge_needs_its_port() {
        let acme = "issuers: { ca: { directory: 'https://ca.openclaw.example/dir' } }\n\
            default_issuer: ca\nroutes: { a: { hosts: [a.openclaw.example], upstream: u } }\n";
        for (listeners, port) in [
            ("s: { bind: ['[::]:8443'], tls: {} }", "443"),
            ("s: { bind: ['[::]:443'], tls: {} }\n  h: { bind: ['[::]:8080'] }", "80"),
        ] {
            let bad = told(listeners, acme, &[]);
            assert_eq!(bad[0].level, Level::Error);
            assert!(bad[0].text.contains(&format!("port {port} to")), "{}", bad[0].text);
        }
        for good in ["'[::]:80'] }", "'[::]:8080'], public_port: 80 }"] {
            let listeners =
                format!("s: {{ bind: ['[::]:443'], tls: {{}} }}\n  h: {{ bind: [{good}");
            assert!(told(&listeners, acme, &[]).iter().all(|line| line.level == Level::Warning));
        }
    }

    #[test]
    fn who_is_believed() {
        for (network, width_) in [
            ("0.0.0.0/0", Width::All),
            ("::/0", Width::All),
            ("128.0.0.0/1", Width::Wide),
            ("2000::/3", Width::Wide),
            ("10.0.0.0/8", Width::Narrow),
            ("fc00::/7", Width::Narrow),
            ("192.0.2.1/32", Width::Narrow),
        ] {
            assert_eq!(width(&network.parse().unwrap()), width_, "{network}");
        }
        let lines = told("a: { bind: ['127.0.0.1:1'] }", "trusted_proxies: ['0.0.0.0/0']\n", &[]);
        assert_eq!(lines[0].level, Level::Error);
    }

    #[test]
    fn one_line_for_what_sounds_internal() {
        let routes = |rest: &str| {
            let more = format!(
                "routes:\n  g: {{ hosts: [grafana.openclaw.example], upstream: u }}\n  \
                 t: {{ hosts: [acme-admin.openclaw.example], upstream: u }}\n  \
                 n: {{ hosts: [admin.openclaw.example], respond: {{ status: 404 }} }}\n  \
                 a: {{ hosts: [app.openclaw.example], upstream: u }}\n{rest}"
            );
            told("a: { bind: ['127.0.0.1:1'] }", &more, &[])
        };
        let lines = routes("");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].text.ends_with("routes g, t"), "{}", lines[0].text);
        let guarded = "  x: { hosts: [grafana.openclaw.example], path: /x, upstream: u, \
            access: { allow: [192.0.2.0/24] } }\n";
        assert!(routes(guarded)[0].text.ends_with("routes t"));
    }
}
