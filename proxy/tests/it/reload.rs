//! The configuration changes while traffic flows, in every way in which files change.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::backend::ok;
use crate::harness::edge::replace;
use crate::harness::{Backend, Client, Conf, Edge, Lab, wait_until, ws};

fn fixed(routes: &[(&str, &str)]) -> Conf {
    let mut text = "routes:\n".to_owned();
    for (name, body) in routes {
        let respond = format!("respond: {{ status: 200, body: {body} }}");
        text.push_str(&format!("  {name}: {{ hosts: [{name}.openclaw.example], {respond} }}\n"));
    }
    Conf::new(text)
}

/// What a host answers now, on a new connection.
fn body(edge: &Edge, host: &str) -> String {
    edge.client().get(host, "/").text()
}

fn status(edge: &Edge, host: &str) -> u16 {
    edge.client().get(host, "/").status
}

#[test]
fn routes_are_added_changed_and_removed() {
    let edge = Edge::start(&fixed(&[("keep", "keep"), ("change", "old"), ("remove", "here")]));
    let mut open = edge.client();
    open.get("change.openclaw.example", "/").assert_ok("old");
    let before = edge.config()["generation"].as_u64().unwrap();
    let outcome = edge.reload(&fixed(&[("keep", "keep"), ("change", "new"), ("add", "added")]));
    assert_eq!(outcome["outcome"], "applied", "{outcome}");
    assert!(outcome["generation"].as_u64().unwrap() > before);
    // Also for connections that were open before.
    open.get("change.openclaw.example", "/").assert_ok("new");
    open.get("keep.openclaw.example", "/").assert_ok("keep");
    open.get("add.openclaw.example", "/").assert_ok("added");
    open.get("remove.openclaw.example", "/").assert_cause(404, "unknown_host");
    let routes = edge.admin("/api/v1/routes").body;
    assert!(
        routes.contains("add.openclaw.example") && !routes.contains("remove.openclaw.example"),
        "{routes}"
    );
}

#[test]
fn a_broken_file_changes_nothing_and_is_told() {
    let edge = Edge::start(&fixed(&[("a", "one")]));
    let good = fixed(&[("a", "two")]).render(edge.lab.path());
    for broken in [
        good.replace("routes:", "routes"),
        good.replace("version: 1", "version: 7"),
        format!("{good}nonsense: true\n"),
        good.replace("tls: {", "tls: { min_version: \"9\", "),
        String::new(),
        "\0\0\0".to_owned(),
    ] {
        let outcome = edge.reload_text(&broken);
        assert_eq!(outcome["outcome"], "rejected", "{outcome}");
        assert!(!outcome["errors"].as_array().unwrap().is_empty(), "{outcome}");
        assert_eq!(body(&edge, "a.openclaw.example"), "one");
    }
    assert_eq!(edge.reload_text(&good)["outcome"], "applied");
    assert_eq!(body(&edge, "a.openclaw.example"), "two");
}

#[test]
fn a_half_written_file_is_not_applied_by_half() {
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &fixed(&[("a", "one"), ("b", "one")]));
    let text = fixed(&[("a", "two"), ("b", "two")]).render(lab.path());
    // Cut in the middle of the last entry, then completed in place.
    edge.expect_reload(|| std::fs::write(edge.config_path(), &text[..text.len() - 20]).unwrap());
    assert_eq!(
        body(&edge, "b.openclaw.example"),
        "one",
        "the broken entry keeps its former version"
    );
    edge.expect_reload(|| std::fs::write(edge.config_path(), &text).unwrap());
    wait_until("the complete file", || body(&edge, "b.openclaw.example") == "two");
    assert_eq!(body(&edge, "a.openclaw.example"), "two");
}

#[test]
fn a_deleted_file_changes_nothing() {
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &fixed(&[("a", "one")]));
    std::fs::remove_file(edge.config_path()).unwrap();
    edge.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(body(&edge, "a.openclaw.example"), "one");
    edge.expect_reload(|| replace(&edge.config_path(), &fixed(&[("a", "two")]).render(lab.path())));
    wait_until("the new file", || body(&edge, "a.openclaw.example") == "two");
}

/// One step of the kubelet: a new directory, and `..data` renamed over the old link.
fn swap(dir: &Path, version: &str, text: &str) {
    let data = dir.join(version);
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("edge.yaml"), text).unwrap();
    symlink(version, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn config_map_symlink_swaps() {
    let lab = Lab::new();
    let dir = lab.path().join("config-map");
    let text = |body: &str| fixed(&[("a", body)]).render(lab.path());
    swap(&dir, "..v1", &text("one"));
    symlink("..data/edge.yaml", dir.join("edge.yaml")).unwrap();
    let edge = Edge::start_file(&lab, &dir.join("edge.yaml"));
    assert_eq!(body(&edge, "a.openclaw.example"), "one");
    for (version, former, text_body) in [("..v2", "..v1", "two"), ("..v3", "..v2", "three")] {
        swap(&dir, version, &text(text_body));
        std::fs::remove_dir_all(dir.join(former)).unwrap();
        wait_until("the swapped file", || body(&edge, "a.openclaw.example") == text_body);
    }
}

/// 500 routes; number `changed` has this entry.
fn many(changed: usize, entry: &str) -> Conf {
    let mut text = "routes:\n".to_owned();
    for n in 0..500 {
        let respond = format!("respond: {{ status: 200, body: n{n} }}");
        let own = if n == changed { entry } else { &respond };
        text.push_str(&format!("  r{n}: {{ hosts: [r{n}.openclaw.example], {own} }}\n"));
    }
    Conf::new(text)
}

#[test]
fn one_bad_entry_among_500_keeps_its_former_version() {
    let edge = Edge::start(&many(250, "respond: { status: 200, body: former }"));
    let next = many(250, "respond: { status: 200, boddy: new }");
    let text = next.render(edge.lab.path()).replace("body: n499 ", "body: changed ");
    let line = text.lines().position(|line| line.contains("boddy")).unwrap() + 1;
    let outcome = edge.reload_text(&text);
    assert_eq!(outcome["outcome"], "partial", "{outcome}");
    let quarantined = outcome["quarantined"].as_array().unwrap();
    assert_eq!(quarantined.len(), 1, "{outcome}");
    assert_eq!(
        (&quarantined[0]["kind"], &quarantined[0]["name"]),
        (&"route".into(), &"r250".into())
    );
    assert_eq!(quarantined[0]["line"].as_u64(), Some(line as u64), "{outcome}");
    let reasons = quarantined[0]["reasons"].to_string();
    assert!(reasons.contains("boddy") && reasons.contains("body"), "{reasons}");
    assert_eq!(quarantined[0]["former_serves"], true);
    assert_eq!(body(&edge, "r250.openclaw.example"), "former");
    assert_eq!(body(&edge, "r499.openclaw.example"), "changed");
    assert_eq!(body(&edge, "r0.openclaw.example"), "n0");
}

#[test]
fn a_new_bad_entry_is_503_and_only_there() {
    let edge = Edge::start(&fixed(&[("a", "one")]));
    let text = fixed(&[("a", "two"), ("bad", "x")]).render(edge.lab.path());
    let text = text.replace("status: 200, body: x", "status: 2, body: x");
    assert_eq!(edge.reload_text(&text)["outcome"], "partial");
    edge.client().get("bad.openclaw.example", "/").assert_cause(503, "quarantined");
    assert_eq!(body(&edge, "a.openclaw.example"), "two");
    assert_eq!(edge.reload(&fixed(&[("a", "two"), ("bad", "good")]))["outcome"], "applied");
    assert_eq!(body(&edge, "bad.openclaw.example"), "good");
}

#[test]
fn a_route_to_a_missing_upstream_keeps_its_former_one() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let edge = Edge::start(&Conf::app(&[a.addr]));
    let conf = |upstream: &str, addr: SocketAddr| {
        Conf::new(format!(
            "upstreams:\n  app: {{ endpoints: [\"{addr}\"] }}\n\
             routes:\n  app: {{ hosts: [app.openclaw.example], upstream: {upstream} }}\n"
        ))
    };
    assert_eq!(edge.reload(&conf("nowhere", a.addr))["outcome"], "partial");
    assert_eq!(body(&edge, "app.openclaw.example"), "a");
    assert_eq!(edge.reload(&conf("app", b.addr))["outcome"], "applied");
    assert_eq!(body(&edge, "app.openclaw.example"), "b");
}

#[test]
fn a_changed_bind_address_is_refused_by_name() {
    let edge = Edge::start(&fixed(&[("a", "one")]));
    let outcome = edge.reload(&fixed(&[("a", "two")]).bind("127.0.0.2:0", "127.0.0.1:0"));
    assert_eq!(outcome["outcome"], "rejected", "{outcome}");
    let errors = outcome["errors"].to_string();
    assert!(errors.contains("http") && errors.contains("restart"), "{errors}");
    assert_eq!(body(&edge, "a.openclaw.example"), "one");
}

#[test]
fn limits_and_tls_of_a_listener_change_live() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]);
    let edge = Edge::start(&conf);
    let long = format!("/{}", "a".repeat(400));
    let mut open = edge.client();
    open.get("app.openclaw.example", &long).assert_ok("ok");
    let next = conf.both("limits: { target_bytes: 300B }").tls("min_version: \"1.3\"");
    assert_eq!(edge.reload(&next)["outcome"], "applied");
    edge.client().get("app.openclaw.example", &long).assert_cause(414, "target_too_long");
    open.get("app.openclaw.example", "/").assert_ok("ok");
    let mut client = edge.tls_client("app.openclaw.example");
    client.get("app.openclaw.example", "/").assert_ok("ok");
    assert_eq!(client.tls().protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn sighup_reads_again_what_the_file_refers_to() {
    let lab = Lab::new();
    let secret = lab.write("secret", "one");
    let backend = Backend::ok();
    let value = format!("\"${{file:{}}}\"", secret.display());
    let rule = format!("headers: {{ request: {{ set: {{ X-Key: {value} }} }} }}");
    let edge = Edge::start_in(&lab, &Conf::app_with(&[backend.addr], "", &rule));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    assert_eq!(backend.requests()[0].field("x-key"), "one");
    lab.write("secret", "two");
    edge.signal("HUP");
    wait_until("the new secret", || {
        edge.client().get("app.openclaw.example", "/").assert_ok("ok");
        backend.requests().pop().unwrap().field("x-key") == "two"
    });
    let told = format!("{}{}", edge.config(), edge.admin("/api/v1/routes").body);
    assert!(!told.contains("two"), "a secret is told: {told}");
}

#[test]
fn pooled_connections_outlive_a_reload() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    edge.reload(&Conf::app_with(&[backend.addr], "", "body_limit: 1MiB"));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn streams_of_a_removed_route_end_after_a_grace_time_and_others_stay() {
    let backend = Backend::script(ws::serve_echo);
    let conf = |routes: &[&str]| {
        let mut text =
            format!("upstreams:\n  app: {{ endpoints: [\"{}\"] }}\nroutes:\n", backend.addr);
        for name in routes {
            text.push_str(&format!(
                "  {name}: {{ hosts: [{name}.openclaw.example], upstream: app }}\n"
            ));
        }
        Conf::new(text).global("drain: { removed_route_grace: 500ms }")
    };
    let edge = Edge::start(&conf(&["stays", "goes"]));
    let mut stays = edge.client();
    ws::open(&mut stays, "stays.openclaw.example", "/");
    let mut goes = edge.client();
    ws::open(&mut goes, "goes.openclaw.example", "/");
    edge.reload(&conf(&["stays"]));
    goes.ws_echo("still within the grace time");
    goes.assert_closed();
    stays.ws_echo("untouched");
}

/// Hammers one host on kept connections until told to stop; counts failures.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(connect: impl Fn() -> Client + Send + Clone + 'static, host: &'static str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let run = |_| {
            let (stop, sent, connect) = (stop.clone(), sent.clone(), connect.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                let mut client = connect();
                while !stop.load(Ordering::Relaxed) {
                    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                    match client.response_to("GET") {
                        Ok(r) if r.status == 200 && r.body.cut.is_none() => {}
                        other => failures.push(format!("{other:?}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    if !failures.is_empty() {
                        break;
                    }
                }
                failures
            })
        };
        let threads = (0..3).map(run).collect();
        Load { stop, sent, threads }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            assert_eq!(thread.join().unwrap(), Vec::<String>::new());
        }
        assert!(self.sent.load(Ordering::Relaxed) > 20);
    }
}

#[test]
fn nobody_notices_thirty_reloads() {
    let (plain, echo) = (Backend::ok(), Backend::script(ws::serve_echo));
    let conf = |n: usize| {
        let broken = if n % 3 == 1 { "nonsense: 1, " } else { "" };
        Conf::new(format!(
            "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n  ws: {{ endpoints: [\"{}\"] }}\n\
             routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n\
             \x20 ws: {{ hosts: [ws.openclaw.example], upstream: ws }}\n\
             \x20 extra{}: {{ hosts: [extra.openclaw.example], {broken}respond: {{ status: 200, body: b{n} }} }}\n",
            plain.addr, echo.addr, n % 5
        ))
        .workers(2)
    };
    let edge = Edge::start(&conf(0));
    let mut sockets: Vec<Client> = (0..10).map(|_| edge.client()).collect();
    for socket in &mut sockets {
        ws::open(socket, "ws.openclaw.example", "/");
    }
    let (http, tls) = (edge.http, edge.tls());
    let loads = [
        Load::start(move || Client::plain(http), "app.openclaw.example"),
        Load::start(move || tls.connect("app.openclaw.example"), "app.openclaw.example"),
    ];
    for n in 1..=30 {
        edge.reload(&conf(n));
        for socket in &mut sockets {
            socket.ws_echo(&n.to_string());
        }
    }
    for load in loads {
        load.finish();
    }
    assert_eq!(echo.connections(), 10, "no socket was opened anew");
}

#[test]
fn a_boot_with_a_broken_file_serves_what_was_good_last() {
    let lab = Lab::new();
    let conf = fixed(&[("a", "one")]);
    let mut edge = Edge::start_in(&lab, &conf);
    assert_eq!(body(&edge, "a.openclaw.example"), "one");
    edge.sigterm();
    assert!(edge.wait_exit().success());
    drop(edge);
    lab.write("edge.yaml", format!("{}garbage: [\n", conf.render(lab.path())));
    let edge = Edge::start_file(&lab, &lab.path().join("edge.yaml"));
    assert_eq!(body(&edge, "a.openclaw.example"), "one");
    let config = edge.config();
    assert_eq!(config["source"], "last_good", "{config}");
    assert!(!config["errors"].as_array().unwrap().is_empty(), "{config}");
    edge.reload(&fixed(&[("a", "two")]));
    assert_eq!(body(&edge, "a.openclaw.example"), "two");
}

#[test]
fn a_boot_with_one_broken_entry_serves_its_former_version() {
    let lab = Lab::new();
    let mut edge = Edge::start_in(&lab, &fixed(&[("a", "former"), ("b", "one")]));
    edge.kill();
    drop(edge);
    let text = fixed(&[("a", "new"), ("b", "two")]).render(lab.path());
    lab.write("edge.yaml", text.replace("status: 200, body: new", "status: 200, boddy: new"));
    let edge = Edge::start_file(&lab, &lab.path().join("edge.yaml"));
    assert_eq!(
        (body(&edge, "a.openclaw.example"), body(&edge, "b.openclaw.example")),
        ("former".into(), "two".into())
    );
}

#[test]
fn a_first_boot_with_a_broken_file_fails_with_the_reason() {
    let lab = Lab::new();
    // Its own state: a machine that already ran an edge has a last good file in the default place.
    let state = lab.path().join("state");
    let text = format!("version: 1\nstate_dir: {}\nroutess: {{}}\n", state.display());
    let path = lab.write("edge.yaml", text);
    let mut edge = Edge::spawn(&lab, &path, &[]);
    assert_eq!(edge.wait_exit().code(), Some(1));
    edge.wait_stderr("routess");
    edge.wait_stderr("routes");
}

#[test]
fn kill_at_any_time_and_start_again() {
    let lab = Lab::new();
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]);
    for n in 0..5u64 {
        let mut edge = Edge::start_in(&lab, &conf);
        edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/").assert_ok("ok");
        let route = format!("body_limit: {}MiB", n + 1);
        replace(
            &edge.config_path(),
            &Conf::app_with(&[backend.addr], "", &route).render(lab.path()),
        );
        std::thread::sleep(Duration::from_millis(40 * n));
        edge.kill();
    }
    // Also without a file that can be used: what was accepted last.
    lab.write("edge.yaml", format!("{}garbage: [\n", conf.render(lab.path())));
    let edge = Edge::start_file(&lab, &lab.path().join("edge.yaml"));
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn a_running_request_finishes_on_the_route_it_started_on() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Backend::script(move |peer| {
        let _ = peer.request();
        let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(5));
        peer.send(ok("late"));
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(1);
    edge.reload(&fixed(&[("other", "x")]));
    assert_eq!(status(&edge, "app.openclaw.example"), 404);
    release.send(()).unwrap();
    client.response().assert_ok("late");
}
