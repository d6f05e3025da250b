//! Password tables that change, that stay, and that cannot be read.

use super::*;
use crate::harness::Lab;
use crate::harness::edge::replace;

/// Uses up what a client may guess, so that only what is remembered lets it in.
fn exhaust(client: &mut Client, address: &str) {
    for n in 0..10 {
        let guess = line("ann", &format!("{address} {n}"));
        let lines = format!("{}{guess}", from(address));
        ask(client, "GET", "/", &lines).assert_cause(401, "auth_required");
    }
}

#[test]
fn ten_wrong_guesses_a_minute() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{ANN}\\n{BOB}\"")));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    let (guesser, other) = (from("192.0.2.1"), from("192.0.2.2"));
    ask(&mut h1, "GET", "/", &format!("{other}{}", line("ann", "right"))).assert_ok("ok");
    exhaust(&mut h1, "192.0.2.1");
    let lines = format!("{guesser}{}", line("ann", "guess 11"));
    let response = ask(&mut h1, "GET", "/", &lines);
    response.assert_cause(429, "rate_limited (passwords)");
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(response.header("www-authenticate").is_none());
    ask_h2(&h2, "GET", "/", &lines).assert_cause(429, "rate_limited (passwords)");
    // Whether it would have been right is not told either.
    let lines = format!("{guesser}{}", line("bob", "right"));
    ask(&mut h1, "GET", "/", &lines).assert_cause(429, "rate_limited (passwords)");
    // What was told before is told again: the guess, and the customer behind the same address.
    let lines = format!("{guesser}{}", line("ann", "192.0.2.1 3"));
    ask(&mut h1, "GET", "/", &lines).assert_cause(401, "auth_required");
    ask(&mut h1, "GET", "/", &guesser).assert_cause(401, "auth_required");
    ask(&mut h1, "GET", "/", &format!("{guesser}{}", line("ann", "right"))).assert_ok("ok");
    // Neighbours are other clients.
    let lines = format!("{other}{}", line("ann", "guess 11"));
    ask(&mut h1, "GET", "/", &lines).assert_cause(401, "auth_required");
    // An IPv6 client is its /64.
    exhaust(&mut h1, "2001:db8::1");
    let lines = |ip: &str| format!("{}{}", from(ip), line("ann", &format!("from {ip}")));
    ask(&mut h1, "GET", "/", &lines("2001:db8::ffff:1")).assert_cause(429, "rate_limited");
    ask(&mut h1, "GET", "/", &lines("2001:db8:0:1::1")).assert_cause(401, "auth_required");
    assert_eq!(edge.metric("edge_auth_decisions_total{result=\"limited\"}"), 4.0);
}

#[test]
fn a_changed_table_takes_no_former_password() {
    let lab = Lab::new();
    let backend = Backend::ok();
    let file = lab.write("htpasswd", ANN);
    let access = format!("basic_auth: \"${{file:{}}}\"", file.display());
    let edge = Edge::start_in(&lab, &conf(&backend, &access));
    let mut both = Both::to(&edge);
    let (right, other) = (line("ann", "right"), line("ann", "other"));
    both.assert("/", &right, 200, "");
    both.assert("/", &other, 401, "auth_required");
    // On connections that were open before, too.
    edge.expect_reload(|| replace(&file, ANN_OTHER));
    both.assert("/", &right, 401, "auth_required");
    both.assert("/", &other, 200, "");
    edge.expect_reload(|| replace(&file, BOB));
    both.assert("/", &right, 401, "auth_required");
    both.assert("/", &other, 401, "auth_required");
    both.assert("/", &line("bob", "right"), 200, "");
}

#[test]
fn an_unchanged_line_is_still_known_after_a_reload() {
    let backend = Backend::ok();
    let table = |users: &str| conf(&backend, &format!("basic_auth: \"{users}\""));
    let edge = Edge::start(&table(ANN));
    let mut client = edge.client();
    let guesser = from("192.0.2.1");
    let right = format!("{guesser}{}", line("ann", "right"));
    ask(&mut client, "GET", "/", &right).assert_ok("ok");
    exhaust(&mut client, "192.0.2.1");
    // The client may not guess: what lets it in now is known already.
    for users in [
        ANN.to_owned(),
        format!("{BOB}\\n{ANN}"),
        format!("{ANN}\\n{BOB}\\neve:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ="),
    ] {
        edge.reload(&table(&users).global("log: { access: text }"));
        ask(&mut client, "GET", "/", &right).assert_ok("ok");
        let rename = table(&users);
        edge.reload(&rename);
        ask(&mut client, "GET", "/", &right).assert_ok("ok");
    }
    // Another line for the same password is another question: `htpasswd -2` of `right`.
    let salted = "ann:$2y$05$LmHRV/SebSConZfkIrenXOTDqtvxGXssjv2GGoNlFGifgykH4ELLO";
    edge.reload(&table(salted));
    ask(&mut client, "GET", "/", &right).assert_cause(429, "rate_limited (passwords)");
}

#[test]
fn a_table_that_cannot_be_read_is_no_open_door() {
    let lab = Lab::new();
    let backend = Backend::ok();
    let file = lab.path().join("htpasswd");
    let access = format!("basic_auth: \"${{file:{}}}\", except: [/open]", file.display());
    let edge = Edge::start_in(&lab, &conf(&backend, &access));
    let mut both = Both::to(&edge);
    for target in ["/", "/open"] {
        both.assert(target, "", 503, "quarantined");
        both.assert(target, &line("ann", "right"), 503, "quarantined");
    }
    edge.expect_reload(|| replace(&file, ANN));
    both.assert("/", "", 401, "auth_required");
    both.assert("/", &line("ann", "right"), 200, "");
    // Later what was read serves on: gone, empty, junk.
    for text in [None, Some(""), Some("ann:hunter7"), Some("ann:$1$md5$hash")] {
        let change = || match text {
            Some(text) => replace(&file, text),
            None => std::fs::remove_file(&file).unwrap(),
        };
        let outcome = edge.expect_reload(change);
        assert_eq!(outcome["quarantined"][0]["former_serves"], true, "{outcome}");
        assert!(!outcome.to_string().contains("hunter7"), "{outcome}");
        both.assert("/", "", 401, "auth_required");
        both.assert("/", &line("ann", "hunter7"), 401, "auth_required");
        both.assert("/", &line("ann", "right"), 200, "");
        edge.expect_reload(|| replace(&file, ANN));
    }
}

/// The state directory knows the route as it was accepted, without its secret.
#[test]
fn a_restart_without_the_table_is_no_open_door() {
    let lab = Lab::new();
    let backend = Backend::ok();
    let file = lab.write("htpasswd", ANN);
    let access = format!("basic_auth: \"${{file:{}}}\"", file.display());
    let conf = conf(&backend, &access);
    let mut edge = Edge::start_in(&lab, &conf);
    Both::to(&edge).assert("/", &line("ann", "right"), 200, "");
    edge.sigterm();
    edge.wait_exit();
    std::fs::remove_file(&file).unwrap();
    let edge = Edge::start_in(&lab, &conf);
    let mut both = Both::to(&edge);
    both.assert("/", "", 503, "quarantined");
    both.assert("/", &line("ann", "right"), 503, "quarantined");
    assert_eq!(backend.requests().len(), 2);
}
