//! `soak platform`: config/examples/platform.yaml on loopback, with real clients.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use benches::{Result, edge, net};

use crate::backend::{self, next_event};
use crate::client::{Stream, tls_config};
use crate::curl::{Curl, Protocol, write_pattern};
use crate::outcome::Outcome;
use crate::process::Edge;
use crate::stall::Stall;
use crate::websocket;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value = "config/examples/platform.yaml")]
    config: PathBuf,
    #[arg(long, default_value_t = 120)]
    sse_seconds: u64,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("The platform")?;
    let dir = tempfile::tempdir()?;
    let [plain, tls, admin] = net::free_ports()?;
    let places = Places { plain, tls, admin, dir: dir.path().to_owned() };
    let mut backends = Vec::new();
    for service in SERVICES {
        backends.push((service, backend::start(service.name)?));
    }
    let text = translate(&fs::read_to_string(&args.config)?, &places, &backends)?;
    let file = dir.path().join("edge.yaml");
    fs::write(&file, text)?;
    for config in [&args.config, &file] {
        let mut check = Command::new(&args.edge);
        check.args(["check", "--config"]).arg(config).env(HTPASSWD, USERS);
        let checked = check.output()?;
        let what = if config == &file { "translated" } else { "as committed" };
        let met = checked.status.success();
        outcome.require(format!("`check` of the file {what}"), checked.status, "code 0", met);
        if !met {
            outcome.note(String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
        }
    }
    let mut edge =
        Edge::spawn(&edge::argv(&args.edge, &file), admin, &dir.path().join("edge.log"))?;
    edge.wait_ready(Duration::from_secs(10))?;
    let site = Site { places, trusted: dir.path().join("state/internal/ca.pem") };
    let mut checks = Checks { outcome: &mut outcome, failed: 0 };
    site.requests(&mut checks);
    site.bodies(&mut checks);
    checks.row("WebSocket on /_next/hmr over TLS: sizes, fragments, ping, close", site.websocket());
    site.streams(&mut checks, args.sse_seconds)?;
    if checks.failed > 0 {
        outcome.note(edge.log_tail());
    }
    edge.stop()?;
    Ok(outcome)
}

#[derive(Clone, Copy)]
struct Service {
    name: &'static str,
    host: &'static str,
    /// In the file.
    endpoint: &'static str,
}

const SERVICES: [Service; 4] = [
    Service {
        name: "web",
        host: "app.openclaw.example",
        endpoint: "web.platform.svc.cluster.local:3000",
    },
    Service {
        name: "api",
        host: "api.openclaw.example",
        endpoint: "api.platform.svc.cluster.local:8000",
    },
    Service {
        name: "token-proxy",
        host: PROXY,
        endpoint: "token-proxy.platform.svc.cluster.local:8080",
    },
    Service {
        name: "nango",
        host: "nango.openclaw.example",
        endpoint: "nango-server.platform.svc.cluster.local:8080",
    },
];
const PROXY: &str = "proxy.openclaw.example";
/// The variable of the example, what it gives here, and the password to it for curl.
const HTPASSWD: &str = "NANGO_HTPASSWD";
const USERS: &str = "ops:$2y$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2";
const LOGIN: &str = "-uops:pw";

struct Places {
    plain: u16,
    tls: u16,
    admin: u16,
    dir: PathBuf,
}

/// The file with loopback addresses; everything else stays as it is.
fn translate(text: &str, places: &Places, backends: &[(Service, u16)]) -> Result<String> {
    let Places { plain, tls, admin, dir } = places;
    let mut out = text.to_owned();
    let mut replace = |from: &str, to: &str| {
        if out.matches(from).count() != 1 {
            return Err(format!("`{from}` is not in the file once"));
        }
        out = out.replace(from, to);
        Ok(())
    };
    replace("\"[::]:80\"", &format!("\"127.0.0.1:{plain}\""))?;
    // Clients see port 443: so does a redirect.
    replace("bind: [\"[::]:443\"]", &format!("bind: [\"127.0.0.1:{tls}\"], public_port: 443"))?;
    for (service, port) in backends {
        replace(service.endpoint, &format!("127.0.0.1:{port}"))?;
    }
    replace(&format!("${{env:{HTPASSWD}}}"), USERS)?;
    let dir = dir.display();
    replace(
        "\nversion: 1\n",
        &format!(
            "\nversion: 1\nstate_dir: {dir}/state\n\
             admin: {{ listen: \"127.0.0.1:{admin}\", socket: {dir}/admin.sock }}\n"
        ),
    )?;
    Ok(out)
}

/// Rows of the report.
struct Checks<'a> {
    outcome: &'a mut Outcome,
    failed: u64,
}

impl Checks<'_> {
    fn row(&mut self, what: &str, done: Result<String>) {
        let (text, met) = match done {
            Ok(text) => (text, true),
            Err(e) => {
                self.outcome.note(format!("{what}: {e}"));
                ("failed".to_owned(), false)
            }
        };
        self.failed += u64::from(!met);
        self.outcome.require(what, text, "as expected", met);
    }
}

struct Site {
    places: Places,
    trusted: PathBuf,
}

impl Site {
    fn requests(&self, checks: &mut Checks<'_>) {
        for protocol in [Protocol::H1Tls, Protocol::H2] {
            let name = protocol.name();
            checks.row(&format!("{name}: each host reaches its backend"), self.hosts(protocol));
            checks.row(&format!("{name}: what the backend gets"), self.head(protocol));
            checks.row(&format!("{name}: /internal"), self.internal(protocol));
        }
        checks.row("http to https, every host", self.redirects());
    }

    fn hosts(&self, protocol: Protocol) -> Result<String> {
        for Service { name, host, .. } in SERVICES {
            // Nango has a password; others take the field as any other.
            let got = self.curl(protocol, host, "/a?b=c").arg(LOGIN);
            self.expect(got, 200, &format!("{name}\n"))?;
            let posted = self.curl(protocol, host, "/v1/chat/completions").arg(LOGIN).arg("-d{}");
            self.expect(posted, 200, &format!("{name}\n"))?;
        }
        Ok("GET and POST: 200 from the right one".to_owned())
    }

    fn head(&self, protocol: Protocol) -> Result<String> {
        let (said, text) = self
            .curl(protocol, "api.openclaw.example", "/head")
            .arg("-HX-Forwarded-For: 192.0.2.66")
            .arg("-HX-Real-IP: 192.0.2.66")
            .text()?;
        for field in [
            "host: api.openclaw.example\n",
            "x-forwarded-for: 127.0.0.1\n",
            "x-forwarded-proto: https\n",
            "x-forwarded-host: api.openclaw.example\n",
            "x-forwarded-port: 443\n",
            "x-real-ip: 127.0.0.1\n",
            "x-request-id: ",
        ] {
            if said.status != 200 || !text.contains(field) {
                return Err(format!("{} without `{}`:\n{text}", said.status, field.trim()).into());
            }
        }
        Ok("Host kept, X-Forwarded-* and X-Real-IP replaced, X-Request-Id".to_owned())
    }

    fn internal(&self, protocol: Protocol) -> Result<String> {
        for path in
            ["/internal", "/internal/", "/internal/keys", "/a/../internal/keys", "//internal"]
        {
            let (said, text) = self.curl(protocol, PROXY, path).arg("--path-as-is").text()?;
            // `//internal` is another path: it may be the backend's, as such.
            let other = path == "//internal" && said.status == 200 && text == "token-proxy\n";
            if said.status != 404 && !other {
                return Err(format!("{path}: {} {text}", said.status).into());
            }
        }
        self.expect(self.curl(protocol, PROXY, "/internals"), 200, "token-proxy\n")?;
        Ok("404, also below and by dots; /internals is the backend's".to_owned())
    }

    fn redirects(&self) -> Result<String> {
        for Service { host, .. } in SERVICES {
            let (said, _) = self.curl(Protocol::H1, host, "/x?y=1").text()?;
            if said.status != 308 || said.redirect != format!("https://{host}/x?y=1") {
                return Err(format!("{host}: {said:?}").into());
            }
        }
        Ok("308 to the same target".to_owned())
    }

    /// `body_limit` of the example: 10 MiB for the API, 20 MiB for the token proxy.
    fn bodies(&self, checks: &mut Checks<'_>) {
        for protocol in [Protocol::H1Tls, Protocol::H2] {
            checks.row(&format!("{}: body limits", protocol.name()), self.limits(protocol));
        }
    }

    fn limits(&self, protocol: Protocol) -> Result<String> {
        let file = self.places.dir.join("body");
        for (host, mib, passes) in [
            ("api.openclaw.example", 10, true),
            ("api.openclaw.example", 11, false),
            (PROXY, 20, true),
            (PROXY, 21, false),
        ] {
            let bytes = mib << 20;
            write_pattern(&mut File::create(&file)?, bytes)?;
            for piped in [false, true] {
                let curl = self.curl(protocol, host, "/up");
                let curl = if piped { curl.upload_pipe(bytes) } else { curl.upload(&file) };
                let (said, text) = curl.text().map_err(|e| format!("{mib} MiB to {host}: {e}"))?;
                let whole = text.starts_with(&format!("bytes {bytes} wrong none "));
                if passes != (said.status == 200 && whole) || !passes && said.status != 413 {
                    let status = said.status;
                    return Err(format!("{mib} MiB to {host}, {piped}: {status} {text}").into());
                }
            }
        }
        Ok("at the limit 200, one MiB more 413".to_owned())
    }

    fn websocket(&self) -> Result<String> {
        let host = "app.openclaw.example";
        let trusted = tls_config(&self.trusted)?;
        let stream = Stream::open(self.places.tls, Some(&trusted), host, PATIENCE)?;
        let mut client = websocket::Client::open(stream, host, "/_next/hmr", 1)?;
        for length in [0, 5, 125, 126, 65_535, 65_536, 1 << 20] {
            client.echo(&"x".repeat(length)).map_err(|e| format!("{length} bytes: {e}"))?;
            client.echo_fragments("fragmented ".repeat(length / 10 + 1).as_bytes())?;
        }
        let start = Instant::now();
        let mut messages = 0;
        while start.elapsed() < Duration::from_secs(5) {
            client.echo(&format!("message {messages}"))?;
            messages += 1;
        }
        client.close()?;
        Ok(format!("up to 1 MiB, then {messages} round trips in 5 s, closed with 1000"))
    }

    /// Both protocols at once: curl reads, this counts.
    fn streams(&self, checks: &mut Checks<'_>, seconds: u64) -> Result<()> {
        let stall = Stall::watch()?;
        let told = thread::scope(|scope| {
            let read = |protocol| scope.spawn(move || self.stream(protocol, seconds));
            let threads = [Protocol::H1Tls, Protocol::H2].map(|p| (p, read(p)));
            threads.map(|(protocol, thread)| {
                (protocol, thread.join().unwrap_or_else(|_| Err("panicked".into())))
            })
        });
        let stall = stall.finish();
        for (protocol, told) in told {
            let what = format!("{}: event stream of {seconds} s", protocol.name());
            let told = told.and_then(|(events, slowest)| {
                if slowest > Duration::from_secs(1) + stall {
                    return Err(format!("an event came {slowest:.1?} after the one before").into());
                }
                Ok(format!("{events} events, none missing, longest wait {slowest:.1?}"))
            });
            checks.row(&what, told);
        }
        checks.outcome.measured("longest stall of the machine meanwhile", format!("{stall:.1?}"));
        Ok(())
    }

    /// Number of events, and the longest wait for one.
    fn stream(&self, protocol: Protocol, seconds: u64) -> Result<(u64, Duration)> {
        let mut running = self.curl(protocol, PROXY, "/sse?ms=250").arg("-N").start()?;
        let start = Instant::now();
        let (mut events, mut last, mut slowest) = (0, start, Duration::ZERO);
        while start.elapsed() < Duration::from_secs(seconds) {
            let next = next_event(&mut running.out)?;
            if next != Some(events + 1) {
                let after = start.elapsed();
                return Err(format!("{next:?} after event {events}, {after:.1?}").into());
            }
            events += 1;
            slowest = slowest.max(last.elapsed());
            last = Instant::now();
        }
        running.abort()?;
        Ok((events, slowest))
    }

    fn expect(&self, curl: Curl, status: u16, body: &str) -> Result<()> {
        let (said, text) = curl.text()?;
        if said.status != status || text != body {
            return Err(format!("{said:?}: {text}").into());
        }
        Ok(())
    }

    fn curl(&self, protocol: Protocol, host: &str, path: &str) -> Curl {
        let Places { plain, tls, .. } = self.places;
        let port = if protocol == Protocol::H1 { plain } else { tls };
        Curl::new(protocol, host, path, port, Path::new(&self.trusted))
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_can_be_translated() {
        let text = include_str!("../../../../config/examples/platform.yaml");
        let places = Places { plain: 1080, tls: 1443, admin: 1901, dir: "/t".into() };
        let backends: Vec<_> = SERVICES.into_iter().zip(2001..).collect();
        let out = translate(text, &places, &backends).unwrap();
        assert!(!out.contains("[::]") && !out.contains("svc.cluster"), "{out}");
        for part in ["127.0.0.1:1080", "127.0.0.1:1443", "127.0.0.1:2004", "state_dir: /t/state"] {
            assert!(out.contains(part), "{part}");
        }
        assert!(translate("version: 1\n", &places, &backends).is_err());
    }
}
