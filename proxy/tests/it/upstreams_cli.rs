//! `upstreams`, `drain`, `undrain`, `shift` and `unshift` with a running process: what they change
//! in traffic, what they leave alone, what they refuse.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;

use crate::certs_cli::edge as cli;
use crate::harness::backend::ok;
use crate::harness::edge::admin_tcp;
use crate::harness::{Backend, Conf, Edge, Lab, wait_until};

const HOST: &str = "app.openclaw.example";

/// Answers with its name; `/slow` only once told so.
fn gated(name: &str) -> (Backend, Sender<()>) {
    let (open, gate) = channel::<()>();
    let (answer, gate) = (ok(name), Mutex::new(gate));
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/slow" {
                let _ = gate.lock().unwrap().recv();
            }
            peer.send(&answer);
        }
    });
    (backend, open)
}

/// Which backends answer this many requests.
fn answers(edge: &Edge, count: usize) -> Vec<String> {
    let mut client = edge.client();
    (0..count).map(|_| client.get(HOST, "/").text()).collect()
}

fn upstream(edge: &Edge, name: &str) -> Value {
    let all = edge.admin("/api/v1/upstreams").json();
    let found = all["upstreams"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no {name} in {all:#}"))
}

fn endpoint(edge: &Edge, address: SocketAddr) -> Value {
    let all = upstream(edge, "app");
    let address = address.to_string();
    let found = all["endpoints"].as_array().unwrap().iter().find(|one| one["address"] == address);
    found.cloned().unwrap_or_else(|| panic!("no {address} in {all:#}"))
}

fn asked_slowly(backend: &Backend) -> bool {
    backend.requests().iter().any(|request| request.target() == "/slow")
}

#[test]
fn a_drained_endpoint_ends_its_requests_and_gets_no_others() {
    let ((one, open_one), (two, open_two)) = (gated("one"), gated("two"));
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &Conf::app(&[one.addr, two.addr]));
    let mut slow = edge.client();
    slow.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    wait_until("the request at a backend", || asked_slowly(&one) || asked_slowly(&two));
    let (held, name, other, open) = match asked_slowly(&one) {
        true => (&one, "one", "two", open_one),
        false => (&two, "two", "one", open_two),
    };
    let address = held.addr.to_string();
    let told = cli(&lab, &["drain", "app", &address]).ends(0);
    told.says(&format!("app: {address} is drained; requests under way: 1"));
    // Nothing new, whatever the client does.
    assert_eq!(answers(&edge, 20), vec![other; 20]);
    let shown = endpoint(&edge, held.addr);
    assert_eq!((&shown["state"], &shown["requests"]), (&"drained".into(), &1.into()));
    assert_eq!(shown["why"], "taken out by the operator");
    edge.wait_stderr("is drained by the admin socket, requests under way: 1");
    let told = cli(&lab, &["drain", "app", &address, "--wait", "300ms"]).ends(5);
    told.complains("requests are still under way: 1");
    let told = std::thread::scope(|scope| {
        let waits = || cli(&lab, &["drain", "app", &address, "--wait", "60s"]);
        let waits = scope.spawn(waits);
        open.send(()).unwrap();
        slow.response().assert_ok(name);
        waits.join().unwrap()
    });
    told.ends(0).says("no request is under way");
    // Back, and once more.
    cli(&lab, &["undrain", "app", &address]).ends(0).says("gets requests again");
    wait_until("requests at the endpoint again", || answers(&edge, 4).iter().any(|n| n == name));
    assert_eq!(endpoint(&edge, held.addr)["state"], "unchecked");
    cli(&lab, &["undrain", "app", &address]).ends(0).says("was not drained");
}

#[test]
fn a_drain_outlasts_reloads_of_whatever_kind() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let lab = Lab::new();
    let both = [one.addr, two.addr];
    let edge = Edge::start_in(&lab, &Conf::app(&both));
    cli(&lab, &["drain", "app", &one.addr.to_string()]).ends(0);
    // Other connections from now on, as another transport has.
    edge.reload(&Conf::app_with(&both, "tls: {}, proxy_protocol: v1", ""));
    assert_eq!(endpoint(&edge, one.addr)["state"], "drained");
    edge.reload(&Conf::app(&[two.addr]));
    assert_eq!(upstream(&edge, "app")["drained_absent"][0], one.addr.to_string());
    edge.reload(&Conf::app(&both));
    assert_eq!(endpoint(&edge, one.addr)["state"], "drained");
    assert_eq!(answers(&edge, 6), ["two"; 6]);
    cli(&lab, &["undrain", "app", &one.addr.to_string()]).ends(0);
    wait_until("both again", || answers(&edge, 4).iter().any(|name| name == "one"));
}

#[test]
fn the_last_endpoint_is_drained_by_force_only() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let lab = Lab::new();
    let edge =
        Edge::start_in(&lab, &Conf::app_with(&[one.addr, two.addr], "queue: { size: 0 }", ""));
    let (one, two) = (one.addr.to_string(), two.addr.to_string());
    cli(&lab, &["drain", "app", &one]).ends(0);
    let told = cli(&lab, &["drain", "app", &two]).ends(1);
    told.complains(&format!("{two} is the last endpoint of upstream app that can be used"));
    assert_eq!(answers(&edge, 2), ["two"; 2]);
    cli(&lab, &["upstreams"]).ends(0).says("drained").says("taken out by the operator");
    cli(&lab, &["drain", "app", &two, "--force"]).ends(0);
    edge.client().get(HOST, "/").assert_cause(503, "no_endpoint");
    cli(&lab, &["upstreams", "app"]).ends(1).complains("no usable endpoint: app");
    cli(&lab, &["undrain", "app", &two]).ends(0);
    wait_until("an answer", || answers(&edge, 1) == ["two"]);
}

#[test]
fn upstreams_are_listed_with_state_and_reason() {
    let backend = Backend::named("one");
    let lab = Lab::new();
    let gone = crate::harness::backend::refusing();
    let conf = Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [{{ address: \"{}\", weight: 3 }}, \"{gone}\"], \
         health: {{ type: tcp, interval: 100ms, fall: 1 }} }}\n  \
         named: {{ endpoints: [\"nowhere.invalid:80\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n",
        backend.addr
    ));
    let edge = Edge::start_in(&lab, &conf);
    wait_until("verdicts", || {
        endpoint(&edge, backend.addr)["state"] == "healthy"
            && endpoint(&edge, gone)["state"] == "unhealthy"
    });
    assert_eq!(answers(&edge, 3), ["one"; 3]);
    let shown = upstream(&edge, "app");
    assert_eq!((&shown["usable"], &shown["panic"]), (&1.into(), &false.into()));
    assert_eq!((&shown["health"], &shown["balance"]), (&"tcp".into(), &"round_robin".into()));
    let told = cli(&lab, &["upstreams", "app"]).ends(0);
    let line = |address: SocketAddr| -> Vec<String> {
        let found = told.out.lines().find(|line| line.contains(&address.to_string()));
        let cells = found.unwrap().split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    let (good, bad) = (line(backend.addr), line(gone));
    assert_eq!(good[2..6], ["healthy", "health checks pass", "3", "0"], "{}", told.out);
    assert!(good[7].ends_with(" ms"), "{}", told.out);
    assert!(bad[2] == "unhealthy" && bad[3].starts_with("health checks fail: "), "{}", told.out);
    assert!(told.out.starts_with("UPSTREAM  ENDPOINT"), "{}", told.out);
    // The name never resolves: that is told, and is a negative result.
    wait_until("an answer about the name", || {
        upstream(&edge, "named")["unresolved"][0]["why"].is_string()
    });
    let all = cli(&lab, &["upstreams"]).ends(1).complains("no usable endpoint: named");
    all.says("nowhere.invalid:80").says("unresolved");
    let json = cli(&lab, &["upstreams", "app", "-o", "json"]).ends(0);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["upstreams"].as_array().unwrap().len(), 1);
    assert_eq!(value["upstreams"][0]["endpoints"][0]["weight"], 3);
    cli(&lab, &["upstreams", "other"]).ends(1).complains("there are: app, named");
}

/// A route over two upstreams with these weights.
fn split(one: &Backend, two: &Backend, weights: (u16, u16), more: &str) -> Conf {
    Conf::new(format!(
        "upstreams:\n  one: {{ endpoints: [\"{}\"] }}\n  two: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], split: {{ one: {}, two: {} }} }}\n{more}",
        one.addr, two.addr, weights.0, weights.1
    ))
}

const OTHER: &str = "  other: { hosts: [other.openclaw.example], upstream: one }\n";

/// How many of a hundred requests the upstream `two` gets.
fn share_of_two(edge: &Edge) -> usize {
    answers(edge, 100).iter().filter(|name| *name == "two").count()
}

fn route(edge: &Edge) -> Value {
    let all = edge.admin("/api/v1/routes").json();
    let found = all["routes"].as_array().unwrap().iter().find(|route| route["name"] == "app");
    found.cloned().unwrap()
}

#[test]
fn a_shift_moves_traffic_lasts_over_reloads_and_ends() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &split(&one, &two, (100, 0), ""));
    assert_eq!(share_of_two(&edge), 0);
    assert_eq!(route(&edge)["shift"], Value::Null);
    let told = cli(&lab, &["shift", "app", "two=30", "--for", "30m"]).ends(0);
    told.says("app: one 70, two 30 until ").says("configured: one 100, two 0");
    assert!((28..=32).contains(&share_of_two(&edge)));
    let weight = |upstream: &str| {
        edge.metric(&format!("edge_upstream_split_weight{{route=\"app\",upstream=\"{upstream}\"}}"))
    };
    assert_eq!((weight("one"), weight("two")), (0.7, 0.3));
    let shown = route(&edge);
    assert_eq!(shown["split"]["two"], 0);
    assert_eq!(shown["shift"]["weights"]["two"], 30);
    assert!(shown["shift"]["until"].is_string());
    assert_eq!(edge.config()["shifts"][0]["route"], "app");
    edge.wait_stderr("route app: shifted to one 70, two 30 by the admin socket, for 1800 s");
    // Something else changes: it stays.
    edge.reload(&split(&one, &two, (100, 0), OTHER));
    assert_eq!(route(&edge)["shift"], shown["shift"]);
    assert!((28..=32).contains(&share_of_two(&edge)));
    cli(&lab, &["unshift", "app"]).ends(0).says("app: one 100, two 0 again");
    assert_eq!((share_of_two(&edge), weight("two")), (0, 0.0));
    edge.wait_stderr("its shift is ended by the admin socket");
    cli(&lab, &["unshift", "app"]).ends(1).complains("route app is not shifted");
    // By itself.
    let generation = edge.metric("edge_config_generation");
    cli(&lab, &["shift", "app", "two=100", "--for", "2s"]).ends(0);
    assert_eq!(share_of_two(&edge), 100);
    wait_until("the end of the shift", || route(&edge)["shift"].is_null());
    assert_eq!(share_of_two(&edge), 0);
    assert_eq!(edge.metric("edge_config_generation"), generation + 2.0);
    assert_eq!(edge.config()["generation"], generation + 2.0);
    edge.wait_stderr("route app: its shift has run out");
}

#[test]
fn a_shift_ends_with_the_split_that_it_is_for() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &split(&one, &two, (100, 0), ""));
    cli(&lab, &["shift", "app", "two=100", "--for", "forever"])
        .ends(0)
        .says("until the split changes");
    assert_eq!(route(&edge)["shift"]["until"], Value::Null);
    edge.reload(&split(&one, &two, (100, 0), OTHER));
    assert_eq!(share_of_two(&edge), 100);
    edge.reload(&split(&one, &two, (90, 10), OTHER));
    assert_eq!(route(&edge)["shift"], Value::Null);
    assert!((8..=12).contains(&share_of_two(&edge)));
    edge.wait_stderr("route app: its shift ends (the split has changed)");
    // One with an end keeps what was asked for while the upstreams are the same.
    cli(&lab, &["shift", "app", "two=50"]).ends(0).says("one 50, two 50 until 2");
    edge.reload(&split(&one, &two, (80, 20), OTHER));
    assert!((48..=52).contains(&share_of_two(&edge)));
    edge.reload(&Conf::new(format!(
        "upstreams:\n  one: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: one }}\n",
        one.addr
    )));
    edge.wait_stderr("route app: its shift ends (the route has no split any more)");
    assert_eq!(share_of_two(&edge), 0);
}

#[test]
fn what_is_not_there_or_cannot_be_is_refused() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &split(&one, &two, (95, 5), OTHER));
    let address = one.addr.to_string();
    for (arguments, why) in [
        (&["drain", "web", &address][..], "there is no upstream \"web\"; there are: one, two"),
        (&["drain", "one", "192.0.2.1:80"], "upstream one has no endpoint \"192.0.2.1:80\""),
        (&["undrain", "one", "nonsense"], "it has: 127.0.0.1:"),
        (&["drain", "one", &address], "is the last endpoint of upstream one"),
        (&["shift", "web", "two=1"], "there is no route \"web\"; routes with a split: app"),
        (&["shift", "other", "two=1"], "route other has no split"),
        (&["shift", "app", "three=1"], "three is no part of the split, which has one, two"),
        (&["shift", "app", "two=101"], "add up to 101, those of the split to 100"),
        (&["shift", "app", "one=0", "two=0"], "all weights are 0"),
        (&["shift", "app", "two=1", "two=2"], "two is named twice"),
        (&["unshift", "other"], "route other has no split"),
    ] {
        cli(&lab, arguments).ends(1).complains(why);
    }
    for arguments in [
        &["shift", "app"][..],
        &["shift", "app", "two"],
        &["shift", "app", "two=1", "--for", "8d"],
        &["drain", "one"],
        &["drain", "one", &address, "--wait", "5"],
    ] {
        cli(&lab, arguments).ends(2);
    }
    assert_eq!(route(&edge)["shift"], Value::Null);
    assert!((3..=7).contains(&share_of_two(&edge)));
}

#[test]
fn only_the_socket_changes_anything() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let edge = Edge::start(&split(&one, &two, (95, 5), ""));
    let weights = r#"{"weights":{"two":50}}"#;
    let drain = format!("/api/v1/upstreams/one/drain?endpoint={}&force=true", one.addr);
    for (path, body) in [
        (&*drain, "{}"),
        ("/api/v1/upstreams/one/undrain?endpoint=x", "{}"),
        ("/api/v1/routes/app/shift", weights),
        ("/api/v1/routes/app/unshift", "{}"),
    ] {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        assert_eq!(admin_tcp(edge.admin_addr(), &request).status, 403, "{path}");
    }
    assert_eq!(upstream(&edge, "one")["endpoints"][0]["state"], "unchecked");
    assert_eq!(route(&edge)["shift"], Value::Null);
    let get = "GET /api/v1/upstreams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(admin_tcp(edge.admin_addr(), get).status, 200);
    for (path, body, status) in [
        ("/api/v1/upstreams/one/drain", "{}", 400),
        ("/api/v1/upstreams/one/drain?endpoint=%zz", "{}", 400),
        ("/api/v1/upstreams/one/drain?endpoint=x&forse=true", "{}", 400),
        ("/api/v1/upstreams/one/drain?endpoint=x", "{}", 404),
        ("/api/v1/routes/app/shift", "{}", 400),
        ("/api/v1/routes/app/shift", r#"{"weights":{"two":50},"for":"8d"}"#, 400),
        ("/api/v1/routes/app/shift", r#"{"weights":{"two":-1}}"#, 400),
        ("/api/v1/routes/app/shift", r#"{"weights":{"two":500}}"#, 409),
        ("/api/v1/routes/web/shift", weights, 404),
        ("/api/v1/routes/app/shift", weights, 200),
    ] {
        let answer = edge.act(path, body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
    }
    assert_eq!(route(&edge)["shift"]["weights"]["one"], 50);
}
