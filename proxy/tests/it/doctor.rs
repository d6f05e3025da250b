//! `doctor` on a machine that is not well: ports of others, open files, low limits, names that lead
//! nowhere, rights that are missing, a clock that is wrong.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::RecordType::{A, AAAA};
use serde_json::Value;

use crate::certs_cli::Told;
use crate::dns::dns;
use crate::dns::server::{EMPTY, Reply, TestDns, addresses};
use crate::harness::acme::{MockCa, Port};
use crate::harness::edge::BINARY;
use crate::harness::{Conf, Edge, Lab, eventually, wait_until};

const APP: &str = "app.openclaw.example";

/// One route for these hosts.
fn conf(hosts: &[&str]) -> Conf {
    let hosts = hosts.join(", ");
    Conf::new(format!(
        "routes:\n  app: {{ hosts: [{hosts}], respond: {{ status: 200, body: ok }} }}\n"
    ))
}

/// The lab with this configuration on two ports that nobody else gets.
fn lab(conf: Conf) -> (Arc<Lab>, [Port; 2], Conf) {
    let (lab, ports) = (Lab::new(), [Port::reserve(), Port::reserve()]);
    let conf = conf.bind(&ports[0].bind(), &ports[1].bind());
    lab.write("edge.yaml", conf.render(lab.path()));
    (lab, ports, conf)
}

fn say(dns: &TestDns, host: &str, ip: &str) {
    let name = format!("{host}.");
    dns.set(&name, A, Reply::Records(addresses(&name, 1, &[ip])));
    dns.set(&name, AAAA, EMPTY);
}

/// What it told, as JSON.
struct Found {
    code: i32,
    value: Value,
}

impl Found {
    fn of(mut command: Command, lab: &Lab, more: &[&str]) -> Found {
        command.args(["doctor", "-o", "json", "--config"]).arg(lab.path().join("edge.yaml"));
        let told = Told::of(command.args(more).output().unwrap());
        let value = serde_json::from_str(&told.out);
        let value = value.unwrap_or_else(|e| panic!("{e}: {}\n{}", told.out, told.err));
        Found { code: told.code, value }
    }

    fn offline(lab: &Lab) -> Found {
        Found::of(Command::new(BINARY), lab, &["--offline"])
    }

    /// Asks this DNS server.
    fn online(lab: &Lab, server: SocketAddr) -> Found {
        let text = format!("nameserver {server}\noptions timeout:1 attempts:1\n");
        let mut command = Command::new(BINARY);
        command.env("OPENCLAW_EDGE_RESOLV_CONF", lab.write("resolv.conf", text));
        Found::of(command, lab, &[])
    }

    /// The line of `check` that has `part` in it.
    #[track_caller]
    fn line(&self, check: &str, part: &str) -> &Value {
        let mut lines = self.value["lines"].as_array().unwrap().iter();
        let found = lines.find(|line| {
            line["check"] == check && line["text"].as_str().is_some_and(|text| text.contains(part))
        });
        found.unwrap_or_else(|| panic!("no {check} with {part:?}: {:#}", self.value))
    }

    /// The line, which has this level, and in its fix this.
    #[track_caller]
    fn says(&self, check: &str, part: &str, level: &str, fix: &str) {
        let line = self.line(check, part);
        assert_eq!(line["level"], level, "{line}");
        let has = line["fix"].as_str().unwrap_or_default();
        assert!(has.contains(fix) && has.is_empty() == fix.is_empty(), "no {fix:?} in {line}");
    }

    /// How bad it is on the whole, without what the machine of the test has.
    fn errors(&self) -> u64 {
        self.value["errors"].as_u64().unwrap()
    }
}

/// A process of this name that has the listener, until it is dropped.
struct Holder(Child);

impl Holder {
    fn start(lab: &Lab, name: &str, listener: TcpListener) -> Holder {
        let program = lab.path().join(name);
        symlink("/bin/sleep", &program).unwrap();
        let mut command = Command::new(program);
        let stdin: std::os::fd::OwnedFd = listener.into();
        let holder = Holder(command.arg("600").stdin(Stdio::from(stdin)).spawn().unwrap());
        let comm = format!("/proc/{}/comm", holder.0.id());
        // Before exec it has our name.
        wait_until("its name", || fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == name));
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_of_another_process_is_named_with_what_ends_it() {
    let (lab, ports, _) = lab(conf(&[APP]));
    let free = Found::offline(&lab);
    free.says("ports", &format!("{} (listener http): free", ports[0].addr), "ok", "");
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.set_reuse_address(true).unwrap();
    taken.bind(&ports[0].addr.into()).unwrap();
    taken.listen(1).unwrap();
    let nginx = Holder::start(&lab, "nginx", taken.into());
    let found = Found::offline(&lab);
    let who = format!("{} (listener http): taken by process {} (", ports[0].addr, nginx.0.id());
    found.says("ports", &who, "error", "systemctl disable --now nginx");
    found.says("ports", &format!("{} (listener https): free", ports[1].addr), "ok", "");
    assert_eq!(found.code, 1);
    drop(nginx);
    Found::offline(&lab).says("ports", "(listener http): free", "ok", "");
}

#[test]
fn the_running_edge_is_no_stranger_and_another_one_is() {
    let (lab, ports, conf) = lab(conf(&[APP]));
    let mut edge = Edge::start_in(&lab, &conf);
    let found = Found::offline(&lab);
    let who = format!("the running openclaw-edge, process {}", edge.pid());
    for port in &ports {
        found.says("ports", &format!("{} ", port.addr), "ok", "");
        assert!(found.line("ports", &port.bind())["text"].as_str().unwrap().contains(&who));
    }
    found.says("process", "is ready", "ok", "");
    found.says("config", "as the running process has it", "ok", "");
    found.says("socket", "admin.sock", "ok", "");
    found.says("state", "closed to others", "ok", "");
    assert!(found.line("descriptors", "of the running process")["level"] != "error");
    assert_eq!((found.errors(), found.code), (0, 0), "{:#}", found.value);

    // Seen from another configuration, the process is in the way.
    let other = Lab::new();
    other.write("edge.yaml", conf.render(other.path()));
    let told = format!("an openclaw-edge of another configuration, process {}", edge.pid());
    Found::offline(&other).says("ports", &told, "error", &format!("kill {}", edge.pid()));
    edge.kill();
    let found = Found::offline(&lab);
    found.says("process", "nobody answers", "ok", "");
    found.says("ports", "(listener http): free", "ok", "");
}

#[test]
fn what_is_open_to_others_is_closed_by_what_it_says() {
    let (lab, _ports, conf) = lab(conf(&[APP]));
    let mut edge = Edge::start_in(&lab, &conf);
    let key = lab.path().join("state/internal/ca-and-key.pem");
    eventually("the key of the internal CA", || key.exists().then_some(()));
    edge.kill();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let found = Found::offline(&lab);
    let state = lab.path().join("state");
    let fix = format!("chmod -R go= {}", state.display());
    found.says("state", "ca-and-key.pem", "error", &fix);
    assert_eq!(found.code, 1);
    assert!(Command::new("sh").args(["-c", &fix]).status().unwrap().success());
    let found = Found::offline(&lab);
    found.says("state", "closed to others", "ok", "");
    assert_eq!(found.errors(), 0, "{:#}", found.value);
}

#[test]
fn a_state_directory_that_is_not_there_and_one_that_is_none() {
    let (lab, _ports, _) = lab(conf(&[APP]));
    let found = Found::offline(&lab);
    found.says("state", "is not there yet", "warning", "openclaw-edge restore");
    assert!(!lab.path().join("state").exists(), "looking makes nothing");
    lab.write("state", "x");
    Found::offline(&lab).says("state", "is no directory", "error", "state_dir");
    lab.write("admin.sock", "x");
    Found::offline(&lab).says("socket", "is no socket", "error", "rm ");
}

#[test]
fn few_descriptors_for_many_connections() {
    let (lab, _ports, _) = lab(conf(&[APP]).both("limits: { connections: 400 }"));
    let with = |files: u32| {
        let mut command = Command::new("prlimit");
        command.args([&format!("--nofile={files}:{files}"), BINARY]);
        Found::of(command, &lab, &["--offline"])
    };
    with(900).says("descriptors", "which needs 928", "error", "LimitNOFILE=65536");
    with(928).says("descriptors", "1728 are needed", "warning", "LimitNOFILE=65536");
    with(1728).says("descriptors", "enough for 800 connections", "ok", "");
}

#[test]
fn names_that_lead_here_elsewhere_and_nowhere() {
    let dns = dns();
    let hosts = [APP, "api.openclaw.example", "gone.openclaw.example", "mute.openclaw.example"];
    let (lab, _ports, _) = lab(conf(&hosts));
    say(&dns, hosts[0], "127.0.0.1");
    say(&dns, hosts[1], "192.0.2.77");
    for kind in [A, AAAA] {
        dns.set("mute.openclaw.example.", kind, Reply::Silence);
    }
    let begin = Instant::now();
    let found = Found::online(&lab, dns.address);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    found.says("dns", "app.openclaw.example: 127.0.0.1, this machine", "ok", "");
    found.line("dns", "api.openclaw.example: 192.0.2.77");
    assert_eq!(found.line("dns", "192.0.2.77")["level"], "warning");
    found.says("dns", "gone.openclaw.example: DNS: NXDOMAIN", "error", "an A record");
    found.says("dns", "mute.openclaw.example: DNS", "error", "an A record");
    assert_eq!(found.code, 1);
    // Only the absolute name, and nothing at all offline.
    assert!(dns.asked("gone.openclaw.example.", A) > 0);
    let before = dns.asked(&format!("{APP}."), A);
    let found = Found::offline(&lab);
    assert!(!found.value.to_string().contains("\"dns\""));
    assert_eq!(dns.asked(&format!("{APP}."), A), before);
}

#[test]
fn the_clock_goes_by_the_ca_and_by_certificates() {
    let (dns, ca) = (dns(), MockCa::start());
    say(&dns, APP, "127.0.0.1");
    let (lab, _ports, _) = lab(conf(&[APP]).acme(&ca.directory(), None, ""));
    Found::online(&lab, dns.address).says("clock", "agrees with acme", "ok", "");
    ca.set(|knobs| knobs.date_ahead = 120);
    Found::online(&lab, dns.address).says("clock", "behind", "warning", "timedatectl");
    ca.set(|knobs| knobs.date_ahead = -7200);
    Found::online(&lab, dns.address).says("clock", "ahead of", "error", "timedatectl");
    drop(ca);
    let found = Found::online(&lab, dns.address);
    found.says("issuer", "issuer acme cannot be asked", "warning", "curl -I");
    assert_ne!(found.line("clock", "")["level"], "error");

    // Not valid yet.
    let store = acme::store::Store::open(&lab.path().join("state")).unwrap();
    let mut params = rcgen::CertificateParams::new([APP.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let bundle = acme::store::bundle(None, &made.pem(), &key.serialize_pem());
    store.put_certificate(&[APP.to_owned()], &bundle).unwrap();
    Found::offline(&lab).says("clock", "this clock is behind", "error", "timedatectl");
}

/// As somebody who may not have the right at all.
fn without_rights() -> Command {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        return Command::new(BINARY);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    command.args(["--bounding-set=-net_bind_service", BINARY]);
    command
}

#[test]
fn low_ports_without_the_right() {
    let lab = Lab::new();
    // The test may be root's, the one who looks is not.
    fs::set_permissions(lab.path(), Permissions::from_mode(0o755)).unwrap();
    let conf = conf(&[APP]).bind("127.77.0.1:80", "127.77.0.1:443");
    let config = lab.write("edge.yaml", conf.render(lab.path()));
    fs::set_permissions(config, Permissions::from_mode(0o644)).unwrap();
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() <= 80 {
        Found::offline(&lab).says("rights", "no right is needed", "ok", "");
        return;
    }
    let found = Found::of(without_rights(), &lab, &["--offline"]);
    found.says("rights", "may not bind the ports 80, 443", "error", "NET_BIND_SERVICE");
    assert_eq!(found.code, 1);
    if rustix::process::geteuid().is_root() {
        found.line("rights", "not in the bounding set");
        Found::offline(&lab).says("rights", "may bind the ports 80, 443", "ok", "");
    }
}

/// The one who looks is not the one who runs, and may not see who runs.
#[test]
fn a_stranger_is_told_what_cannot_be_seen() {
    let (lab, _ports, conf) = lab(conf(&[APP]));
    fs::set_permissions(lab.path(), Permissions::from_mode(0o755)).unwrap();
    let _edge = Edge::start_in(&lab, &conf);
    fs::set_permissions(lab.path().join("edge.yaml"), Permissions::from_mode(0o644)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return assert_eq!(Found::offline(&lab).code, 0);
    }
    let found = Found::of(without_rights(), &lab, &["--offline"]);
    found.says("process", "cannot be asked", "warning", "as root");
    found.says("ports", "(listener http): taken by a process of uid 0", "warning", "ss -ltnp");
    found.says("state", "belongs to uid 0, this is uid 65534", "warning", "as root");
    assert_eq!((found.errors(), found.code), (0, 0), "{:#}", found.value);
}

#[test]
fn for_people_and_with_a_broken_file() {
    let (lab, _ports, _) = lab(conf(&[APP]));
    let file = lab.path().join("edge.yaml");
    let people = |file: &Path| {
        let mut command = Command::new(BINARY);
        Told::of(command.args(["doctor", "--offline", "--config"]).arg(file).output().unwrap())
    };
    let told = people(&file);
    let told = told.says("ok       ports       ").says(", 0 errors").says("fix: ");
    assert_eq!(told.code, 0, "{}", told.out);
    fs::write(&file, "version: 1\nlisteners: 7\n").unwrap();
    let fix = format!("fix: openclaw-edge check --config {}", file.display());
    people(&file).ends(1).says("error    config").says(&fix);
    let routes = "routes: { a: { hosts: [a.openclaw.example], upstraem: x } }\n";
    let quarantined = format!("{}{routes}", Conf::new("").render(lab.path()));
    fs::write(&file, quarantined).unwrap();
    people(&file).ends(1).says("(1 bad entry)");
    people(Path::new("/nonexistent.yaml")).ends(1).says("/nonexistent.yaml");
    Told::of(Command::new(BINARY).args(["doctor", "--nonsense"]).output().unwrap()).ends(2);
}
