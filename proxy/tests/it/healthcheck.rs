//! `openclaw-edge healthcheck`: of a running process, and of a URL as its users ask.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::certs_cli::{Told, edge as cli};
use crate::harness::backend::{hanging, ok, refusing};
use crate::harness::edge::command;
use crate::harness::pki::Pki;
use crate::harness::{Backend, Conf, Edge, Lab, wait_until};

const HOST: &str = "app.openclaw.example";

fn ask(arguments: &[&str]) -> Told {
    Told::of(command(&[&["healthcheck"], arguments].concat()))
}

/// Answers 503 to so many requests, then 200.
fn ailing(failures: usize) -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::script(move |peer| {
        while peer.request().is_some() {
            if asked.fetch_add(1, Ordering::SeqCst) < failures {
                peer.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            } else {
                peer.send(ok("well"));
            }
        }
    })
}

// === the running process ===

#[test]
fn a_process_is_ready_until_it_drains() {
    let (backend, lab) = (Backend::silent(), Lab::new());
    let mut edge = Edge::start_in(&lab, &Conf::app(&[backend.addr]));
    cli(&lab, &["healthcheck"]).ends(0).says("ok: ready");
    let socket = lab.path().join("admin.sock");
    let socket = socket.to_str().unwrap();
    ask(&["--socket", socket, "--config", "/nonexistent"]).ends(0).says("ok: ready");
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    backend.wait_requests(1);
    edge.sigterm();
    wait_until("the drain", || edge.admin("/readyz").status == 503);
    cli(&lab, &["healthcheck"]).ends(1).says("failed: not ready: draining");
    edge.kill();
    cli(&lab, &["healthcheck"]).ends(3).says("no process answers");
}

#[test]
fn a_process_that_starts_late_is_waited_for() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let conf = Conf::app(&[backend.addr]);
    lab.write("edge.yaml", conf.render(lab.path()));
    let waiting = {
        let lab = lab.clone();
        let patient = ["healthcheck", "--attempts", "1000", "--interval", "20ms"];
        thread::spawn(move || cli(&lab, &patient))
    };
    let _edge = Edge::start_in(&lab, &conf);
    waiting.join().unwrap().ends(0).says("ok: ready");
}

#[test]
fn a_process_that_says_nothing_is_given_up() {
    let lab = Lab::new();
    let path = lab.path().join("admin.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let told = ask(&["--socket", path.to_str().unwrap(), "--timeout", "100ms"]);
    told.ends(5).says("has not answered within 0.1 s");
    assert!(start.elapsed() < Duration::from_secs(5));
}

// === a URL ===

#[test]
fn the_status_decides() {
    for (answered, expect, code) in [
        ("200 OK", None, 0),
        ("204 No Content", None, 0),
        ("308 Permanent Redirect", None, 0),
        ("308 Permanent Redirect", Some("200"), 1),
        ("404 Not Found", None, 1),
        ("404 Not Found", Some("404"), 0),
        ("500 No", Some("200..499"), 1),
        ("503 No", Some("500-599"), 0),
    ] {
        let location = "Location: http://192.0.2.1/";
        let backend = Backend::canned(format!(
            "HTTP/1.1 {answered}\r\n{location}\r\nContent-Length: 0\r\n\r\n"
        ));
        let url = format!("http://{}/health?token=hidden", backend.addr);
        let expect = expect.map(|range| vec!["--expect", range]).unwrap_or_default();
        let told = ask(&[&["--url", &*url], &*expect].concat()).ends(code);
        assert!(told.out.contains(&format!("/health: status {}", &answered[..3])), "{}", told.out);
        assert!(!told.out.contains("hidden") && !told.err.contains("hidden"));
        assert_eq!(backend.only().target(), "/health?token=hidden");
        assert_eq!(backend.only().field("host"), backend.addr.to_string());
    }
}

#[test]
fn an_answer_that_is_none_is_a_negative_result() {
    let backend = Backend::once("SSH-2.0-x\r\n");
    ask(&[&format!("http://{}/", backend.addr)]).ends(1).says("no proper answer");
}

#[test]
fn who_is_not_there_is_told_from_who_is_late() {
    ask(&[&format!("http://{}/", refusing())]).ends(3).says("refused");
    ask(&["http://nobody.invalid/"]).ends(3).says("nobody.invalid");
    let (address, _held) = hanging();
    ask(&[&format!("http://{address}/"), "--timeout", "100ms"]).ends(5).says("within 0.1 s");
    let backend = Backend::silent();
    ask(&[&format!("http://{}/", backend.addr), "--timeout", "100ms"]).ends(5);
}

/// The platform's gate: three attempts, so far apart.
#[test]
fn attempts_go_on_until_one_is_good() {
    let patient = ["--attempts", "3", "--interval", "150ms"];
    let backend = ailing(2);
    let url = format!("http://{}/", backend.addr);
    let start = Instant::now();
    let told = ask(&[&[&*url], &patient[..]].concat()).ends(0).says("status 200");
    told.complains("attempt 1 of 3").complains("attempt 2 of 3");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(backend.requests().len(), 3);

    let backend = ailing(3);
    let url = format!("http://{}/", backend.addr);
    ask(&[&[&*url], &patient[..]].concat()).ends(1).says("failed: ").says("status 503");
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn https_is_asked_by_name_at_another_address() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let edge = Edge::start_in(&lab, &Conf::app(&[backend.addr]));
    let url = format!("https://{HOST}:{}/in", edge.https.port());
    let here = format!("{HOST}:127.0.0.1");
    let ca = edge.ca();
    let ca = ca.to_str().unwrap();
    // SNI, Host and the certificate's name are those of the URL: the edge would refuse others.
    ask(&[&url, "--resolve", &here, "--ca", ca]).ends(0).says("status 200");
    let as_curl = format!("{HOST}:{}:127.0.0.1", edge.https.port());
    ask(&[&url, "--resolve", &as_curl, "--insecure"]).ends(0).says("status 200");
    assert_eq!(edge.wait_log("path", "/in")["host"], format!("{HOST}:{}", edge.https.port()));

    let other = Pki::new(&lab, "other");
    let other = other.ca.to_str().unwrap();
    ask(&[&url, "--resolve", &here, "--ca", other]).ends(1).says("TLS: ");
    ask(&[&url, "--resolve", &here, "--ca", "/nonexistent"]).ends(1).complains("/nonexistent");
    // A name that the certificate does not have.
    let by_address = format!("https://{}/", edge.https);
    ask(&[&by_address, "--ca", ca]).ends(1).says("TLS: ");
}

#[test]
fn mistakes_are_usage_errors() {
    let url = "https://app.openclaw.example/";
    for wrong in [
        &["healthz"][..],
        &["ftp://app.openclaw.example/"],
        &["https://user:word@app.openclaw.example/"],
        &[url, "--url", url],
        &[url, "--expect", "2xx"],
        &[url, "--attempts", "0"],
        &[url, "--timeout", "0s"],
        &[url, "--interval", "5"],
        &[url, "--resolve", "api.openclaw.example:127.0.0.1"],
        &[url, "--resolve", "app.openclaw.example:80:127.0.0.1"],
        &[url, "--insecure", "--ca", "/ca.pem"],
        &["--expect", "200"],
        &["--insecure"],
    ] {
        ask(wrong).ends(2);
    }
}
