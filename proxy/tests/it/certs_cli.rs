//! `certs` and `acme check` with a running process, a CA that validates, and without either.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::acme::mock_ca::{Fault, Problem};
use crate::harness::acme::{MockCa, Pebble, Port};
use crate::harness::edge::{admin_tcp, command};
use crate::harness::{Conf, Edge, Lab, wait_until};

const APP: &str = "app.openclaw.example";
const API: &str = "api.openclaw.example";
const PATH: &str = "/api/v1/certificates";

fn entries(hosts: &[&str]) -> String {
    let hosts = hosts.join(", ");
    format!("routes:\n  app: {{ hosts: [{hosts}], respond: {{ status: 200, body: ok }} }}\n")
}

/// What a command printed, and its exit code.
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn of(output: Output) -> Told {
        Told {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Told {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Told {
        assert!(self.out.contains(part), "no {part:?} on stdout: {}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn complains(self, part: &str) -> Told {
        assert!(self.err.contains(part), "no {part:?} on stderr: {}\n{}", self.err, self.out);
        self
    }
}

/// The command with the lab's configuration.
pub fn edge(lab: &Lab, arguments: &[&str]) -> Told {
    let config = lab.path().join("edge.yaml");
    let rest = ["--config", config.to_str().unwrap()];
    Told::of(command(&[arguments, &rest].concat()))
}

fn row(edge: &Edge, name: &str) -> Value {
    let all = edge.admin(PATH).json();
    let found = all["certificates"].as_array().unwrap().iter().find(|row| row["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no {name} in {all:#}"))
}

fn wait_valid(edge: &Edge, name: &str) -> Value {
    wait_until("a certificate", || row(edge, name)["state"] == "valid");
    row(edge, name)
}

/// A self-signed pair in two files.
fn pair(lab: &Lab, stem: &str, names: &[&str]) -> PathBuf {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let dir = lab.path().join(stem);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("fullchain.pem"), made.pem()).unwrap();
    fs::write(dir.join("privkey.pem"), key.serialize_pem()).unwrap();
    dir
}

/// A CA, and an edge that has its certificates.
struct Scene {
    pebble: Pebble,
    edge: Edge,
    lab: Arc<Lab>,
    ports: (Port, Port),
}

fn scene(hosts: &[&str], issuer: &str) -> Scene {
    let ports = (Port::reserve(), Port::reserve());
    let pebble = Pebble::start(ports.0.number(), ports.1.number());
    let conf = Conf::new(entries(hosts)).bind(&ports.0.bind(), &ports.1.bind()).acme(
        &pebble.directory(),
        Some(&pebble.roots()),
        issuer,
    );
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &conf);
    for host in hosts {
        wait_valid(&edge, host);
    }
    Scene { pebble, edge, lab, ports }
}

#[test]
fn list_and_show_tell_what_serves() {
    let scene = scene(&[APP, API], "");
    let list = edge(&scene.lab, &["certs", "list"]).ends(0);
    let lines: Vec<&str> = list.out.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{}", list.out);
    assert_eq!(lines.len(), 3, "{}", list.out);
    let app = lines.iter().find(|line| line.starts_with(APP)).unwrap();
    for part in ["valid", "acme", "in 23 hours", "renews in "] {
        assert!(app.contains(part), "{part}: {}", list.out);
    }
    let json = edge(&scene.lab, &["certs", "list", "-o", "json"]).ends(0);
    let all: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(all["role"], "owner");
    let serial = row(&scene.edge, APP)["serial"].as_str().unwrap().to_owned();
    let shown = edge(&scene.lab, &["certs", "show", "App.openclaw.example."]).ends(0);
    let shown = shown.says(&serial).says("0 failed in a row");
    let shown = shown.says("1 of 4 issued for these names in 7 days").says("renews at");
    shown.says("left: 0 of 1 certificates for these names in an hour").says("of 300 orders");
    let one = edge(&scene.lab, &["certs", "show", APP, "-o", "json"]).ends(0);
    assert_eq!(serde_json::from_str::<Value>(&one.out).unwrap()["serial"], serial.as_str());
    edge(&scene.lab, &["certs", "show", "other.openclaw.example"]).ends(1);
    // By the socket alone.
    let socket = scene.lab.path().join("admin.sock");
    let told =
        Told::of(command(&["certs", "show", APP, "--socket", socket.to_str().unwrap()])).ends(0);
    told.says(&serial);
}

#[test]
fn renew_waits_for_the_budget_unless_it_is_forced() {
    let scene = scene(&[APP], "");
    let serial = row(&scene.edge, APP)["serial"].clone();
    let told = edge(&scene.lab, &["certs", "renew", APP]).ends(1);
    told.complains("1 certificates for these names in an hour").complains("--force");
    assert_eq!(row(&scene.edge, APP)["serial"], serial);
    edge(&scene.lab, &["certs", "renew", APP, "--force"]).ends(0).says("renewed, serial ");
    assert_ne!(row(&scene.edge, APP)["serial"], serial);
    assert_eq!(scene.pebble.issued(), 2);
    edge(&scene.lab, &["certs", "renew", "other.openclaw.example"])
        .ends(1)
        .complains("other.openclaw.example");
}

#[test]
fn renew_within_the_budget_and_its_failure() {
    let mut scene = scene(&[APP], "limits: { certificates_per_hour: 100 }");
    edge(&scene.lab, &["certs", "renew", APP]).ends(0).says("renewed");
    let serial = row(&scene.edge, APP)["serial"].clone();
    scene.pebble.stop();
    let told = edge(&scene.lab, &["certs", "renew", APP]).ends(1);
    told.complains("what serves is unchanged");
    assert_eq!(row(&scene.edge, APP)["serial"], serial);
    edge(&scene.lab, &["certs", "list"]).ends(0).says("the last attempt failed");
    assert_eq!(row(&scene.edge, APP)["failures"], 1, "one attempt, then patience");
    edge(&scene.lab, &["certs", "show", APP])
        .ends(0)
        .says("last error")
        .says("unavailable")
        .says("1 failed in a row");
}

#[test]
fn a_revoked_certificate_is_replaced() {
    let scene = scene(&[APP], "");
    let serial = row(&scene.edge, APP)["serial"].clone();
    let told = edge(&scene.lab, &["certs", "revoke", APP, "--reason", "superseded"]).ends(0);
    told.says("revoked at https://").says("a new one");
    wait_until("another certificate", || row(&scene.edge, APP)["serial"] != serial);
    assert_eq!(scene.pebble.issued(), 2);
    edge(&scene.lab, &["certs", "revoke", APP, "--reason", "boredom"]).ends(2);
    edge(&scene.lab, &["certs", "revoke", "other.openclaw.example"]).ends(1);
}

#[test]
fn what_the_ca_says_is_shown_word_by_word() {
    let ca = MockCa::start();
    let detail = "NXDOMAIN looking up A for app.openclaw.example";
    ca.set(|knobs| {
        knobs.invalid.insert(APP.to_owned(), Problem::new(400, "dns", detail));
    });
    let lab = Lab::new();
    let conf = Conf::new(entries(&[APP])).acme(&ca.directory(), None, "");
    let running = Edge::start_in(&lab, &conf);
    wait_until("a failure", || !row(&running, APP)["last_error"].is_null());
    edge(&lab, &["certs", "list"]).ends(0).says("placeholder").says("dns: NXDOMAIN");
    let told = edge(&lab, &["certs", "show", APP]).ends(0);
    told.says(detail).says("urn:ietf:params:acme:error:dns").says("validation");
    assert_eq!(row(&running, APP)["last_error"]["detail"], detail);
}

#[test]
fn an_outcome_that_does_not_come_is_a_timeout() {
    let ca = MockCa::start();
    let lab = Lab::new();
    let keys = "limits: { certificates_per_hour: 100 }";
    let conf = Conf::new(entries(&[APP])).acme(&ca.directory(), None, keys);
    let running = Edge::start_in(&lab, &conf);
    wait_valid(&running, APP);
    ca.down(&Fault::Hang);
    edge(&lab, &["certs", "renew", APP, "--wait", "1"]).ends(5).complains("goes on");
    edge(&lab, &["certs", "list"]).ends(0).says("an order is under way");
}

#[test]
fn nobody_to_ask() {
    let lab = Lab::new();
    lab.write("edge.yaml", Conf::new(entries(&[APP])).render(lab.path()));
    for arguments in [&["certs", "list"][..], &["certs", "renew", APP], &["certs", "revoke", APP]] {
        let told = edge(&lab, arguments).ends(3);
        told.complains(lab.path().join("admin.sock").to_str().unwrap()).complains("--socket");
    }
    Told::of(command(&["certs", "list", "--config", "/nonexistent.yaml"])).ends(3);
    Told::of(command(&["certs", "list", "--nonsense"])).ends(2);
    Told::of(command(&["certs"])).ends(2);
    assert!(!lab.path().join("state").exists(), "asking makes nothing");
}

#[test]
fn import_through_the_process_needs_no_issuance() {
    let ca = MockCa::start();
    ca.down(&Fault::overloaded("3600"));
    let lab = Lab::new();
    let conf = Conf::new(entries(&[APP])).acme(&ca.directory(), None, "");
    let running = Edge::start_in(&lab, &conf);
    assert_eq!(row(&running, APP)["state"], "placeholder");
    let source = pair(&lab, "old", &[APP]);
    let source = source.to_str().unwrap();
    let told = edge(&lab, &["certs", "import", source, "--dry-run"]).ends(0);
    told.says("1 usable, 0 refused (pem)").says(APP);
    assert_eq!(row(&running, APP)["state"], "placeholder");
    edge(&lab, &["certs", "import", source, "--kind", "pem"]).ends(0).says("imported");
    let row = wait_valid(&running, APP);
    assert_eq!(row["issued_by"], "imported");
    assert!(ca.issued().is_empty());
    // What is damaged is told and costs the others nothing.
    fs::write(Path::new(source).join("x.crt"), "no certificate").unwrap();
    fs::write(Path::new(source).join("x.key"), "no key").unwrap();
    edge(&lab, &["certs", "import", source]).ends(1).says("refused").says("imported");
    edge(&lab, &["certs", "import", "/nonexistent"]).ends(1).complains("/nonexistent");
    edge(&lab, &["certs", "import", source, "--kind", "zip"]).ends(2);
}

#[test]
fn import_before_the_first_start() {
    let ca = MockCa::start();
    let lab = Lab::new();
    let conf = Conf::new(entries(&[APP])).acme(&ca.directory(), None, "");
    lab.write("edge.yaml", conf.render(lab.path()));
    let source = pair(&lab, "old", &[APP]);
    let source = source.to_str().unwrap();
    edge(&lab, &["certs", "import", source]).ends(0).says("stored in");
    let running = Edge::start_in(&lab, &conf);
    assert_eq!(wait_valid(&running, APP)["issued_by"], "imported");
    assert_eq!(ca.orders().len(), 0);

    // Held by a process that this configuration's socket does not lead to.
    let text = conf.render(lab.path()).replace("admin.sock", "other.sock");
    let other = lab.write("other.yaml", text);
    let told = Told::of(command(&["certs", "import", source, "--config", other.to_str().unwrap()]));
    told.ends(3).complains("another process holds");
}

#[test]
fn export_writes_what_is_stored() {
    let mut scene = scene(&[APP], "");
    scene.edge.kill();
    let out = scene.lab.path().join("out");
    let export =
        |name| edge(&scene.lab, &["certs", "export", name, "--out", out.to_str().unwrap()]);
    export(APP).ends(0).says("app.openclaw.example.crt").says("app.openclaw.example.key");
    let (chain, key) = (out.join(format!("{APP}.crt")), out.join(format!("{APP}.key")));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (chain, key) = (fs::read(chain).unwrap(), fs::read(key).unwrap());
    let pair = acme::Certificate::from_pem("it", &chain, &key).unwrap();
    assert_eq!(pair.names, [APP]);
    export("other.openclaw.example").ends(1).complains("has no certificate");

    let own = pair_files(&scene.lab);
    let text = fs::read_to_string(scene.lab.path().join("edge.yaml")).unwrap() + &own;
    scene.lab.write("edge.yaml", text);
    export("own").ends(1).complains("fullchain.pem");
}

/// A `certificates:` entry of two files.
fn pair_files(lab: &Lab) -> String {
    let dir = pair(lab, "own", &["own.openclaw.example"]);
    let dir = dir.display();
    format!("certificates: {{ own: {{ chain: {dir}/fullchain.pem, key: {dir}/privkey.pem }} }}\n")
}

#[test]
fn the_doctor_sees_what_the_ca_will_see() {
    let bad = "bad.openclaw.example";
    let mut scene = scene(&[APP], "");
    let (dns, http, https) = (
        scene.pebble.dns_server().to_string(),
        scene.ports.0.number().to_string(),
        scene.ports.1.number().to_string(),
    );
    let check = |hosts: &[&str]| {
        let ports = ["--dns", &dns, "--http-port", &http, "--https-port", &https];
        edge(&scene.lab, &[&["acme", "check"], hosts, &ports].concat())
    };
    check(&[]).ends(0).says("app.openclaw.example: will work: this process answers at 127.0.0.1");
    check(&["-v"])
        .ends(0)
        .says("clock agrees")
        .says("budget: the next order may be placed in")
        .says("CAA: no record");
    // An attempt that failed is told, though its cause is gone.
    scene.pebble.dns_servfail(APP);
    edge(&scene.lab, &["certs", "renew", APP, "--force"]).ends(1);
    scene.pebble.dns_clear(APP);
    let told = check(&[]).ends(0).says("will work").says("but the last attempt failed: ");
    told.says("the next one is in ");
    scene.pebble.dns_servfail(bad);
    let told = check(&[APP, bad]).ends(1).says("app.openclaw.example: will work");
    told.says("bad.openclaw.example: will fail: DNS").says("SERVFAIL");
    scene.pebble.dns_clear(bad);
    scene.pebble.dns_a(bad, &["127.0.0.2"]);
    check(&[bad]).ends(1).says("127.0.0.2").says("connection refused");
    let json = check(&["-o", "json", APP]).ends(0);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()[0]["verdict"], "works");
    // Nobody to ask, and then no CA either.
    scene.edge.kill();
    let told = check(&[APP]).ends(0).says("cannot be told from here");
    told.says("no process of this configuration is running");
    scene.pebble.stop();
    let told = check(&[APP, "other.openclaw.example"]).ends(1);
    for host in [APP, "other.openclaw.example"] {
        let part = format!("{host}: will fail: the CA cannot be asked: reading the CA's directory");
        assert!(told.out.contains(&part), "{}", told.out);
    }
    told.complains("other.openclaw.example: the configuration orders no certificate for it");
    let json = check(&["-o", "json", APP]).ends(1);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()[0]["verdict"], "fails");
}

#[test]
fn check_says_how_long_a_first_issuance_takes() {
    let lab = Lab::new();
    let hosts: Vec<String> = (0..60).map(|n| format!("h{n}.openclaw.example")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let conf = Conf::new(entries(&hosts)).acme("https://ca.openclaw.example/dir", None, "");
    lab.write("edge.yaml", conf.render(lab.path()));
    let told = edge(&lab, &["check"]).ends(0);
    told.says("60 to order from acme, the last one after 7 days");
    assert!(!lab.path().join("state").exists(), "a check changes nothing");
}

#[test]
fn what_changes_state_is_refused_over_tcp() {
    let running = Edge::start(&Conf::new(entries(&[APP])));
    for path in ["renew", "revoke", "import"] {
        let request = format!(
            "POST {PATH}/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
             Connection: close\r\n\r\n{{}}"
        );
        assert_eq!(admin_tcp(running.admin_addr(), &request).status, 403, "{path}");
    }
    // Of the internal issuer: it is listed, and nothing is ordered.
    wait_valid(&running, APP);
    let told = edge(&running.lab, &["certs", "renew", APP]).ends(1);
    told.complains("no ACME issuer is used");
    edge(&running.lab, &["certs", "list"]).ends(0).says("internal").says("by itself");
}

/// The whole answer to a POST over the admin socket.
fn post(running: &Edge, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(running.lab.path().join("admin.sock")).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // An answer may come before all of it was read.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn bodies_are_bounded_and_never_repeated() {
    let running = Edge::start(&Conf::new(entries(&[APP])));
    let import = format!("{PATH}/import");
    let secret = r#"{ "chain": "x", "key": 7, "hush": 1 }"#;
    let answer = post(&running, &import, secret);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("line 1"), "{answer}");
    assert!(!answer.contains("hush") && !answer.contains("chain"), "{answer}");
    let answer = post(&running, &import, &"x".repeat((1 << 20) + 1));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let probe = r#"{ "host": "app.openclaw.example", "token": "short" }"#;
    let answer = post(&running, "/api/v1/challenges/probe", probe);
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
}
